"""`LsqQuantizer`: fake quantization as a module that holds the learned step sizes."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from limpq_hub.quant.fake_quantization import Grid, fake_quantize

STEP_FLOOR = 1e-5


class _PositiveStep(Function):
    """max(step, 1e-5), with the gradient passed on unchanged, so that a step below the floor can grow again."""

    @staticmethod
    def forward(ctx: Any, step: Tensor) -> Tensor:
        return step.clamp_min(STEP_FLOOR)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class LsqQuantizer(nn.Module):
    """Fake quantization with a learned step size per candidate bit-width, or one per bit-width and channel.

    Every step is used and exported as `max(raw value, 1e-5)`, in joint training and in fine-tuning alike.

    Args:
        candidates: bit-widths, each in 2..8.
        grid: "unsigned" for values of at least 0, "signed", or "offset" for a grid whose zero point is set per
            bit-width, anywhere between these two.
        per_sample: whether activations are quantized; the gradient scale then counts one sample only, so that the
            effective step learning rate does not depend on the batch size.
        channels: how many channels have a step of their own; None for one step.
        channel_dim: which dimension of the values these channels are.

    Attributes:
        step: raw step sizes in the order of `candidates`, shape [len(candidates)] or [len(candidates), channels].
        zero_point: of an offset grid only, int32 [len(candidates)], each in 0..2^(b-1): the integers of the grid are
            -zero_point .. 2^b - 1 - zero_point. Not learned; starts as that of a signed grid.
        bits: the active bit-width, or None to pass values through in float.
        elements_per_sample: how many values of one sample are quantized where the first dimension is not the batch
            alone, as of windows [batch * windows, tokens, channels]; None where it is.
    """

    zero_point: Tensor
    elements_per_sample: int | None = None

    def __init__(
        self,
        candidates: tuple[int, ...],
        *,
        grid: Grid,
        per_sample: bool,
        channels: int | None = None,
        channel_dim: int = 0,
    ) -> None:
        super().__init__()
        self.candidates = candidates
        self.grid = grid
        self.per_sample = per_sample
        self.channels = channels
        self.channel_dim = channel_dim
        self.bits: int | None = candidates[0]
        self.step = nn.Parameter(torch.ones(len(candidates) if channels is None else (len(candidates), channels)))
        self._zero_points_read: tuple[Tensor, int, tuple[int, ...]] | None = None
        if grid == "offset":
            self.register_buffer(
                "zero_point", torch.tensor([2 ** (bits - 1) for bits in candidates], dtype=torch.int32)
            )

    @property
    def signed(self) -> bool:
        """Whether the grid can have negative values."""
        return self.grid != "unsigned"

    def step_of(self, bits: int) -> Tensor:
        """Return the step size at `bits`, shape [] or [channels], at least 1e-5, differentiable.

        Raises:
            ValueError: `bits` is no candidate.
        """
        step = self.step[self.candidates.index(bits)]
        if torch.is_grad_enabled() and step.requires_grad:
            return _PositiveStep.apply(step)
        # An operation of torch's, which torch.vmap and saved traces know.
        return step.clamp_min(STEP_FLOOR)

    def zero_point_of(self, bits: int) -> int:
        """Return how many integers of the grid at `bits` lie below zero, 0..2^(b-1).

        Raises:
            ValueError: the grid has an offset, and `bits` is no candidate.
        """
        if self.grid == "offset":
            return self._zero_points()[self.candidates.index(bits)]
        return 2 ** (bits - 1) if self.grid == "signed" else 0

    def range_of(self, bits: int) -> tuple[int, int]:
        """Return the lowest and the highest integer of the grid at `bits`.

        Raises:
            ValueError: the grid has an offset, and `bits` is no candidate.
        """
        zero_point = self.zero_point_of(bits)
        return -zero_point, 2**bits - 1 - zero_point

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` on the grid of the active bit-width, in the shape of `x`."""
        if self.bits is None:
            return x
        low, high = self.range_of(self.bits)
        elements = x.numel() // (self.channels or 1)
        if self.per_sample:
            elements = prod(x.shape[1:]) if self.elements_per_sample is None else self.elements_per_sample
        scale = (high * max(1, elements)) ** -0.5  # there may be no tokens
        return fake_quantize(x, self.step_of(self.bits), low, high, gradient_scale=scale, channel_dim=self.channel_dim)

    @torch.no_grad()
    def set_step_(self, bits: int, step: Tensor | float) -> None:
        """Set the raw step size at `bits`, in the units of the values that are quantized.

        Args:
            step: shape [] or a number, or [channels] with one per channel; below 1e-5 it is used as 1e-5.

        Raises:
            ValueError: `bits` is no candidate.
        """
        self.step[self.candidates.index(bits)] = step

    def set_zero_point_(self, bits: int, zero_point: int) -> None:
        """Set the zero point of an offset grid at `bits`, 0..2^(b-1).

        Raises:
            ValueError: `bits` is no candidate, or the zero point is out of range.
        """
        if not 0 <= zero_point <= 2 ** (bits - 1):
            raise ValueError(f"the zero point of {bits} bits lies in 0..{2 ** (bits - 1)}, not at {zero_point}")
        self.zero_point[self.candidates.index(bits)] = zero_point

    def keep_only_(self, bits: int) -> None:
        """Make `bits` the only candidate; its raw step becomes the effective one, at least 1e-5.

        Raises:
            ValueError: `bits` is no candidate.
        """
        index = self.candidates.index(bits)
        step = self.step_of(bits).detach().clone().unsqueeze(0)
        if self.grid == "offset":
            self.zero_point = self.zero_point[index : index + 1].clone()
        self.step = nn.Parameter(step, requires_grad=self.step.requires_grad)
        self.candidates = (bits,)

    @torch.no_grad()
    def initial_step(self, x: Tensor, bits: int) -> Tensor:
        """Return a step size to start from, in the units of `x`; at least 1e-5, also where `x` is all zeros.

        Args:
            x: a weight, or the activations of one batch, of any shape.
            bits: 2..8.

        Returns:
            Shape [], or [channels].

        Source: for weights the published LIMPQ rule, max |mean -+ 3 std| / 2^(b-1); for activations LSQ's
            2 mean|x| / sqrt(Qp).
        """
        values = self.by_step(x).float()
        if self.per_sample:
            step = 2 * values.abs().mean(1) / self.range_of(bits)[1] ** 0.5
        else:
            mean, three_std = values.mean(1), 3 * values.std(1, correction=0)
            step = torch.maximum((mean - three_std).abs(), (mean + three_std).abs()) / 2 ** (bits - 1)
        return step.clamp_min(STEP_FLOOR).reshape(self.step.shape[1:])

    def by_step(self, x: Tensor) -> Tensor:
        """Return the values that share a step as one row each: [1, values] or [channels, values per channel]."""
        return x.reshape(1, -1) if self.channels is None else x.movedim(self.channel_dim, 0).flatten(1)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows of the quantizer."""
        channels = "" if self.channels is None else f", channels={self.channels}"
        return f"bits={self.bits}, candidates={self.candidates}, grid={self.grid}{channels}"

    def _zero_points(self) -> tuple[int, ...]:
        """Return the zero points as numbers; read from the device only after they were written to or moved."""
        buffer = self.zero_point
        if buffer.is_inference():
            return tuple(buffer.tolist())
        # An offset grid on a GPU would otherwise make the CPU wait for it at every call.
        last = self._zero_points_read
        if last is None or last[0] is not buffer or last[1] != buffer._version:
            last = self._zero_points_read = (buffer, buffer._version, tuple(buffer.tolist()))
        return last[2]

    def __getstate__(self) -> dict[str, Any]:
        # A copied buffer counts its writes from zero again, so that a copy must read for itself.
        return self.__dict__ | {"_zero_points_read": None}
