"""Whether a runtime computes each layer as exact arithmetic does, layer by layer.

Float32 rounds in the last digit, and a value that lies on the edge between two integers is then quantized to the other
one. A network of many large layers has such values in every picture, and from the first of them on its numbers are
others: two runs of it in two orders of additions differ by whole logits. So each layer is judged by itself: what the
runtime made of the integers that it had there, beside what float64 makes of the same integers.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from limpq_hub.deploy.formats import OUTPUT, Format, layer_of_input
from limpq_hub.deploy.integer_layer import integer_layers
from limpq_hub.deploy.runtimes import Runtime, open_runtime
from limpq_hub.quant.fake_quantization import spread_over
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.tracing.forward_trace import copy_of

# A value is on an edge if it is as near to it, in steps. Float32 comes within 1e-4 on 8 bits; a wrong step does not.
_EDGE = 1e-3
# All of what a network computes lies in memory at once.
_PICTURES_AT_ONCE, _MOST_PICTURES = 2, 16


@dataclass(frozen=True)
class LayerParity:
    """How near a runtime is to exact arithmetic, each layer from the runtime's own input.

    Attributes:
        pictures: how many were run.
        integers: how many inputs of layers were quantized for them.
        other_integers: how many of these are not those of exact arithmetic.
        farthest_from_edge: of these, the farthest from the edge between its two integers, in steps.
        largest_difference: of any two logits.
    """

    pictures: int
    integers: int
    other_integers: int
    farthest_from_edge: float
    largest_difference: float

    @property
    def is_exact(self) -> bool:
        """Whether nothing but rounding on edges tells the two apart."""
        return self.farthest_from_edge <= _EDGE and self.largest_difference <= _EDGE

    def to_json(self) -> dict[str, Any]:
        """Return the figures as `verify.json` holds them."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the figures in one line."""
        return (
            f"{self.other_integers:,} of {self.integers:,} integers on {self.pictures} pictures are others, at most "
            f"{self.farthest_from_edge:.1g} steps from the edge between the two; logits differ by at most "
            f"{self.largest_difference:.1g}"
        )


def layer_parity(
    file: Path, file_format: Format, network: nn.Module, batches: Iterable[Tensor], runtime: Runtime
) -> LayerParity:
    """Return how near what runs a file is to a network in float64, each layer from the runtime's own input.

    Args:
        file: a `model.onnx` that `export` wrote of `network`.
        file_format: the format that it was written in.
        network: quantized, in eval mode, simulated.
        batches: pictures, [batch, channels, height, width] each; the first 16 are used.
        runtime: what runs the file: a twin that also returns the integers is judged, and must give the same logits.
    """
    exact = _exact_copy(network)
    total = LayerParity(0, 0, 0, 0.0, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        names = _write_with_inner_values(file, Path(folder, file.name))
        twin = open_runtime(Path(folder, file.name), file_format)
        for images in _pieces(batches):
            outputs = twin.outputs(images.numpy())
            inputs = defaultdict(list)
            for value, layer in names.items():
                inputs[layer].append(torch.from_numpy(outputs[value]).double())
            total = _sum(total, _compared(exact, images, inputs, [outputs[OUTPUT], runtime.run(images.numpy())]))
    return total


def _exact_copy(network: nn.Module) -> nn.Module:
    """Return a copy of a network in float64 whose weights have the integers that float32 gives them, as the file has.

    A weight on the edge between two integers may be on the other side of it in float64.
    """
    layers, exact = {layer.name: layer for layer in integer_layers(network).values()}, copy_of(network).double()
    for name, quantized in quantized_layers(exact):
        if name in layers:
            layer = layers[name]
            integers, steps = (torch.from_numpy(x).double() for x in (layer.integers, layer.weight_step))
            weight = integers * spread_over(integers, steps, layer.channel_axis)
            quantized.weight_quantizer.register_forward_hook(lambda quantizer, values, output, weight=weight: weight)
    return exact


def _write_with_inner_values(file: Path, target: Path) -> dict[str, str]:
    """Write a file whose outputs are also the quantized inputs of all layers; return the layer of each, by output."""
    model = onnx.load(file)
    names = {}
    for node in model.graph.node:
        layer = layer_of_input(node.name)
        if layer is not None:
            names[node.output[0]] = layer
            model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None))
    onnx.save(model, target)
    return names


def _pieces(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    left = _MOST_PICTURES
    for batch in batches:
        yield from batch[:left].split(_PICTURES_AT_ONCE)
        left -= len(batch[:left])
        if not left:
            return


def _compared(
    exact: nn.Module, images: Tensor, inputs: Mapping[str, list[Tensor]], logits: Sequence[np.ndarray]
) -> LayerParity:
    """Run a network on the runtime's integers: each layer takes those in the place of its own, which are compared.

    Args:
        inputs: of each layer the values on its grid that the runtime had, one tensor for each time that it runs.
        logits: of the file and of its twin, [batch, classes] each.
    """
    counts = LayerParity(len(images), 0, 0, 0.0, 0.0)

    def replace_input(step: Tensor, value: Tensor, quantized: Tensor, of_runtime: Tensor) -> Tensor:
        """Compare a layer's input on its grid with the runtime's, and return the runtime's."""
        nonlocal counts
        ours, theirs = torch.round(quantized / step), torch.round(of_runtime / step)
        others = ours != theirs
        between = (ours + theirs)[others] / 2
        # Further than to the neighbour is further than to the edge.
        distance = (value / step)[others].sub(between).abs().max().item() if others.any() else 0.0
        counts = replace(
            counts,
            integers=counts.integers + ours.numel(),
            other_integers=counts.other_integers + int(others.sum()),
            farthest_from_edge=_larger(counts.farthest_from_edge, distance),
        )
        return theirs * step

    with ExitStack() as stack, torch.inference_mode():
        for name, layer in quantized_layers(exact):
            if layer.bits is None:
                continue
            step, runs = layer.activation_quantizer.step_of(layer.bits.activation), list(inputs[name])
            hook = layer.activation_quantizer.register_forward_hook(
                lambda quantizer, values, output, step=step, runs=runs: replace_input(
                    step, values[0], output, runs.pop(0)
                )
            )
            stack.callback(hook.remove)
        expected = exact(images.double())
        first, second = ((expected - torch.from_numpy(found)).abs().max().item() for found in logits)
    return replace(counts, largest_difference=_larger(first, second))


def _sum(first: LayerParity, second: LayerParity) -> LayerParity:
    return LayerParity(
        first.pictures + second.pictures,
        first.integers + second.integers,
        first.other_integers + second.other_integers,
        _larger(first.farthest_from_edge, second.farthest_from_edge),
        _larger(first.largest_difference, second.largest_difference),
    )


def _larger(first: float, second: float) -> float:
    """Return the larger number, and not a number if one of them is none, which Python's `max` may drop."""
    return float(np.maximum(first, second))
