"""Top-1 of a policy by each way of computing it, and how far the ways differ, picture by picture.

    python tests/benchmarks/integer_agreement.py --data TINY/val --bitops 3G w4a4 w3a3 1.5G --output out/agreement.json
    ONEDNN_MAX_CPU_ISA=AVX2 python tests/benchmarks/integer_agreement.py --data TINY/val --no-vnni ...

Each way is compared with the simulation as it was trained: what `load` returns (batch normalizations folded), integers
in torch, and the file for OpenVINO. Shown are top-1 in percent, the share of pictures with the same class, and that of
the pictures whose logits are all within 1e-4. What must hold (top-1 within 0.05 points, 99.5 % of the classes, of
integers 90 % of the logits) makes the command fail where it does not; `--count` takes fewer pictures, for a trial.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import limpq_hub
from limpq_hub.deploy.layer_formats import QuantizeDequantize
from limpq_hub.deploy.network_graph import network_graph
from limpq_hub.deploy.parity import FEWEST_AGREEING, FEWEST_SAME_ROWS, SAME_LOGITS
from limpq_hub.deploy.processor import cpu_name
from limpq_hub.deploy.runtimes import open_runtime
from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.pictures.reading import read_picture
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.quant.integer_layers import has_vnni
from limpq_hub.train.data.picture_files import pictures_below
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.network import NetworkSpec

BATCH = 50
MOST_POINTS = 0.05
AS_TRAINED = "simulated as trained"


Run = Callable[[np.ndarray], np.ndarray]


def labelled_pictures(entry: Entry, folder: Path, count: int | None) -> tuple[list[np.ndarray], np.ndarray]:
    """Return batches of pictures, float32 [batch, 3, height, width], and the class index of each picture."""
    names = [name for name in pictures_below(str(folder)).names if "/" in name]
    random.Random(0).shuffle(names)
    names = names[:count]
    index_of = {of_class["id"]: index for index, of_class in enumerate(entry.classes)}
    prepare = preparation_of(NetworkSpec.from_config(entry.folder.config, entry.name))
    read: list[Tensor] = [
        prepare(read_picture(folder / name))
        for name in track(names, "reading", console=Console(stderr=True), transient=True)
    ]
    batches = [batch.numpy() for batch in torch.stack(read).split(BATCH)]
    return batches, np.array([index_of[name.partition("/")[0]] for name in names])


def figures(logits: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return what is shown of a way.

    Args:
        logits, expected: [pictures, classes], of the way and of the simulation as it was trained.
        labels: class indices, [pictures].
    """
    difference = np.abs(logits - expected).max(1)
    return {
        "top1": 100 * float((logits.argmax(1) == labels).mean()),
        "agreement": float((logits.argmax(1) == expected.argmax(1)).mean()),
        "same_rows": float((difference < SAME_LOGITS).mean()),
        "largest_difference": float(difference.max()),
    }


def ways(model: str, bitops: str, folder: Path, options: argparse.Namespace) -> dict[str, Callable[[], Run]]:
    """Return each way of computing a policy, made when it is called; the first is what the others are compared with."""

    def in_torch(network: nn.Module) -> Run:
        return torch.inference_mode()(lambda images: network(torch.from_numpy(images)).numpy())

    def exported() -> Run:
        network, file = limpq_hub.load(model, bitops=bitops), folder / "model.onnx"
        layer_format = QuantizeDequantize(without_vnni=options.no_vnni or not has_vnni())
        graph = network_graph(thaw_(network), network.limpq.network.input_shape, layer_format, {})
        file.write_bytes(graph.SerializeToString())
        return open_runtime(file, "openvino", threads=options.threads).run

    return {
        AS_TRAINED: lambda: in_torch(thaw_(limpq_hub.load(model, bitops=bitops))),
        "simulated": lambda: in_torch(limpq_hub.load(model, bitops=bitops)),
        "integers, torch": lambda: in_torch(limpq_hub.load(model, bitops=bitops, arithmetic="integer")),
        "integers, OpenVINO": exported,
    }


def main() -> None:
    """Print a table for each policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pictures in a folder for each class, named by its id")
    parser.add_argument("--model", default="resnet18", help="entry of the zoo")
    parser.add_argument("--bitops", nargs="+", default=["3G"], help="budgets that it has fine-tuned policies for")
    parser.add_argument("--count", type=int, help="how many pictures, drawn by a fixed seed; all if not given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-vnni", action="store_true", help="keep weights of 8 bits in float in the OpenVINO file")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    entry = find_entry(options.model)
    batches, labels = labelled_pictures(entry, options.data, options.count)
    measured: dict[str, dict[str, dict[str, float]]] = {}
    failed = []
    for bitops in options.bitops:
        logits: dict[str, np.ndarray] = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, make in ways(options.model, bitops, Path(folder), options).items():
                run = make()
                logits[name] = np.concatenate([run(batch) for batch in batches])
        of_ways = {name: figures(found, logits[AS_TRAINED], labels) for name, found in logits.items()}
        measured[bitops] = of_ways
        table = Table("way", "top-1 %", "same class %", "within 1e-4 %", "largest difference", title=f"{bitops}")
        simulated = of_ways[AS_TRAINED]["top1"]
        for name, row in of_ways.items():
            shares = (f"{100 * row[key]:.2f}" for key in ("agreement", "same_rows"))
            table.add_row(name, f"{row['top1']:.2f}", *shares, f"{row['largest_difference']:.2g}")
            if (
                abs(row["top1"] - simulated) > MOST_POINTS
                or row["agreement"] < FEWEST_AGREEING
                or (name.startswith("integers") and row["same_rows"] < FEWEST_SAME_ROWS)
            ):
                failed.append(f"{name} at {bitops}")
        Console().print(table)
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "all that the CPU has")
    machine = f"{cpu_name()}, {options.threads} threads, {'with' if has_vnni() else 'without'} VNNI, oneDNN: {isa}"
    Console().print(f"{len(labels)} pictures; {machine}")
    if options.output:
        write_json(options.output, {"machine": machine, "pictures": len(labels), "figures": measured, "failed": failed})
    if failed:
        raise SystemExit(f"farther from the simulation than allowed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
