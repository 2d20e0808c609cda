"""Quantized layers: `QuantConv2d`, `QuantLinear` and `SwitchableBatchNorm2d`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from limpq_hub.errors import PolicyError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.fake_quantization import Grid
from limpq_hub.quant.quantizer import LsqQuantizer
from limpq_hub.quant.weight_cache import CachedWeight


class QuantLayer(nn.Module):
    """What the quantized layers share: a quantizer for the weight, one for the input, and the active bits.

    In eval mode the quantized weight is computed once and cached, outside of the state dict, until the weight, its step
    size or the bits change. While gradients for the weight are wanted it is computed at every call.

    Attributes:
        weight: [outputs, inputs, height, width] of a convolution, [outputs, inputs] of a linear layer; float.
        weight_quantizer: signed, one step size per candidate bit-width, or one per bit-width and output channel.
        activation_quantizer: of the input.
    """

    weight: Tensor
    weight_quantizer: LsqQuantizer
    activation_quantizer: LsqQuantizer
    _cached_weight: CachedWeight | None = None

    def add_quantizers_(
        self,
        weight_candidates: tuple[int, ...],
        activation_candidates: tuple[int, ...],
        *,
        grid: Grid,
        per_channel: bool = False,
    ) -> None:
        """Give the layer its quantizers, with the weight steps at their initial values.

        Args:
            weight_candidates: bit-widths of the weight, each in 2..8.
            activation_candidates: bit-widths of the input, each in 2..8.
            grid: of the input: "unsigned" if it is never negative.
            per_channel: whether each output channel has weight steps of its own.
        """
        channels = len(self.weight) if per_channel else None
        self.weight_quantizer = LsqQuantizer(weight_candidates, grid="signed", per_sample=False, channels=channels)
        self.activation_quantizer = LsqQuantizer(activation_candidates, grid=grid, per_sample=True)
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
        for kind, bit_width, quantizer in (
            ("weight", bits.weight, self.weight_quantizer),
            ("activation", bits.activation, self.activation_quantizer),
        ):
            if bit_width not in quantizer.candidates:
                candidates = ", ".join(map(str, quantizer.candidates))
                raise PolicyError(f"{bit_width} {kind} bits cannot be set: the candidates are {candidates}")

    def set_bits_(self, bits: LayerBits | None) -> None:
        """Switch the layer to `bits`, or to float with None.

        Raises:
            PolicyError: a bit-width that the layer was not trained for.
        """
        if bits is not None:
            self.check_bits(bits)
        self.weight_quantizer.bits = None if bits is None else bits.weight
        self.activation_quantizer.bits = None if bits is None else bits.activation

    def quantized_weight(self) -> Tensor:
        """Return the weight on its grid, in the shape of the weight."""
        weight, step, bits = self.weight, self.weight_quantizer.step, self.weight_quantizer.bits
        wants_gradient = torch.is_grad_enabled() and (weight.requires_grad or step.requires_grad)
        if self.training or wants_gradient or weight.is_inference() or step.is_inference():
            self._cached_weight = None
            return self.weight_quantizer(weight)
        if self._cached_weight is None or not self._cached_weight.is_current(weight, step, bits):
            # Outside inference mode: a tensor made in it could not take part in a later autograd pass of the input.
            with torch.inference_mode(False), torch.no_grad():
                self._cached_weight = CachedWeight.of(weight, step, bits, self.weight_quantizer(weight))
        return self._cached_weight.quantized

    def train(self, mode: bool = True) -> QuantLayer:
        """Set train or eval mode, and empty the cache of the quantized weight."""
        self._cached_weight = None
        return super().train(mode)


class QuantConv2d(QuantLayer, nn.Conv2d):
    """A convolution with quantized weight and input; groups, dilation and padding modes as in `nn.Conv2d`."""

    @classmethod
    def from_float(cls, layer: nn.Conv2d) -> QuantConv2d:
        """Return a quantized layer that shares the parameters of `layer`; it still needs `add_quantizers_`."""
        quantized = cls(
            layer.in_channels,
            layer.out_channels,
            _pair(layer.kernel_size),
            _pair(layer.stride),
            layer.padding if isinstance(layer.padding, str) else _pair(layer.padding),
            _pair(layer.dilation),
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            device="meta",
        )
        _share_parameters_(quantized, layer)
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the quantized `x`, both [batch, channels, height, width]."""
        return self._conv_forward(self.activation_quantizer(x), self.quantized_weight(), self.bias)


class QuantLinear(QuantLayer, nn.Linear):
    """A linear layer with quantized weight and input."""

    @classmethod
    def from_float(cls, layer: nn.Linear) -> QuantLinear:
        """Return a quantized layer that shares the parameters of `layer`; it still needs `add_quantizers_`."""
        quantized = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        _share_parameters_(quantized, layer)
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        """Return the linear map of the quantized `x`, both [batch, ..., features]."""
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
        # A ModuleDict does not tell the class of its modules.
        return cast(nn.BatchNorm2d, self.copies[str(self.bits)])

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalized by the active copy, both [batch, channels, height, width]."""
        return self.active(x)


def switching_norms(model: nn.Module) -> dict[str, str]:
    """Return, by the name of each switchable batch normalization, the layer whose weight bits choose its copy."""
    return {name: module.layer for name, module in model.named_modules() if isinstance(module, SwitchableBatchNorm2d)}


def quantized_layers(module: nn.Module) -> Iterator[tuple[str, QuantLayer]]:
    """Yield every quantized layer with its name."""
    for name, layer in module.named_modules():
        if isinstance(layer, QuantLayer):
            yield name, layer


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    height, width = values
    return height, width


def _share_parameters_(quantized: QuantLayer, layer: nn.Conv2d | nn.Linear) -> None:
    for name in ("weight", "bias"):
        quantized.register_parameter(name, getattr(layer, name))
    quantized.train(layer.training)
