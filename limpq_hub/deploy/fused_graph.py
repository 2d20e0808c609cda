"""`fused_graph`: an ONNX model in which ONNX Runtime computes everything in 8 bits, for speed; it is approximate.

ONNX Runtime multiplies integers only where 8 bits go in and 8 bits come out. So batch normalizations are folded into
the steps of the weights, and every value between the layers is brought to 8 bits, on a range measured on pictures. The
integers of the weights and the grids of the inputs are those of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from limpq_hub.deploy.float_operations import FloatOperations
from limpq_hub.deploy.formats import INPUT, OUTPUT
from limpq_hub.deploy.forward_record import ForwardRecord, record_forward
from limpq_hub.deploy.graph_builder import GraphBuilder
from limpq_hub.deploy.integer_layer import IntegerLayer, integer_layers
from limpq_hub.deploy.network_graph import activation_bounds
from limpq_hub.deploy.recorded_call import Call, Value
from limpq_hub.quant.quantizer import LsqQuantizer

_POOLING_MAXIMA = {torch.max_pool2d, functional.max_pool2d}
# What they return are the numbers that they take, in the same or another shape.
_RESHAPING = {
    torch.flatten,
    Tensor.flatten,
    Tensor.view,
    Tensor.reshape,
    torch.reshape,
    functional.dropout,
    Tensor.contiguous,
    Tensor.clone,
    Tensor.float,
}
# Biases are 32-bit integers in units of input step times weight step: a channel that its normalization nearly switches
# off needs a larger step for its offset to fit.
_LARGEST_BIAS = 2**30


@dataclass(frozen=True)
class _Octets:
    """A grid of 8 bits: unsigned integers around a zero point.

    Attributes:
        step: float32.
        zero_point: uint8.
        most: the highest integer that is used.
    """

    step: np.float32
    zero_point: np.uint8
    most: int = 255


def fused_graph(
    network: nn.Module,
    input_shape: tuple[int, ...],
    ranges: Mapping[str, tuple[float, float]],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Return a quantized network as an ONNX model for ONNX Runtime.

    Args:
        network: on the CPU, in float32.
        input_shape: (channels, height, width) of one image.
        ranges: lowest and highest number of each value, from `value_ranges`.
        metadata: text by key, kept in the file.

    Raises:
        UnsupportedLayerError: the network does something that the writer does not know.
    """
    writer = _Writer(integer_layers(network), record_forward(network, input_shape), ranges)
    record = writer.record
    for call in record.calls:
        writer.write(call)
    return writer.builder.model(
        name=type(network).__name__,
        batch=None,
        input_name=INPUT,
        input_shape=input_shape,
        output=writer.names[record.logits.name],
        output_name=OUTPUT,
        output_shape=record.logits.shape[1:],
        metadata=metadata,
    )


class _Writer:
    def __init__(
        self,
        layers: Mapping[LsqQuantizer, IntegerLayer],
        record: ForwardRecord,
        ranges: Mapping[str, tuple[float, float]],
    ) -> None:
        self.builder = GraphBuilder()
        self.record = record
        self.names = {record.image.name: INPUT}
        self._layers, self._ranges = layers, ranges
        self._operations = FloatOperations(self.builder, self.names)
        self._layer_of: dict[str, IntegerLayer] = {}
        self._octets_of: dict[str, _Octets] = {}
        self._folded: set[str] = set()

    def write(self, call: Call) -> None:
        """Write a call, and bring its result to 8 bits where something else than one grid of an input takes it."""
        output, source = call.output.name, call.inputs[0].name
        if call.quantizer is not None:
            layer = self._layer_of[output] = self._layers[call.quantizer]
            self.names[output] = self._input(layer, call.inputs[0])
            return
        if output in self._folded:
            self.names[output] = self.names[source]
        elif source in self._layer_of:
            self.names[output] = self._layer(call, self._layer_of[source])
        else:
            self.names[output] = self._operations.write(call)
        octets = self._between_layers(call)
        if octets is not None:
            self._octets_of[output] = octets
            self.names[output] = self._bring_to(octets, self.names[output], f"{output}/octets")

    def _input(self, layer: IntegerLayer, value: Value) -> str:
        """Write the grid of an input; an activation function in front of it becomes part of the integer Clip."""
        before, low, high = activation_bounds(self.record, value)
        highest = min(layer.input_high, round(min(high / float(layer.input_step), layer.input_high)))
        most = max(highest - layer.input_low, 0)
        octets = _Octets(np.float32(layer.input_step), np.uint8(-layer.input_low), most=most)
        # Unsigned integers cut off below zero by themselves.
        absorbs = layer.input_low == 0 and low <= 0 and value.name not in self._octets_of
        return self._bring_to(octets, self.names[before.name if absorbs else value.name], f"{layer.name}/input")

    def _bring_to(self, octets: _Octets, x: str, name: str) -> str:
        """Write QuantizeLinear, an integer Clip where fewer than 256 integers are used, and DequantizeLinear."""
        grid = [
            self.builder.constant(octets.step, f"{name}_scale"),
            self.builder.constant(octets.zero_point, f"{name}_zero_point"),
        ]
        integers = self.builder.add("QuantizeLinear", [x, *grid], f"{name}/QuantizeLinear")
        if octets.most < 255:
            edges = [
                self.builder.constant(np.uint8(edge), f"{name}_{end}")
                for edge, end in ((0, "lowest"), (octets.most, "highest"))
            ]
            integers = self.builder.add("Clip", [integers, *edges], f"{name}/Clip")
        return self.builder.add("DequantizeLinear", [integers, *grid], f"{name}/DequantizeLinear")

    def _layer(self, call: Call, layer: IntegerLayer) -> str:
        """Write a layer, with the normalization behind it if nothing else takes its result."""
        self._operations.method_of(call)  # the weights of what it refuses need not have their outputs in front
        channels = layer.integers.shape[0]
        bias = call.arguments[2] if len(call.arguments) > 2 else call.options.get("bias")
        offset = np.zeros(channels) if bias is None else bias.detach().double().numpy()
        factor = np.ones(channels)
        consumers = self.record.consumers(call.output)
        # A normalization is of dimension 1: of a linear map of [batch, ..., features] the outputs are in the last one.
        channels_first = call.function is not functional.linear or len(call.output.shape) == 2
        if channels_first and len(consumers) == 1 and consumers[0].function is functional.batch_norm:
            self._folded.add(consumers[0].output.name)
            factor, added = self._operations.normalization(consumers[0])
            offset = offset * factor + added
        # A negative factor makes a negative step: the integers stay as they are, none of them can leave its range.
        steps = layer.weight_step.astype(np.float64) * factor
        least = np.maximum(np.abs(offset) / (float(layer.input_step) * _LARGEST_BIAS), np.finfo(np.float32).tiny)
        steps = np.where(np.abs(steps) < least, least, steps).astype(np.float32)
        bias_steps = steps * layer.input_step
        written = {}
        for operand, integers, scale in (
            ("weight", layer.integers, steps),
            ("bias", np.rint(offset / bias_steps).astype(np.int32), bias_steps),
        ):
            numbers = [
                self.builder.constant(integers, f"{layer.name}.{operand}_integers"),
                self.builder.constant(scale, f"{layer.name}.{operand}_scale"),
            ]
            written[operand] = self.builder.add("DequantizeLinear", numbers, f"{layer.name}/{operand}", axis=0)
        return self._operations.write(call, weight=written["weight"], bias=written["bias"])

    def _between_layers(self, call: Call) -> _Octets | None:
        """Return the 8 bits that the result of a call is brought to; None where that would only cost accuracy."""
        if self._is_logits(call.output) or call.function in _RESHAPING:
            return None
        consumers = self._consumers(call.output)
        if len(consumers) == 1 and (
            consumers[0].quantizer is not None
            or consumers[0].output.name in self._folded
            or activation_bounds(self.record, consumers[0].output)[0] == call.output
        ):
            return None
        if call.function in _POOLING_MAXIMA and call.inputs[0].name in self._octets_of:
            return self._octets_of[call.inputs[0].name]
        low, high = self._ranges[call.output.name]
        step = np.float32(max((high - low) / 255, np.finfo(np.float32).tiny))
        return _Octets(step, np.uint8(min(255, round(-low / float(step)))))

    def _is_logits(self, value: Value) -> bool:
        """Return whether a value is what the network returns, or becomes it by another shape alone."""
        return value == self.record.logits or any(
            call.function in _RESHAPING and self._is_logits(call.output) for call in self.record.consumers(value)
        )

    def _consumers(self, value: Value) -> list[Call]:
        """Return what takes a value, through what only gives it another shape."""
        return [
            consumer
            for call in self.record.consumers(value)
            for consumer in (self._consumers(call.output) if call.function in _RESHAPING else [call])
        ]
