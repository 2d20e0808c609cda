"""Time of integer inference as a multiple of float inference: OpenVINO, ONNX Runtime and torch from one policy.

    python tests/benchmarks/integers.py                                   # ResNet-18 of the zoo at 3G, batches 1 and 16
    python tests/benchmarks/integers.py --architecture efficientnet_lite0 --input-size 224
    ONEDNN_MAX_CPU_ISA=AVX2 python tests/benchmarks/integers.py --no-vnni  # torch as on a CPU without VNNI

Every row runs the same images. The rows take turns, so that a slow moment of the machine falls on all of them; medians
are shown, and how many times faster each is than the float network in eager torch and in ONNX Runtime. "Simulated" is
what `load` returns, "simulated as trained" the same with its batch normalizations not folded. `--compile` adds rows by
torch.compile, `--output` writes everything as JSON.
`--architecture` takes random weights at 4/4 bits instead of an entry of the zoo: time does not depend on them.
`ONEDNN_MAX_CPU_ISA` holds torch and OpenVINO back, which both multiply by oneDNN.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import timm
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

import limpq_hub
from limpq_hub.deploy.float_graph import float_graph
from limpq_hub.deploy.formats import INPUT, OUTPUT, Format
from limpq_hub.deploy.forward_record import value_ranges
from limpq_hub.deploy.fused_graph import fused_graph
from limpq_hub.deploy.layer_formats import QuantizeDequantize
from limpq_hub.deploy.network_graph import network_graph
from limpq_hub.deploy.processor import cpu_name
from limpq_hub.deploy.runtimes import open_runtime
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import to_quantized
from limpq_hub.quant.frozen_layers import freeze_, thaw_
from limpq_hub.quant.integer_layers import has_vnni, run_in_integers_
from limpq_hub.quant.profile import profile_module
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_float_network

WARM_UP = 3
FLOAT_TORCH, FLOAT_ORT = "float, torch eager", "float, ONNX Runtime"
Run = Callable[[], object]


def networks(options: argparse.Namespace) -> tuple[nn.Module, nn.Module, int]:
    """Return the float network, the quantized one, and the input size in pixels."""
    if options.architecture is None:
        entry = find_entry(options.model)
        return (
            load_float_network(entry.folder),
            limpq_hub.load(options.model, bitops=options.bitops),
            entry.indicators.input_size,
        )
    torch.manual_seed(0)
    network = timm.create_model(options.architecture).eval()
    example = torch.randn(2, 3, options.input_size, options.input_size)
    policy = Policy.uniform(options.architecture, profile_module(network, example), 4)
    quantized = to_quantized(network, policy, example_input=example, step_start="lsq").eval().requires_grad_(False)
    freeze_(quantized, example.shape[1:])
    return network, quantized, options.input_size


def rows(options: argparse.Namespace, batch: int, folder: Path) -> dict[str, Run]:
    """Return what is to be timed, by name."""
    float_network, frozen, size = networks(options)
    quantized = thaw_(copy.deepcopy(frozen))
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    array, shape = images.numpy(), (3, size, size)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    content = float_graph(float_network, shape).SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    integer = copy.deepcopy(quantized)
    run_in_integers_(integer)
    exact = network_graph(quantized, shape, QuantizeDequantize(without_vnni=options.no_vnni or not has_vnni()), {})
    fast = fused_graph(quantized, shape, value_ranges(quantized, [images]), {})
    timed: dict[str, Run] = {
        FLOAT_TORCH: lambda: float_network(images),
        FLOAT_ORT: lambda: session.run([OUTPUT], {INPUT: array}),
        "simulated, torch eager": lambda: frozen(images),
        "simulated as trained, torch eager": lambda: quantized(images),
        "integers, torch": lambda: integer(images),
    }
    if options.compile:
        for name, network in (("float, torch.compile", float_network), ("simulated, torch.compile", frozen)):
            compiled = torch.compile(network, fullgraph=True)
            timed[name] = lambda compiled=compiled: compiled(images)
    formats: tuple[tuple[str, Format, bytes], ...] = (
        ("integers, OpenVINO, exact", "openvino", exact.SerializeToString()),
        ("integers, ONNX Runtime, approximate", "onnxruntime", fast.SerializeToString()),
    )
    for name, file_format, content in formats:
        file = folder / f"{file_format}.onnx"
        file.write_bytes(content)
        runtime = open_runtime(file, file_format, threads=options.threads)
        timed[name] = lambda runtime=runtime: runtime.run(array)
    return timed


@torch.inference_mode()
def medians(timed: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each row, all taking turns."""
    times: dict[str, list[float]] = {name: [] for name in timed}
    for index in track(range(WARM_UP + rounds), console=Console(stderr=True), transient=True):
        for name, run in timed.items():
            began = time.perf_counter()
            run()
            if index >= WARM_UP:
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(of_row) for name, of_row in times.items()}


def main() -> None:
    """Print a table for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="entry of the zoo, with its float network")
    parser.add_argument("--bitops", default="3G", help="budget of the entry")
    parser.add_argument("--architecture", help="timm architecture with random weights, instead of an entry")
    parser.add_argument("--input-size", type=int, default=224, help="of --architecture, height and width in pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="how many images at once")
    parser.add_argument("--threads", type=int, default=2, help="of each runtime")
    parser.add_argument("--rounds", type=int, default=30, help="how often each row runs")
    parser.add_argument("--no-vnni", action="store_true", help="keep weights of 8 bits in float in the OpenVINO file")
    parser.add_argument(
        "--compile", action="store_true", help="rows by torch.compile too; takes a compiler and minutes"
    )
    parser.add_argument("--output", type=Path, help="write all medians and what they were measured on, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "all that the CPU has")
    machine = (
        f"{cpu_name()}, {options.threads} threads, torch {'with' if has_vnni() else 'without'} VNNI, oneDNN: {isa}"
    )
    Console().print(machine)
    milliseconds_of: dict[int, dict[str, float]] = {}
    for batch in options.batches:
        with tempfile.TemporaryDirectory() as folder:
            taken = milliseconds_of[batch] = medians(rows(options, batch, Path(folder)), options.rounds)
        table = Table("row", "ms", "x float torch", "x float ONNX Runtime", title=f"batch {batch}")
        for name, milliseconds in taken.items():
            ratios = (f"{taken[plain] / milliseconds:.2f}" for plain in (FLOAT_TORCH, FLOAT_ORT))
            table.add_row(name, f"{milliseconds:.2f}", *ratios)
        Console().print(table)
    if options.output:
        measured_on = {"machine": machine, "torch": torch.__version__, **vars(options), "output": str(options.output)}
        write_json(options.output, measured_on | {"milliseconds": {str(b): ms for b, ms in milliseconds_of.items()}})


if __name__ == "__main__":
    main()
