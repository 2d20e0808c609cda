"""`IntegerLayer`: the integers and steps of a quantized layer as a file holds them, in numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.layers import QuantLayer, check_one_weight
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.quantizer import LsqQuantizer


@dataclass(frozen=True)
class IntegerLayer:
    """The integers of a layer and the grids of its weight and of its input.

    Attributes:
        name: in the network.
        bits: of weight and input, each in 2..8.
        integers: of the weight, int8 in its shape.
        weight_step: float32, [] or [output channels].
        channel_axis: the dimension of the weight that the output channels are.
        input_step: float32, [].
        input_low, input_high: lowest and highest integer of the input, low <= 0 < high.
    """

    name: str
    bits: LayerBits
    integers: np.ndarray
    weight_step: np.ndarray
    channel_axis: int
    input_step: np.ndarray
    input_low: int
    input_high: int

    @property
    def signed(self) -> bool:
        """Whether the input is of a signed grid: its zero point lies in the middle."""
        return -self.input_low == self.input_high + 1

    def weight(self) -> np.ndarray:
        """Return the weight in float32: its integers times its steps."""
        shape = [1] * self.integers.ndim
        shape[self.channel_axis] = -1
        steps = self.weight_step.reshape(shape) if self.weight_step.ndim else self.weight_step
        return self.integers.astype(np.float32) * steps


def integer_layers(network: nn.Module) -> dict[LsqQuantizer, IntegerLayer]:
    """Return every quantized layer of a network by the quantizer of its input.

    Raises:
        UnsupportedLayerError: nothing is quantized, a product of two activations is, or layers that share a parameter
            make other weights of it.
    """
    layers = {}
    for name, layer in quantized_layers(network):
        if not isinstance(layer, QuantLayer):
            raise UnsupportedLayerError(
                f"{name} is a product of two quantized activations: networks with attention cannot be exported"
            )
        if layer.bits is not None:
            check_one_weight(network, name, layer)
            layers[layer.activation_quantizer] = _integer_layer(name, layer, layer.bits)
    if not layers:
        raise UnsupportedLayerError(
            f"{type(network).__name__} has no quantized layer: give a network from limpq_hub.load or to_quantized"
        )
    return layers


def _integer_layer(name: str, layer: QuantLayer, bits: LayerBits) -> IntegerLayer:
    low, high = layer.activation_quantizer.range_of(bits.activation)
    return IntegerLayer(
        name=name,
        bits=bits,
        integers=layer.weight_integers(bits.weight).cpu().numpy(),
        weight_step=layer.weight_quantizer.step_of(bits.weight).detach().cpu().numpy(),
        channel_axis=layer.weight_quantizer.channel_dim,
        input_step=layer.activation_quantizer.step_of(bits.activation).detach().cpu().numpy(),
        input_low=low,
        input_high=high,
    )
