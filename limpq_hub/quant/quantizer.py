"""Learned step size quantization: the fused fake quantization and `LsqQuantizer`."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

STEP_FLOOR = 1e-5


def quantization_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Return the lowest and highest integer of `bits`: two's complement if signed, from 0 otherwise."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def quantize_to_integers(x: Tensor, step: Tensor, bits: int, *, signed: bool) -> Tensor:
    """Return the integers of the grid that `x` falls on, in the dtype of `x`, without gradients.

    Args:
        x: values of any shape.
        step: spacing of the grid in the units of `x`, shape [], > 0.
    """
    low, high = quantization_range(bits, signed=signed)
    return x.detach().div(step.detach()).clamp_(low, high).round_()


def fake_quantize(
    x: Tensor,
    step: Tensor,
    bits: int,
    *,
    signed: bool,
    gradient_scale: float = 1.0,
    arithmetic: type[Function] | None = None,
) -> Tensor:
    """Return `x` rounded (half to even) to a grid of `2**bits` multiples of `step`, with LSQ gradients.

    Half precision values are quantized in float32 and returned in their own precision. A value exactly on an edge of
    the grid counts as inside it.

    Args:
        x: values of any shape.
        step: spacing of the grid in the units of `x`, shape [], > 0; learned.
        bits: 2..8.
        signed: grid -2^(b-1) .. 2^(b-1)-1 if True, 0 .. 2^b-1 if False.
        gradient_scale: factor on the gradient of `step`.
        arithmetic: autograd function of (x, step, low, high, gradient_scale); `FakeQuantize` if None.

    Source: Esser et al., "Learned Step Size Quantization", ICLR 2020.
    """
    if torch.is_grad_enabled() and (x.requires_grad or step.requires_grad):
        low, high = quantization_range(bits, signed=signed)
        return (arithmetic or FakeQuantize).apply(x, step, low, high, gradient_scale)
    wide, wide_step = widened(x), widened(step.detach())
    return quantize_to_integers(wide, wide_step, bits, signed=signed).mul_(wide_step).to(x.dtype)


def widened(x: Tensor) -> Tensor:
    """Return half precision values in float32, others as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@cache
def _just_outside(low: int, high: int, dtype: torch.dtype) -> tuple[float, float]:
    """Return the numbers next to the edges of a grid: hardtanh has no gradient on its edges, LSQ has."""
    edges = torch.tensor([low, high], dtype=dtype)
    below, above = torch.nextafter(edges, torch.tensor([-torch.inf, torch.inf], dtype=dtype)).tolist()
    # Next to zero is a denormal number, which some devices flush to zero.
    return below if low else -torch.finfo(dtype).tiny, above


class FakeQuantize(Function):
    """Saves `x`, the step and the result, which the layer behind keeps anyway; not a result in half precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int, gradient_scale: float) -> Tensor:
        """Return `x` on the grid `low * step .. high * step`."""
        wide_step = widened(step)
        quantized = widened(x).div(wide_step).clamp_(low, high).round_().mul_(wide_step)
        ctx.save_for_backward(x, step, quantized if quantized.dtype == x.dtype else None)
        ctx.low, ctx.high, ctx.gradient_scale = low, high, gradient_scale
        return quantized.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `x` and of the step."""
        x, step, quantized = ctx.saved_tensors
        wide, wide_step, gradient = widened(x), widened(step), widened(gradient)
        scaled = wide.div(wide_step)
        below, above = _just_outside(ctx.low, ctx.high, scaled.dtype)
        x_gradient = torch.ops.aten.hardtanh_backward(gradient, scaled, below, above)
        step_gradient = None
        if ctx.needs_input_grad[1]:
            if quantized is None:
                quantized = scaled.clamp(ctx.low, ctx.high).round_().mul_(wide_step)
            # d(result)/d(step) times the step: the rounding error inside the grid, the result itself outside.
            inside = torch.ops.aten.hardtanh_backward.grad_input(wide, scaled, below, above, grad_input=scaled)
            error = torch.sub(quantized, inside, out=inside)
            step_gradient = (error.mul_(gradient).sum() * (ctx.gradient_scale / wide_step)).to(step.dtype)
        return x_gradient.to(x.dtype), step_gradient, None, None, None


class _PositiveStep(torch.autograd.Function):
    """max(step, floor), with the gradient passed on so that a step at the floor can grow again."""

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
        arithmetic: the autograd function that quantizes while gradients are wanted.
    """

    def __init__(self, candidates: tuple[int, ...], *, signed: bool, per_sample: bool) -> None:
        super().__init__()
        self.candidates = candidates
        self.signed = signed
        self.per_sample = per_sample
        self.bits: int | None = candidates[0]
        self.initializing = False
        self.arithmetic: type[Function] = FakeQuantize
        self.step = nn.Parameter(torch.ones(len(candidates)))

    def step_of(self, bits: int) -> Tensor:
        """Return the positive step size at `bits`, shape [], differentiable."""
        return _PositiveStep.apply(self.step[self.candidates.index(bits)])

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` on the grid of the active bit-width, in the shape of `x`."""
        if self.bits is None:
            return x
        if self.initializing:
            self.set_step_(self.bits, self.initial_step(x, self.bits))
        high = quantization_range(self.bits, signed=self.signed)[1]
        elements = prod(x.shape[1:]) if self.per_sample else x.numel()
        scale = (high * elements) ** -0.5
        return fake_quantize(
            x,
            self.step_of(self.bits),
            self.bits,
            signed=self.signed,
            gradient_scale=scale,
            arithmetic=self.arithmetic,
        )

    @torch.no_grad()
    def set_step_(self, bits: int, step: Tensor | float) -> None:
        """Set the step size at `bits`."""
        self.step[self.candidates.index(bits)] = step

    @torch.no_grad()
    def initial_step(self, x: Tensor, bits: int) -> Tensor:
        """Return a step size to start from, shape [], > 0 also where `x` is zero everywhere.

        Source: for weights the published LIMPQ rule, max |mean -+ 3 std| / 2^(b-1); for activations LSQ's
        2 mean|x| / sqrt(Qp).
        """
        if self.per_sample:
            high = quantization_range(bits, signed=self.signed)[1]
            step = 2 * x.float().abs().mean() / high**0.5
        else:
            mean, spread = x.mean(), 3 * x.std(correction=0)
            step = torch.maximum((mean - spread).abs(), (mean + spread).abs()) / 2 ** (bits - 1)
        return step.clamp_min(STEP_FLOOR)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows of the quantizer."""
        return f"bits={self.bits}, candidates={self.candidates}, signed={self.signed}"
