"""A budget in milliseconds and the milliseconds that come of it: measured table, search, policy, exported network.

    python tests/benchmarks/latency_budget.py --output out/latency.json   # ResNet-18 of the zoo by OpenVINO, batch 1

The table is that of `limpq measure-latency`. For budgets from the least that its times add up to, to what they add up
to at the most bits, the policy that `search(latency=...)` finds is exported, and all take turns in OpenVINO. Beside the
budget stand what the table adds up to for the policy, what its layers took in the network (convolutions and linear
layers with the quantization in front of them, as OpenVINO profiles them), all operators together, and the whole call
from Python.

The same budgets are searched by the table as numpy holds it, layers x 8 weight bits x 8 activation bits, as published
tables come: the policies are the same, or it fails. A CPU multiplies 8 bits whatever the policy says, so that there the
spread is that of the measurement; `--numpy TABLE.npy LIMIT` searches by a table of hardware that gains from few bits,
in whatever it counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import limpq_hub
from limpq_hub.deploy.layer_latency import LatencyTable, measure_layers, milliseconds_by_operator, profiled_request
from limpq_hub.deploy.runtimes import open_runtime
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.plan import Plan
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.loading import NotFineTunedWarning
from limpq_hub.zoo.network import NetworkSpec

WARM_UP = 3
# Operators of a layer, in the names that the file gives them.
OF_LAYERS = ("Convolution", "FullyConnected", "MatMul", "QuantizeLinear", "FakeQuantize", "Quantize")


def as_array(table: LatencyTable) -> np.ndarray:
    """Return the table as published ones are: [layers, 8, 8], 0 where nothing was measured."""
    array = np.zeros((len(table.milliseconds), 8, 8))
    for layer, times in zip(array, table.milliseconds.values(), strict=True):
        for bits, milliseconds in times.items():
            layer[bits.weight - 1, bits.activation - 1] = float(f"{milliseconds:.6g}")  # as the CSV file has it
    return array


def budgets_of(table: LatencyTable, count: int) -> list[float]:
    """Return so many budgets in milliseconds from just above the least to that of the most bits."""
    least = sum(min(times.values()) for times in table.milliseconds.values())
    at_most_bits = (max(times, key=lambda bits: bits.weight + bits.activation) for times in table.milliseconds.values())
    most = sum(times[bits] for times, bits in zip(table.milliseconds.values(), at_most_bits, strict=True))
    return [round(float(budget), 4) for budget in np.linspace(least * 1.001, most * 1.001, count)]


def predicted(table: LatencyTable, plan: Plan) -> float:
    """Return what the times of a policy add up to, in milliseconds."""
    return sum(times[plan.policy.layers[name]] for name, times in table.milliseconds.items())


def measured(name: str, plans: list[Plan], rounds: int, threads: int) -> list[dict[str, float]]:
    """Return the median milliseconds of the exported network of each plan, all taking turns."""
    with tempfile.TemporaryDirectory() as folder:
        requests, runtimes, shape = [], [], (0, 0, 0)
        for index, plan in enumerate(plans):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotFineTunedWarning)
                model = thaw_(limpq_hub.load(name, policy=plan, weights="joint"))
            shape, file = model.limpq.network.input_shape, Path(folder, f"{index}.onnx")
            requests.append(profiled_request(file, model, shape, threads))
            runtimes.append(open_runtime(file, "openvino", threads=threads))
        image = np.zeros((1, *shape), np.float32)
        taken: list[dict[str, list[float]]] = [{"layers": [], "operators": [], "call": []} for _ in plans]
        for index in range(WARM_UP + rounds):
            for of_plan, request, runtime in zip(taken, requests, runtimes, strict=True):
                request.infer()
                operators = milliseconds_by_operator(request)
                types = {operator.node_name: operator.node_type for operator in request.profiling_info}
                began = time.perf_counter()
                runtime.run(image)
                call = (time.perf_counter() - began) * 1000
                if index >= WARM_UP:
                    of_layers = (ms for node, ms in operators.items() if types[node] in OF_LAYERS)
                    of_plan["layers"].append(sum(of_layers))
                    of_plan["operators"].append(sum(operators.values()))
                    of_plan["call"].append(call)
    return [{key: statistics.median(values) for key, values in of_plan.items()} for of_plan in taken]


def main() -> None:
    """Print a row for each budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="entry of the zoo")
    parser.add_argument("--budgets", type=int, default=5, help="how many, from the least to the most that is possible")
    parser.add_argument("--rounds", type=int, default=30, help="how often each layer and each network runs")
    parser.add_argument("--threads", type=int, default=2, help="of OpenVINO")
    parser.add_argument(
        "--numpy", nargs=2, metavar=("TABLE.npy", "LIMIT"), help="search by a table that numpy.save wrote, too"
    )
    parser.add_argument("--output", type=Path, help="write all of it as JSON")
    options = parser.parse_args()
    entry = find_entry(options.model)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    table = measure_layers(entry.indicators, spec, rounds=options.rounds, threads=options.threads)
    with tempfile.TemporaryDirectory() as folder:
        as_csv, as_numpy = Path(folder, "table.csv"), Path(folder, "table.npy")
        as_csv.write_text(table.to_csv())
        np.save(as_numpy, as_array(table))
        budgets = budgets_of(table, options.budgets)
        plans = [limpq_hub.search(options.model, latency=(as_csv, f"{budget}ms")) for budget in budgets]
        for plan, budget in zip(plans, budgets, strict=True):
            again = limpq_hub.search(options.model, latency=(as_numpy, f"{budget}ms"))
            if again.policy != plan.policy:
                raise SystemExit(f"at {budget} ms the numpy table gives another policy than the CSV table")
    rows: list[dict[str, Any]] = []
    shown = Table("budget", "the table adds up to", "layers took", "all operators", "the call", "W/A bits", title="ms")
    for plan, budget, took in zip(
        plans, budgets, measured(options.model, plans, options.rounds, options.threads), strict=True
    ):
        bits = torch.tensor([[b.weight, b.activation] for b in plan.policy.layers.values()]).float().mean(0).tolist()
        row = {"budget_ms": budget, "predicted_ms": predicted(table, plan), "mean_bits": bits}
        rows.append(row | {f"{key}_ms": value for key, value in took.items()} | {"bitops": plan.bitops})
        figures = (row["predicted_ms"], took["layers"], took["operators"], took["call"])
        shown.add_row(f"{budget:.3f}", *(f"{figure:.3f}" for figure in figures), f"{bits[0]:.1f}/{bits[1]:.1f}")
    Console().print(shown, f"{table.runtime} on {table.cpu}, {options.threads} threads, one image")
    if options.numpy:
        Console().print(f"{' '.join(options.numpy)}: {limpq_hub.search(options.model, latency=tuple(options.numpy))}")
    if options.output:
        write_json(
            options.output,
            {"runtime": table.runtime, "cpu": table.cpu, "threads": options.threads, "rounds": options.rounds}
            | {"model": options.model, "rows": rows},
        )


if __name__ == "__main__":
    main()
