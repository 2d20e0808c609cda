"""Quantized layers: `QuantConv2d`, `QuantLinear` and `SwitchableBatchNorm2d`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limpq_hub.errors import PolicyError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.quantizer import LsqQuantizer


@dataclass(frozen=True)
class KeptWeight:
    """A quantized weight and what it was made of.

    Attributes:
        sources: weight and step, detached: holding them keeps their memory from being given to other tensors.
        versions: how often each had been written to.
        bits: the active bit-width.
        quantized: the weight on its grid.
    """

    sources: tuple[Tensor, Tensor]
    versions: tuple[int, int]
    bits: int | None
    quantized: Tensor

    @classmethod
    def of(cls, weight: Tensor, step: Tensor, bits: int | None, quantized: Tensor) -> KeptWeight:
        """Return the record of `quantized`, made of `weight` and `step` just now."""
        return cls((weight.detach(), step.detach()), (weight._version, step._version), bits, quantized)

    def is_of(self, weight: Tensor, step: Tensor, bits: int | None) -> bool:
        """Return whether weight, step and bits are still those that the quantized weight was made of."""
        held = tuple(source.data_ptr() for source in self.sources)
        return (
            self.bits == bits
            and held == (weight.data_ptr(), step.data_ptr())
            and self.versions == (weight._version, step._version)
        )


class QuantLayer(nn.Module):
    """What the quantized layers share: a quantizer for the weight, one for the input, and the active bits.

    In eval mode the quantized weight is computed once and kept until the weight, its step size or the bits change.
    While gradients for the weight are wanted it is computed at every call.
    """

    weight: nn.Parameter
    weight_quantizer: LsqQuantizer
    activation_quantizer: LsqQuantizer
    _kept: KeptWeight | None = None

    def add_quantizers_(
        self, weight_candidates: tuple[int, ...], activation_candidates: tuple[int, ...], *, signed: bool
    ) -> None:
        """Give the layer its quantizers, with the weight steps at their initial values.

        Args:
            signed: whether the input can be negative.
        """
        self.weight_quantizer = LsqQuantizer(weight_candidates, signed=True, per_sample=False)
        self.activation_quantizer = LsqQuantizer(activation_candidates, signed=signed, per_sample=True)
        if not self.weight.is_meta:
            self.weight_quantizer.to(self.weight.device)
            self.activation_quantizer.to(self.weight.device)
            for bits in weight_candidates:
                self.weight_quantizer.set_step_(bits, self.weight_quantizer.initial_step(self.weight, bits))

    @property
    def bits(self) -> LayerBits | None:
        """The active bit-widths, or None while the layer runs in float."""
        weight, activation = self.weight_quantizer.bits, self.activation_quantizer.bits
        return None if weight is None or activation is None else LayerBits(weight, activation)

    def check_bits(self, bits: LayerBits) -> None:
        """Raise `PolicyError` unless the layer has a step size at `bits`."""
        for what, width, quantizer in (
            ("weight", bits.weight, self.weight_quantizer),
            ("activation", bits.activation, self.activation_quantizer),
        ):
            if width not in quantizer.candidates:
                candidates = ", ".join(map(str, quantizer.candidates))
                raise PolicyError(f"{width} {what} bits cannot be set: the candidates are {candidates}")

    def set_bits_(self, bits: LayerBits | None) -> None:
        """Switch the layer to `bits`, or to float with None.

        Raises:
            PolicyError: a bit-width that the layer was not trained for.
        """
        if bits is not None:
            self.check_bits(bits)
        self.weight_quantizer.bits = bits and bits.weight
        self.activation_quantizer.bits = bits and bits.activation

    def quantized_weight(self) -> Tensor:
        """Return the weight on its grid, in the shape of the weight."""
        weight, step, bits = self.weight, self.weight_quantizer.step, self.weight_quantizer.bits
        wants_gradient = torch.is_grad_enabled() and (weight.requires_grad or step.requires_grad)
        if self.training or wants_gradient or weight.is_inference() or step.is_inference():
            self._kept = None
            return self.weight_quantizer(weight)
        if self._kept is None or not self._kept.is_of(weight, step, bits):
            # Outside inference mode, so that the kept weight can later take part in autograd of the input.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = KeptWeight.of(weight, step, bits, self.weight_quantizer(weight))
        return self._kept.quantized

    def train(self, mode: bool = True) -> QuantLayer:
        """Set the mode, and forget the kept weight."""
        self._kept = None
        return super().train(mode)


class QuantConv2d(QuantLayer, nn.Conv2d):
    """A convolution with quantized weight and input; groups, dilation and padding modes as in `nn.Conv2d`."""

    @classmethod
    def from_float(cls, layer: nn.Conv2d) -> QuantConv2d:
        """Return a quantized layer that shares the parameters of `layer`; it still needs `add_quantizers_`."""
        quantized = cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            device="meta",
        )
        return _share_parameters(quantized, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the quantized input, [batch, channels, height, width]."""
        return self._conv_forward(self.activation_quantizer(x), self.quantized_weight(), self.bias)


class QuantLinear(QuantLayer, nn.Linear):
    """A linear layer with quantized weight and input."""

    @classmethod
    def from_float(cls, layer: nn.Linear) -> QuantLinear:
        """Return a quantized layer that shares the parameters of `layer`; it still needs `add_quantizers_`."""
        quantized = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        return _share_parameters(quantized, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return the linear map of the quantized input, [batch, ..., features]."""
        return nn.functional.linear(self.activation_quantizer(x), self.quantized_weight(), self.bias)


class SwitchableBatchNorm2d(nn.Module):
    """One copy of a batch normalization per candidate bit-width; the weight bits of the layer before choose it.

    Works for subclasses of `nn.BatchNorm2d` too, timm's `BatchNormAct2d` among them: the copies are of their class.

    Attributes:
        layer: name of the quantized layer whose weight bits choose the copy.
        bits: the chosen copy.
    """

    def __init__(self, norm: nn.BatchNorm2d, candidates: tuple[int, ...], layer: str) -> None:
        super().__init__()
        self.layer = layer
        self.copies = nn.ModuleDict({str(bits): copy.deepcopy(norm) for bits in candidates})
        self.bits = candidates[0]

    @property
    def active(self) -> nn.BatchNorm2d:
        """The copy that runs."""
        return self.copies[str(self.bits)]

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalized by the active copy, [batch, channels, height, width]."""
        return self.active(x)


def switching_norms(model: nn.Module) -> dict[str, str]:
    """Return the layer whose weight bits switch each batch normalization of a supernet, by name of the latter."""
    return {name: module.layer for name, module in model.named_modules() if isinstance(module, SwitchableBatchNorm2d)}


def quantized_layers(module: nn.Module) -> Iterator[tuple[str, QuantLayer]]:
    """Yield every quantized layer with its name."""
    for name, layer in module.named_modules():
        if isinstance(layer, QuantLayer):
            yield name, layer


def _share_parameters(quantized: nn.Module, layer: nn.Module) -> nn.Module:
    quantized.weight, quantized.bias = layer.weight, layer.bias
    return quantized.train(layer.training)
