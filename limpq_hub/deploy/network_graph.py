"""`network_graph`: an ONNX model of a quantized network, written straight from its integers and steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from limpq_hub.deploy.float_operations import ADDITIONS, FloatOperations
from limpq_hub.deploy.formats import INPUT, OUTPUT
from limpq_hub.deploy.forward_record import ForwardRecord, record_forward
from limpq_hub.deploy.graph_builder import GraphBuilder
from limpq_hub.deploy.integer_layer import integer_layers
from limpq_hub.deploy.layer_formats import BoundedValue, LayerFormat
from limpq_hub.deploy.recorded_call import Call, Value

# Beyond what any value of a network is, and no infinity, which would be removed.
_ANY_NUMBER = 1e30
_CLAMPS = {torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_}


def network_graph(
    network: nn.Module, input_shape: tuple[int, ...], layer_format: LayerFormat, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Return a quantized network as an ONNX model.

    Args:
        network: on the CPU, in float32.
        input_shape: (channels, height, width) of one image.
        layer_format: how the grids are written.
        metadata: text by key, kept in the file.

    Raises:
        UnsupportedLayerError: the network does something that the writer does not know.
    """
    layers, record = integer_layers(network), record_forward(network, input_shape)
    builder = GraphBuilder(domains=layer_format.domains)
    names = {record.image.name: INPUT}
    operations = FloatOperations(builder, names, layer_format.batch)
    weight_of_layer: dict[str, str] = {}
    weight_of_input: dict[str, str] = {}
    for call in record.calls:
        if call.quantizer is not None:
            layer = layers[call.quantizer]
            if layer.name not in weight_of_layer:
                weight_of_layer[layer.name] = layer_format.write_weight(builder, layer)
            names[call.output.name] = layer_format.write_input(builder, layer, _bounded(record, call.inputs[0], names))
            weight_of_input[call.output.name] = weight_of_layer[layer.name]
            continue
        if layer_format.guards_shortcuts and call.function in ADDITIONS and not _is_rectified(record, call.output):
            for value in call.inputs:
                if len(record.consumers(value)) > 1:
                    names[value.name] = _guarded(builder, names[value.name])
        names[call.output.name] = operations.write(call, weight=weight_of_input.get(call.inputs[0].name))
    return builder.model(
        name=type(network).__name__,
        batch=layer_format.batch,
        input_name=INPUT,
        input_shape=input_shape,
        output=names[record.logits.name],
        output_name=OUTPUT,
        output_shape=record.logits.shape[1:],
        metadata=metadata,
    )


def _is_rectified(record: ForwardRecord, value: Value) -> bool:
    """Return whether an activation function that bounds it is all that takes a value."""
    consumers = record.consumers(value)
    # Activation functions were tried behind an addition. A clamp, which may have one bound alone, was not, and the
    # guard that it keeps changes no number.
    return len(consumers) == 1 and consumers[0].function not in _CLAMPS and _bounds_of(consumers[0]) is not None


def _guarded(builder: GraphBuilder, value: str) -> str:
    """Write a Clip that changes no number, and return the name of its result."""
    bounds = [builder.constant(np.float32(bound), f"{value}/guard_bound") for bound in (-_ANY_NUMBER, _ANY_NUMBER)]
    return builder.add("Clip", [value, *bounds], f"{value}/guard")


def _bounded(record: ForwardRecord, value: Value, names: Mapping[str, str]) -> BoundedValue:
    """Return a value with the bounds that the activation functions right in front of it bring it into."""
    before, low, high = activation_bounds(record, value)
    return BoundedValue(names[value.name], names[before.name], low, high)


def activation_bounds(record: ForwardRecord, value: Value) -> tuple[Value, float, float]:
    """Return the value in front of the activation functions that only bound a value, and the bounds.

    The value itself, and infinite bounds, where no such function is in front of it.
    """
    before, low, high = value, -math.inf, math.inf
    while (call := record.producer(before)) is not None and (bounds := _bounds_of(call)) is not None:
        # What comes later has the last word: bounds that lie outside of it do nothing.
        low, high = max(low, min(bounds[0], high)), min(high, max(bounds[1], low))
        before = call.inputs[0]
    return before, low, high


def _bounds_of(call: Call) -> tuple[float, float] | None:
    """Return between which numbers a call brings its input, if it does nothing else."""
    if call.function in (functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_):
        return 0.0, math.inf
    if call.function is functional.relu6:
        return 0.0, 6.0
    if call.function is functional.hardtanh:
        bounds = dict(zip(("min_val", "max_val"), call.arguments[1:], strict=False)) | dict(call.options)
        return bounds.get("min_val", -1.0), bounds.get("max_val", 1.0)
    if call.function in _CLAMPS:
        bounds = dict(zip(("min", "max"), call.arguments[1:], strict=False)) | dict(call.options)
        low, high = bounds.get("min"), bounds.get("max")
        if any(isinstance(bound, Tensor | Value) for bound in (low, high)):
            return None
        # Where they are the wrong way around, the argument max has the last word.
        high = math.inf if high is None else high
        return min(-math.inf if low is None else low, high), high
    return None
