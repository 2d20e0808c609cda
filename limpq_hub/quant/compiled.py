"""The quantizer's arithmetic as two compiled loops, one forward and one backward, where a compiler works."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from limpq_hub.quant.fake_quantization import upcast_half
from limpq_hub.quant.quantizer import LsqQuantizer


def use_compiled_quantizer_(model: nn.Module) -> str | None:
    """Let every quantizer of `model` run compiled; where no compiler works, leave the model as it is.

    Returns:
        Why nothing could be compiled, or None.
    """
    device = next(model.parameters()).device
    x = torch.ones(64, device=device, requires_grad=True)
    step = torch.ones((), device=device, requires_grad=True)
    try:
        CompiledFakeQuantize.apply(x, step, 0, 3, 1.0).sum().backward()
    except (RuntimeError, OSError, ImportError) as error:
        return " ".join(str(error).split())[:120] or type(error).__name__
    for module in model.modules():
        if isinstance(module, LsqQuantizer):
            module.arithmetic = CompiledFakeQuantize
    return None


class CompiledFakeQuantize(Function):
    """`FakeQuantize` with each direction in one pass over memory; saves `x` and the step only.

    Each loop is compiled once for all shapes: it sees flat tensors, and the edges of the grid as tensors.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int, gradient_scale: float) -> Tensor:
        """Return `x` on the grid `low * step .. high * step`."""
        ctx.save_for_backward(x, step)
        ctx.edges = _edges(low, high, x.device, upcast_half(x).dtype)
        ctx.gradient_scale = gradient_scale
        forward, _ = _compiled_loops()
        return _unflattened(forward(_flattened(x), step, *ctx.edges), x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `x` and of the step."""
        x, step = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=_memory_format(x))
        _, backward = _compiled_loops()
        x_gradient, step_gradient = backward(_flattened(gradient), _flattened(x), step, *ctx.edges)
        return _unflattened(x_gradient, x), (step_gradient * ctx.gradient_scale).to(step.dtype), None, None, None


def _forward(x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
    wide_step = upcast_half(step)
    return (upcast_half(x) / wide_step).clamp(low, high).round().mul(wide_step).to(x.dtype)


def _backward(gradient: Tensor, x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    wide = upcast_half(gradient)
    scaled = upcast_half(x) / upcast_half(step)
    clamped = scaled.clamp(low, high)
    inside = scaled == clamped
    error = clamped.round() - torch.where(inside, scaled, 0.0)
    return torch.where(inside, wide, 0.0).to(x.dtype), (error * wide).sum()


@cache
def _compiled_loops() -> tuple[Any, Any]:
    # Not `fullgraph`: where the compiler gives up on a further shape the loop then runs as it is, instead of failing.
    return torch.compile(_forward, dynamic=True), torch.compile(_backward, dynamic=True)


@cache
def _edges(low: int, high: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.tensor(low, device=device, dtype=dtype), torch.tensor(high, device=device, dtype=dtype)


def _memory_format(x: Tensor) -> torch.memory_format:
    pixels_first = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if pixels_first and not x.is_contiguous() else torch.contiguous_format


def _flattened(x: Tensor) -> Tensor:
    """Return the values in the order of memory, [values], as a tensor that is no view.

    The compiler would look at what a view is of, and compile anew for every shape.
    """
    x = x.detach()
    if _memory_format(x) is torch.channels_last:
        x = x.permute(0, 2, 3, 1)
    return torch.ops.aten._unsafe_view(x.contiguous(), [-1])


def _unflattened(flat: Tensor, like: Tensor) -> Tensor:
    if _memory_format(like) is torch.channels_last:
        batch, channels, height, width = like.shape
        return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return flat.view(like.shape)
