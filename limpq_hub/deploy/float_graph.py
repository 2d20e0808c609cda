"""`float_graph`: a float network as an ONNX model, to compare integers with what the same runtime does in float."""

from __future__ import annotations

import onnx
from torch import nn

from limpq_hub.deploy.float_operations import FloatOperations
from limpq_hub.deploy.formats import INPUT, OUTPUT
from limpq_hub.deploy.forward_record import record_forward
from limpq_hub.deploy.graph_builder import GraphBuilder


def float_graph(network: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Return a float network as an ONNX model, call by call; runtimes fold its normalizations themselves.

    Args:
        network: on the CPU, in float32, in eval mode.
        input_shape: (channels, height, width) of one image.

    Raises:
        UnsupportedLayerError: the network does something that the writer does not know.
    """
    record, builder = record_forward(network, input_shape), GraphBuilder()
    names = {record.image.name: INPUT}
    operations = FloatOperations(builder, names)
    for call in record.calls:
        names[call.output.name] = operations.write(call)
    return builder.model(
        name="float",
        batch=None,
        input_name=INPUT,
        input_shape=input_shape,
        output=names[record.logits.name],
        output_name=OUTPUT,
        output_shape=record.logits.shape[1:],
        metadata={},
    )
