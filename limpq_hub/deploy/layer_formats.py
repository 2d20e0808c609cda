"""How the grids of a layer, those of its input and of its weight, are written in each format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import ml_dtypes
import numpy as np
from onnx import TensorProto

from limpq_hub.deploy.graph_builder import GraphBuilder
from limpq_hub.deploy.integer_layer import IntegerLayer

QONNX_DOMAIN = "qonnx.custom_op.general"


@dataclass(frozen=True)
class BoundedValue:
    """A value that activation functions such as ReLU6 bring into bounds.

    Attributes:
        name: of the value behind the activation functions.
        before: name of the value in front of them.
        low, high: the bounds; infinite where there is none.
    """

    name: str
    before: str
    low: float
    high: float


class LayerFormat(Protocol):
    """Writes what is between the values of a network in float and the integers of a layer.

    Attributes:
        domains: operator sets beside the standard one: version by domain.
        batch: how many images a file takes at once; None for any number.
        guards_shortcuts: whether a Clip that changes nothing stands in front of additions.
    """

    domains: ClassVar[Mapping[str, int]]
    batch: ClassVar[int | None]
    guards_shortcuts: ClassVar[bool]

    def write_input(self, builder: GraphBuilder, layer: IntegerLayer, x: BoundedValue) -> str:
        """Write the quantization of an input; return the name of the input on its grid, in float."""

    def write_weight(self, builder: GraphBuilder, layer: IntegerLayer) -> str:
        """Write a weight by its integers; return the name of the weight on its grid, in float."""


@dataclass(frozen=True)
class QuantizeDequantize:
    """QuantizeLinear and DequantizeLinear around operators in float, which OpenVINO makes integer ones of.

    Below 8 bits the input is clipped in float, in front of QuantizeLinear; an activation function that clips as well,
    ReLU6 for instance, becomes the same Clip. Weights need no clip: their integers are in range.

    Attributes:
        without_vnni: whether weights of 8 bits are stored in float. A CPU without VNNI adds up two products of 8 bits
            in 16, which they can overflow, at 7 bits no longer.
    """

    without_vnni: bool = False
    domains: ClassVar[Mapping[str, int]] = {}
    batch: ClassVar[int | None] = None
    # OpenVINO 2026.4 takes the factor of a shortcut that no activation function follows, as in MobileNetV2, over the
    # addition, and loses the other operand where the number of images is free. A Clip keeps it from doing so.
    guards_shortcuts: ClassVar[bool] = True

    def write_input(self, builder: GraphBuilder, layer: IntegerLayer, x: BoundedValue) -> str:
        """Write Clip where it is needed, QuantizeLinear and DequantizeLinear."""
        low, high = (float(integer * layer.input_step) for integer in (layer.input_low, layer.input_high))
        clips = layer.bits.activation < 8 or x.high < high
        name = f"{layer.name}/input"
        value = x.name
        if clips:
            bounds = np.float32(min(max(x.low, low), high)), np.float32(max(min(x.high, high), low))
            edges = [
                builder.constant(bound, f"{layer.name}.input_{end}")
                for bound, end in zip(bounds, ("lowest", "highest"), strict=True)
            ]
            value = builder.add("Clip", [x.before, *edges], f"{name}/Clip")
        # Signed integers as such: OpenVINO computes slower with their unsigned twins around a zero point.
        zero_point = np.int8(0) if layer.signed else np.uint8(-layer.input_low)
        grid = [
            builder.constant(layer.input_step, f"{layer.name}.input_scale"),
            builder.constant(zero_point, f"{layer.name}.input_zero_point"),
        ]
        integers = builder.add("QuantizeLinear", [value, *grid], f"{name}/QuantizeLinear")
        return builder.add("DequantizeLinear", [integers, *grid], f"{name}/DequantizeLinear")

    def write_weight(self, builder: GraphBuilder, layer: IntegerLayer) -> str:
        """Write DequantizeLinear of int8, or the weight in float.

        Integers of up to 4 bits are stored in 4, two in an octet, and cast: what computes has 8.
        """
        if self.without_vnni and layer.bits.weight == 8:
            return builder.constant(layer.weight(), f"{layer.name}.weight")
        if layer.bits.weight <= 4:
            stored = builder.constant(layer.integers.astype(ml_dtypes.int4), f"{layer.name}.weight_integers")
            integers = builder.add("Cast", [stored], f"{layer.name}/weight/Cast", to=TensorProto.INT8)
        else:
            integers = builder.constant(layer.integers, f"{layer.name}.weight_integers")
        scale = builder.constant(layer.weight_step, f"{layer.name}.weight_scale")
        axis: dict[str, Any] = {"axis": layer.channel_axis} if layer.weight_step.ndim else {}
        return builder.add("DequantizeLinear", [integers, scale], f"{layer.name}/weight", **axis)


@dataclass(frozen=True)
class QonnxQuant:
    """Quant of QONNX on inputs and on weights, which says the bits as such.

    A file takes one image at once: the tools that read it, FINN and hls4ml among them, need a size for every tensor.

    Source: Pappalardo et al., "QONNX: Representing Arbitrary-Precision Quantized Neural Networks", 2022.
    """

    domains: ClassVar[Mapping[str, int]] = {QONNX_DOMAIN: 2}
    batch: ClassVar[int | None] = 1
    guards_shortcuts: ClassVar[bool] = False

    def write_input(self, builder: GraphBuilder, layer: IntegerLayer, x: BoundedValue) -> str:
        """Write Quant; an offset grid is one of unsigned integers with a zero point."""
        zero_point = 0 if layer.signed else -layer.input_low
        return self._quant(
            builder, layer, x.name, "input", layer.input_step, zero_point, layer.bits.activation, layer.signed
        )

    def write_weight(self, builder: GraphBuilder, layer: IntegerLayer) -> str:
        """Write Quant of the weight on its grid, which leaves it as it is."""
        shape = [1] * layer.integers.ndim
        if layer.weight_step.ndim:
            shape[layer.channel_axis] = -1
        steps = layer.weight_step.reshape(shape) if layer.weight_step.ndim else layer.weight_step
        weight = builder.constant(layer.weight(), f"{layer.name}.weight")
        return self._quant(builder, layer, weight, "weight", steps, 0, layer.bits.weight, True)

    def _quant(
        self,
        builder: GraphBuilder,
        layer: IntegerLayer,
        x: str,
        operand: str,
        step: np.ndarray,
        zero_point: int,
        bits: int,
        signed: bool,
    ) -> str:
        numbers = {"scale": step, "zero_point": np.float32(zero_point), "bits": np.float32(bits)}
        inputs = [builder.constant(number, f"{layer.name}.{operand}_{key}") for key, number in numbers.items()]
        return builder.add(
            "Quant",
            [x, *inputs],
            f"{layer.name}/{operand}/Quant",
            domain=QONNX_DOMAIN,
            signed=int(signed),
            narrow=0,
            rounding_mode="ROUND",
        )
