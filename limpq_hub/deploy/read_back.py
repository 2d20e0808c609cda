"""What an exported file holds of each layer, read from its graph alone: integers, steps, and the range of the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from limpq_hub.deploy.formats import layer_of_input
from limpq_hub.errors import ArtifactFormatError

_MULTIPLYING = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class ReadLayer:
    """What a file says of a layer.

    Attributes:
        weight: float32, the weight that is multiplied.
        integers: of the weight; None where it is stored in float.
        weight_step: float32, one or one for each output channel; None where the weight is stored in float.
        input_step: float32, of shape [].
        input_low, input_high: lowest and highest integer of the input.
    """

    weight: np.ndarray
    integers: np.ndarray | None
    weight_step: np.ndarray | None
    input_step: np.ndarray
    input_low: int
    input_high: int


def read_layers(file: Path) -> dict[str, ReadLayer]:
    """Return what an exported file holds of each quantized layer, by name.

    Raises:
        ArtifactFormatError: an input is quantized in a way that `export` does not write.
    """
    return _Reader(onnx.load(file)).layers()


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._nodes = list(model.graph.node)
        self._from = {output: node for node in self._nodes for output in node.output}
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def layers(self) -> dict[str, ReadLayer]:
        layers = {}
        for node in self._nodes:
            source = self._from.get(node.input[0]) if node.op_type in _MULTIPLYING else None
            layer = layer_of_input(source.name) if source is not None else None
            if source is not None and layer is not None:
                layers[layer] = ReadLayer(*self._weight(node.input[1]), *self._input(source))
        return layers

    def _weight(self, name: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return a weight in float, its integers and its steps, the last two None where it is stored in float."""
        if name in self._constants:
            return self._constants[name], None, None
        node = self._from[name]
        first, *rest = node.input
        if node.op_type == "Transpose":
            return self._weight(first)
        cast = self._from.get(first)
        values, step = self._constants[first if cast is None else cast.input[0]], self._constants[rest[0]]
        if node.op_type == "Quant":
            return values, np.rint(values / step), step.reshape(-1) if step.ndim else step
        axis = _attribute(node, "axis", 0)
        shape = [-1 if dim == axis else 1 for dim in range(values.ndim)]
        integers = values.astype(np.int8)
        return integers.astype(np.float32) * (step.reshape(shape) if step.ndim else step), integers, step

    def _input(self, node: onnx.NodeProto) -> tuple[np.ndarray, int, int]:
        """Return step, lowest and highest integer of an input from what it is dequantized by."""
        if node.op_type == "Quant":
            step, zero_point, bits = (self._constants[name] for name in node.input[1:4])
            low = -(2 ** (int(bits) - 1)) if _attribute(node, "signed", 0) else 0
            return step, low - int(zero_point), low - int(zero_point) + 2 ** int(bits) - 1
        step, zero_point = (self._constants[name] for name in node.input[1:3])
        kind = np.iinfo(zero_point.dtype)
        low, high = kind.min, kind.max
        source = self._from[node.input[0]]
        if source.op_type == "Clip":  # of integers, behind QuantizeLinear
            low, high = (int(self._constants[name]) for name in source.input[1:3])
            source = self._from[source.input[0]]
        low, high = low - int(zero_point), high - int(zero_point)
        if source.op_type != "QuantizeLinear":
            raise ArtifactFormatError(f"{node.name}: {source.op_type} stands where QuantizeLinear should")
        before = self._from.get(source.input[0])
        if before is not None and before.op_type == "Clip":  # in float, in front of it
            # A bound may be missing, or have no name.
            lowest, highest = (self._constants[name] if name else None for name in (*before.input[1:], "", "")[:2])
            # Bounded first: they may be infinite, or become so once they are divided.
            if lowest is not None:
                low = round(min(max(float(lowest) / float(step), low), high))
            if highest is not None:
                high = round(min(max(float(highest) / float(step), low), high))
        return step, low, high


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    found: Mapping[str, int] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return found.get(name, default)
