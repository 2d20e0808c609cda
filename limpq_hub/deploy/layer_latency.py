"""How long each layer of a network takes at its bits, measured one by one, for a search within a time."""

from __future__ import annotations

import csv
import io
import itertools
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from limpq_hub.deploy.layer_formats import QuantizeDequantize
from limpq_hub.deploy.network_graph import network_graph
from limpq_hub.deploy.openvino_core import openvino_core
from limpq_hub.deploy.processor import cpu_name
from limpq_hub.deploy.runtimes import OPENVINO_SETTINGS
from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.costs import FLOAT
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.convert import build_supernet
from limpq_hub.quant.integer_layers import has_vnni
from limpq_hub.quant.layers import QuantLayer
from limpq_hub.quant.tracing.quantizable import layers_of
from limpq_hub.quant.watched_inputs import watched_inputs
from limpq_hub.zoo.network import NetworkSpec

_WARM_UP = 3
# Operators for the input and the output of the network; their time is no layer's.
_ENDS = ("Parameter", "Input", "Result", "Output")


@dataclass(frozen=True)
class LatencyTable:
    """Times of one image.

    Attributes:
        milliseconds: of each layer at its bits, by name.
        runtime: what ran, with its version.
        cpu: name of the processor.
    """

    milliseconds: Mapping[str, Mapping[LayerBits, float]]
    runtime: str
    cpu: str

    def to_csv(self) -> str:
        """Return the table as `limpq_hub.search` reads it, with runtime and processor in every line."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["layer", "weight_bits", "activation_bits", "time", "unit", "runtime", "cpu"])
        for name, times in self.milliseconds.items():
            for bits, time in times.items():
                writer.writerow([name, bits.weight, bits.activation, f"{time:.6g}", "ms", self.runtime, self.cpu])
        return text.getvalue()


def measure_layers(
    indicators: Indicators,
    spec: NetworkSpec,
    *,
    rounds: int = 30,
    threads: int | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> LatencyTable:
    """Return how long OpenVINO takes for each layer at each of its bits, one image at a time.

    A layer is measured with the quantization of its input, its output in float; weights of 8 bits as `limpq_hub.export`
    writes them on this CPU, which is in float where it has no VNNI. All bits of a layer take turns, so that
    a slow moment of the machine falls on all of them; the median counts. Layers of the same shape are measured once;
    a layer that runs several times takes the time of all its calls.

    Args:
        indicators: of the network, for its layers and their candidate bit-widths.
        spec: the network.
        rounds: how often each is run.
        threads: how many to use; as many as OpenVINO takes if None.
        tell: is called with how many shapes are done, and of how many.

    Raises:
        UnsupportedLayerError: the network multiplies something that no exported layer does, or a function of its own
            takes the weight of a layer, which is then never called.
    """
    import openvino

    network = spec.build()
    supernet = build_supernet(network, indicators.costs, indicators.candidates, spec.input_shape).eval()
    pairs = [LayerBits(*pair) for pair in itertools.product(indicators.candidates, repeat=2)]
    shapes = _input_shapes(network, spec.input_shape, indicators)
    alike = {
        name: [f"{supernet.get_submodule(name)} {shape}" for shape in of_calls] for name, of_calls in shapes.items()
    }
    different = {key for keys in alike.values() for key in keys}
    timed: dict[str, dict[LayerBits, float]] = {}
    for name, of_calls in shapes.items():
        for key, shape in zip(alike[name], of_calls, strict=True):
            if key not in timed:
                fixed = indicators.costs[name].fixed
                layer = cast(QuantLayer, supernet.get_submodule(name))
                timed[key] = _times(layer, pairs if fixed is None else [fixed], shape, rounds, threads)
                tell(len(timed), len(different))
    measured = {
        name: {bits: sum(timed[key][bits] for key in keys) for bits in timed[keys[0]]} for name, keys in alike.items()
    }
    return LatencyTable(measured, f"OpenVINO {openvino.__version__.split('-')[0]}", cpu_name())


@torch.no_grad()
def _input_shapes(
    network: nn.Module, input_shape: tuple[int, ...], indicators: Indicators
) -> dict[str, list[tuple[int, ...]]]:
    """Return the shape of the input at each call of each layer that has bits, without the batch."""
    names = [name for name, cost in indicators.costs.items() if cost.fixed != FLOAT]
    products = [name for name in names if indicators.costs[name].is_product]
    if products:
        raise UnsupportedLayerError(f"{products[0]} is a product of two activations: only layers can be measured")
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}

    # Of layers that share a weight the first has all calls, as it has their MACs.
    first: dict[int, str] = {}
    tied = {name: first.setdefault(id(layer.weight), name) for name, layer in layers_of(network)}
    # A layer whose weight is computed anew at each call is not among these.
    owner_of = {name: name for name in names} | {name: owner for name, owner in tied.items() if owner in shapes}

    def note_shape(name: str, layer: nn.Module, x: Tensor) -> None:
        """Note the shape of the input of a layer."""
        shapes[owner_of[name]].append(tuple(x.shape[1:]))

    with watched_inputs({name: network.get_submodule(name) for name in owner_of}, note_shape):
        network(torch.zeros(1, *input_shape))
    never_called = [name for name, of_calls in shapes.items() if not of_calls]
    if never_called:
        raise UnsupportedLayerError(
            f"layer {never_called[0]!r} is never called, another function takes its weight: it cannot be measured; "
            "call the layer itself in forward()"
        )
    return shapes


def _times(
    layer: QuantLayer, pairs: Sequence[LayerBits], shape: tuple[int, ...], rounds: int, threads: int | None
) -> dict[LayerBits, float]:
    """Return the median time of a layer at each pair of bits, in milliseconds, all taking turns."""
    times: dict[LayerBits, list[float]] = {bits: [] for bits in pairs}
    with tempfile.TemporaryDirectory() as folder:
        requests = {}
        for index, bits in enumerate(pairs):
            layer.set_bits_(bits)
            requests[bits] = profiled_request(Path(folder, f"{index}.onnx"), nn.Sequential(layer), shape, threads)
        for index in range(_WARM_UP + rounds):
            for bits, request in requests.items():
                request.infer()
                if index >= _WARM_UP:
                    times[bits].append(sum(milliseconds_by_operator(request).values()))
    return {bits: statistics.median(of_bits) for bits, of_bits in times.items()}


def profiled_request(file: Path, network: nn.Module, shape: tuple[int, ...], threads: int | None) -> Any:
    """Return OpenVINO's request for one image of zeros, which tells how long each operator took.

    Args:
        file: where the exported network is written.
        network: on the CPU, in eval mode; not frozen.
        shape: (channels, height, width) of the image.
        threads: how many to use; as many as OpenVINO takes if None.
    """
    import openvino

    file.write_bytes(
        network_graph(network, shape, QuantizeDequantize(without_vnni=not has_vnni()), {}).SerializeToString()
    )
    core = openvino_core()
    # The time that each operator takes: what Python needs to start them is no part of a network.
    settings: dict[str, Any] = {**OPENVINO_SETTINGS, "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.zeros((1, *shape), np.float32)))
    return request


def milliseconds_by_operator(request: Any) -> dict[str, float]:
    """Return how long each operator of a request took when it ran last, by its name; not those of the two ends."""
    return {
        operator.node_name: operator.real_time.total_seconds() * 1000
        for operator in request.profiling_info
        if operator.node_type not in _ENDS
    }
