"""The arithmetic of learned step size quantization: grids, rounding to them, and LSQ's gradients."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function

# The integers low..high of a b-bit grid contain zero, at `zero_point` steps above the lowest: 0 of an unsigned grid,
# 2^(b-1) of a signed one, and any number between them, chosen per quantizer and bit-width, of one with an offset.
Grid: TypeAlias = Literal["unsigned", "signed", "offset"]


def quantization_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Return the lowest and highest integer of `bits` (2..8): two's complement if signed, from 0 otherwise."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def quantize_to_integers(x: Tensor, step: Tensor, low: int, high: int, *, channel_dim: int = 0) -> Tensor:
    """Return the integers low..high that `x` falls on, in the dtype of `x`, without gradients.

    Args:
        x: values of any shape.
        step: spacing of the grid in the units of `x`, > 0: shape [], or [channels] with one for each channel of `x`.
        low, high: lowest and highest integer of the grid; low <= 0 < high.
        channel_dim: the dimension of `x` that the channels are; of no consequence to a single step.
    """
    return x.detach().div(spread_over(x, step.detach(), channel_dim)).clamp_(low, high).round_()


def fake_quantize(
    x: Tensor, step: Tensor, low: int, high: int, *, gradient_scale: float = 1.0, channel_dim: int = 0
) -> Tensor:
    """Return `x` rounded (half to even) to the multiples low..high of `step`, with LSQ gradients.

    Half precision values are quantized in float32 and returned in their own precision. A value exactly on an edge of
    the grid counts as inside it. The gradient of a channel's step is summed over that channel alone.

    A grid with an offset is for values bounded below, of which a signed grid would waste half. LSQ+ learns an offset in
    the units of `x`; here it is a whole number of steps, so that zero stays zero, and is not learned.

    Args:
        x: values of any shape.
        step: spacing of the grid in the units of `x`, > 0: shape [], or [channels] with one for each channel of `x`;
            learned.
        low, high: lowest and highest integer of the grid; low <= 0 < high.
        gradient_scale: factor on the gradient of `step`.
        channel_dim: the dimension of `x` that the channels are; of no consequence to a single step.

    Source: Esser et al., "Learned Step Size Quantization", ICLR 2020; Bhalgat et al., "LSQ+", 2020, for the offset.
    """
    step = spread_over(x, step, channel_dim)
    if torch.is_grad_enabled() and (x.requires_grad or step.requires_grad):
        return FakeQuantize.apply(x, step, low, high, gradient_scale)
    values, step = upcast_half(x), upcast_half(step.detach())
    return quantize_to_integers(values, step, low, high).mul_(step).to(x.dtype)


def spread_over(x: Tensor, step: Tensor, channel_dim: int) -> Tensor:
    """Return steps [channels] in a shape that broadcasts along dimension `channel_dim` of `x`; others as they are."""
    if step.dim() != 1:
        return step
    return step.reshape([-1 if dim == channel_dim else 1 for dim in range(x.dim())])


def upcast_half(x: Tensor) -> Tensor:
    """Return float16 and bfloat16 values in float32, others as they are; any shape."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@cache
def _just_outside(low: int, high: int, dtype: torch.dtype) -> tuple[float, float]:
    """Return the floating-point numbers next below `low` and next above `high`.

    hardtanh passes no gradient on its own edges, LSQ does: with these for edges, `hardtanh_backward` is LSQ's gradient.
    """
    edges = torch.tensor([low, high], dtype=dtype)
    below, above = torch.nextafter(edges, torch.tensor([-torch.inf, torch.inf], dtype=dtype)).tolist()
    # The number next to zero is subnormal, and some devices flush those to zero: the smallest normal one instead.
    return below if low else -torch.finfo(dtype).tiny, above


class FakeQuantize(Function):
    """LSQ with as few tensors saved for the backward pass as can be.

    Saved are `x`, the step and the result. The result costs no memory: the convolution that takes it saves it too. In
    half precision that is the downcast one, from which the error cannot be computed: it is quantized again instead.

    Source: Esser et al., "Learned Step Size Quantization", ICLR 2020.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int, gradient_scale: float) -> Tensor:
        """Return `x` on the grid `low * step .. high * step`; the step broadcasts with `x`."""
        step_size = upcast_half(step)
        quantized = upcast_half(x).div(step_size).clamp_(low, high).round_().mul_(step_size)
        ctx.save_for_backward(x, step, quantized if quantized.dtype == x.dtype else None)
        ctx.low, ctx.high, ctx.gradient_scale = low, high, gradient_scale
        return quantized.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `x` and of the step."""
        x, step, quantized = ctx.saved_tensors
        values, step_size, gradient = upcast_half(x), upcast_half(step), upcast_half(gradient)
        scaled = values.div(step_size)
        below, above = _just_outside(ctx.low, ctx.high, scaled.dtype)
        x_gradient = torch.ops.aten.hardtanh_backward(gradient, scaled, below, above)
        step_gradient = None
        if ctx.needs_input_grad[1]:
            if quantized is None:
                quantized = scaled.clamp(ctx.low, ctx.high).round_().mul_(step_size)
            # d(result)/d(step) times the step is result - x inside the grid and the result itself outside of it.
            # hardtanh's gradient leaves x inside and 0 outside, written over `scaled` to take no more memory.
            inside = torch.ops.aten.hardtanh_backward.grad_input(values, scaled, below, above, grad_input=scaled)
            error = torch.sub(quantized, inside, out=inside)
            step_gradient = error.mul_(gradient).sum_to_size(step.shape) * (ctx.gradient_scale / step_size)
            step_gradient = step_gradient.to(step.dtype)
        return x_gradient.to(x.dtype), step_gradient, None, None, None
