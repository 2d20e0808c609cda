"""`LsqQuantizer`: fake quantization as a module that holds the learned step sizes."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from limpq_hub.quant.fake_quantization import fake_quantize, quantization_range

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
    """Fake quantization with one learned step size per candidate bit-width.

    Every step is used and exported as `max(raw value, 1e-5)`, in joint training and in fine-tuning alike.

    Args:
        candidates: bit-widths, each in 2..8.
        signed: whether the grid has negative values.
        per_sample: whether the first dimension is a batch; the gradient scale then counts one sample only, so
            that the effective step learning rate does not depend on the batch size.

    Attributes:
        step: raw step sizes, shape [len(candidates)], in the order of `candidates`.
        bits: the active bit-width, or None to pass values through in float.
    """

    def __init__(self, candidates: tuple[int, ...], *, signed: bool, per_sample: bool) -> None:
        super().__init__()
        self.candidates = candidates
        self.signed = signed
        self.per_sample = per_sample
        self.bits: int | None = candidates[0]
        self.step = nn.Parameter(torch.ones(len(candidates)))

    def step_of(self, bits: int) -> Tensor:
        """Return the step size at `bits`, shape [], at least 1e-5, differentiable.

        Raises:
            ValueError: `bits` is no candidate.
        """
        return _PositiveStep.apply(self.step[self.candidates.index(bits)])

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` on the grid of the active bit-width, in the shape of `x`."""
        if self.bits is None:
            return x
        high = quantization_range(self.bits, signed=self.signed)[1]
        elements = prod(x.shape[1:]) if self.per_sample else x.numel()
        scale = (high * elements) ** -0.5
        return fake_quantize(
            x,
            self.step_of(self.bits),
            self.bits,
            signed=self.signed,
            gradient_scale=scale,
        )

    @torch.no_grad()
    def set_step_(self, bits: int, step: Tensor | float) -> None:
        """Set the raw step size at `bits`, in the units of the values that are quantized.

        Args:
            step: shape [] or a number; below 1e-5 it is used as 1e-5.

        Raises:
            ValueError: `bits` is no candidate.
        """
        self.step[self.candidates.index(bits)] = step

    @torch.no_grad()
    def initial_step(self, x: Tensor, bits: int) -> Tensor:
        """Return a step size to start from, shape [], in the units of `x`; at least 1e-5, also where `x` is all zeros.

        Args:
            x: a weight, or the activations of one batch, of any shape.
            bits: 2..8.

        Source: for weights the published LIMPQ rule, max |mean -+ 3 std| / 2^(b-1); for activations LSQ's
            2 mean|x| / sqrt(Qp).
        """
        if self.per_sample:
            high = quantization_range(bits, signed=self.signed)[1]
            step = 2 * x.float().abs().mean() / high**0.5
        else:
            mean, three_std = x.mean(), 3 * x.std(correction=0)
            step = torch.maximum((mean - three_std).abs(), (mean + three_std).abs()) / 2 ** (bits - 1)
        return step.clamp_min(STEP_FLOOR)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows of the quantizer."""
        return f"bits={self.bits}, candidates={self.candidates}, signed={self.signed}"
