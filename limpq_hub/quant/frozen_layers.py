"""Quantized layers as `load` gives them, for speed: what never changes is computed once, batch normalizations included.

The input of a layer is brought to the integers of its grid, without their step. The step, the one of the weight, and
the batch normalization behind a convolution are in the weight and the bias that multiply them: the same network, but
for the rounding of floating point, so that a value on the edge between two integers may fall to the other one.

Wherever that would show, everything is computed as in training: in train mode, where gradients are wanted, under hooks
on the layer or its normalization, in float, and after a change of anything that it was computed from, which is then
computed again. Parameters and state dict stay as they are. A convolution that is called alone, `model.conv1(x)`, gives
what is normalized already: for that, and for the very bits of training, there is `thaw_(model)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional

from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.fake_quantization import quantize_to_integers, spread_over, upcast_half
from limpq_hub.quant.layers import QuantConv2d, QuantLayer, QuantLinear
from limpq_hub.quant.norm_pairs import normalized_convolutions


@dataclass(frozen=True)
class FrozenValues:
    """What a layer multiplies by, and what tells whether it is still up to date.

    Attributes:
        bits: of weight and input.
        stamp: address and count of in-place writes of each tensor that all was computed from; -1 where they are not
            counted, empty once the layer was moved.
        sources: these tensors, held so that no other one can be given their memory.
        step: of the input, shape [].
        low, high: lowest and highest integer of the input.
        weight: on its grid, times the steps of input and weight and the factors of the normalization.
        bias: [outputs], with the offsets of the normalization, or None.
    """

    bits: LayerBits
    stamp: tuple[int, ...]
    sources: tuple[Tensor, ...]
    step: Tensor
    low: int
    high: int
    weight: Tensor
    bias: Tensor | None

    def integers_of(self, x: Tensor) -> Tensor:
        """Return the integers that `x` falls on, in the shape and precision of `x`."""
        return quantize_to_integers(upcast_half(x), self.step, self.low, self.high).to(x.dtype)


class _FrozenLayer(QuantLayer):
    """What frozen layers share: their values, and when they are of use.

    Attributes:
        norm: the batch normalization behind it, or none; in a tuple, so that it is not registered here as well.
    """

    norm: tuple[nn.BatchNorm2d, ...] = ()
    _values: FrozenValues | None = None

    def runs_frozen(self, x: Tensor) -> bool:
        """Return whether the layer computes by its frozen values; its normalization asks the same of its own input."""
        if self.bits is None or (torch.is_grad_enabled() and (x.requires_grad or self._learns())):
            return False
        if torch.compiler.is_compiling() and (self._values is None or self._values.bits != self.bits):
            return False
        return not any(
            module.training or module._forward_hooks or module._forward_pre_hooks for module in (self, *self.norm)
        )

    def _learns(self) -> bool:
        return any(source.requires_grad for source in self._sources())

    def _sources(self) -> tuple[Tensor, ...]:
        weight, activation = self.weight_quantizer, self.activation_quantizer
        sources = [self.weight, weight.step, activation.step, self._bias(), getattr(activation, "zero_point", None)]
        for norm in self.norm:
            # Writes of torch to the statistics are not counted; to the number of batches they are.
            sources += [norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked]
        return tuple(source for source in sources if source is not None)

    def _bias(self) -> Tensor | None:
        return cast(Tensor | None, self._parameters["bias"])

    def frozen_values(self) -> FrozenValues:
        """Return what the layer multiplies by, computed anew if anything has changed.

        A compiled network does not look for changes: after one it is to be called once before it is compiled again.
        """
        if torch.compiler.is_compiling() and self._values is not None:
            return self._values
        sources = self._sources()
        versions = (-1 if source.is_inference() else source._version for source in sources)
        stamp = (*(source.data_ptr() for source in sources), *versions)
        if self._values is None or (self._values.bits, self._values.stamp) != (self.bits, stamp) or -1 in stamp:
            # Outside inference mode: a tensor made in it could not take part in a later autograd pass of the input.
            with torch.inference_mode(False), torch.no_grad():
                self._values = self._computed(stamp, sources)
        return self._values

    def _computed(self, stamp: tuple[int, ...], sources: tuple[Tensor, ...]) -> FrozenValues:
        bits, bias = self.bits, self._bias()
        if bits is None:
            raise RuntimeError("a layer in float has no frozen values")
        low, high = self.activation_quantizer.range_of(bits.activation)
        step = upcast_half(self.activation_quantizer.step_of(bits.activation)).clone()
        weight = upcast_half(self.weight_quantizer(self.weight)) * step
        for norm in self.norm:
            mean, variance = (upcast_half(norm.get_buffer(key)) for key in ("running_mean", "running_var"))
            factor = (variance + norm.eps).rsqrt() * (norm.weight if norm.affine else 1)
            bias = (mean.neg() if bias is None else bias - mean) * factor + (norm.bias if norm.affine else 0)
            weight = weight * spread_over(weight, factor, 0)
        dtype = self.weight.dtype
        held = tuple(source.detach() for source in sources)
        bias = None if bias is None else bias.to(dtype)
        return FrozenValues(bits, stamp, held, step, low, high, weight.to(dtype), bias)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        values = self._values
        if values is not None:
            moved = {"step": fn(values.step), "weight": fn(values.weight)}
            bias = None if values.bias is None else fn(values.bias)
            self._values = replace(values, stamp=(), sources=(), bias=bias, **moved)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._values = None
        super()._load_from_state_dict(*args, **kwargs)


class FrozenConv2d(_FrozenLayer, QuantConv2d):
    """A convolution with a quantized weight and input, and the batch normalization behind it if there is one."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of the quantized input, [batch, channels, height, width], or its norm."""
        if not self.runs_frozen(input):
            return QuantConv2d.forward(self, input)
        values = self.frozen_values()
        return self._conv_forward(values.integers_of(input), values.weight, values.bias)


class FrozenLinear(_FrozenLayer, QuantLinear):
    """A linear layer with a quantized weight and input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the linear map of the quantized input, both [batch, ..., features]."""
        if not self.runs_frozen(input):
            return QuantLinear.forward(self, input)
        values = self.frozen_values()
        return functional.linear(values.integers_of(input), values.weight, values.bias)


class _FoldedNorm(nn.BatchNorm2d):
    """A batch normalization that the convolution before it computes, while that one runs frozen."""

    convolution: tuple[FrozenConv2d, ...] = ()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.convolution[0]._values = None
        super()._load_from_state_dict(*args, **kwargs)


class FoldedBatchNorm2d(_FoldedNorm):
    """`nn.BatchNorm2d`, folded."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized input, both [batch, channels, height, width]."""
        return input if self.convolution[0].runs_frozen(input) else super().forward(input)


class FoldedBatchNormAct2d(_FoldedNorm, BatchNormAct2d):
    """timm's `BatchNormAct2d`, folded: its activation is what is left of it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized and activated input, both [batch, channels, height, width]."""
        return self.act(self.drop(x)) if self.convolution[0].runs_frozen(x) else BatchNormAct2d.forward(self, x)


_FROZEN: dict[type, type] = {QuantConv2d: FrozenConv2d, QuantLinear: FrozenLinear}
_FOLDED: dict[type, type] = {nn.BatchNorm2d: FoldedBatchNorm2d, BatchNormAct2d: FoldedBatchNormAct2d}


def freeze_(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Let the layers of a quantized network compute what never changes once, in place; other classes stay as they are.

    Args:
        network: in eval mode; it runs once, to see which normalization takes what from which convolution.
        input_shape: (channels, height, width) of one image.
    """
    pairs = normalized_convolutions(network, input_shape, norms=_FOLDED.keys())
    for module in list(network.modules()):
        if type(module) in _FROZEN and not cast(QuantLayer, module).computes_weight:
            module.__class__ = _FROZEN[type(module)]
    for convolution, norm in pairs.items():
        if isinstance(convolution, FrozenConv2d):
            norm.__class__ = _FOLDED[type(norm)]
            convolution.norm, cast(_FoldedNorm, norm).convolution = (norm,), (convolution,)
    for module in network.modules():
        if isinstance(module, _FrozenLayer) and module.bits is not None:
            module.frozen_values()


def thaw_(network: nn.Module) -> nn.Module:
    """Undo `freeze_`, in place: every module computes alone what it computed in training, to the last bit.

    Returns:
        `network` itself.
    """
    plain = {frozen: before for before, frozen in (_FROZEN | _FOLDED).items()}
    for module in network.modules():
        if type(module) in plain:
            module.__class__ = plain[type(module)]
            for name in ("norm", "convolution", "_values"):
                vars(module).pop(name, None)
    return network
