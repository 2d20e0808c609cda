"""`limpq check` of every network that timm can name: how many are counted as PyTorch's flop counter counts them.

    python tests/benchmarks/check_every_network.py --output networks.jsonl

Writes a line for each network as soon as it is checked; what the file has already is not checked again. Everything runs
on the meta device: no network is computed, and none takes memory.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
import traceback
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import timm
import torch
from rich.progress import track
from torch import nn

from limpq_hub.errors import LimpqError
from limpq_hub.quant.convert import build_supernet
from limpq_hub.quant.network_check import NetworkCheck, check_network, flop_counter_macs
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.zoo.meta_network import input_shape_of, network_on_meta


def main() -> None:
    """Check what is not checked yet, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True, help="file of one JSON line a network")
    parser.add_argument("--processes", type=int, default=2, help="how many networks are checked at once")
    parser.add_argument("--only", default="*", help="shell pattern of the names to check")
    parser.add_argument("--convert", action="store_true", help="count the converted networks too, their quantizers off")
    parser.add_argument("--again", action="store_true", help="check those again that did not pass")
    options = parser.parse_args()
    records = records_in(options.output)
    if options.again:
        records = {name: record for name, record in records.items() if record["outcome"] == "equal"}
    names = [name for name in timm.list_models() if name not in records and fnmatchcase(name, options.only)]
    random.Random(0).shuffle(names)  # so that the first ones are a fair sample of all
    with ProcessPoolExecutor(options.processes) as processes, options.output.open("a") as file:
        running = [processes.submit(checked, name, convert=options.convert) for name in names]
        for done in track(as_completed(running), "networks", total=len(running)):
            record = done.result()
            file.write(json.dumps(record) + "\n")
            file.flush()
    print_summary(records_in(options.output))


def records_in(path: Path) -> dict[str, dict[str, Any]]:
    """Return what the lines of a file say, by the name of the network; of two lines the last."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {record["name"]: record for record in map(json.loads, lines)}


def checked(name: str, *, convert: bool = False) -> dict[str, Any]:
    """Return what a check says of a network: "equal" or "unequal" counts, "refused", or an "error" of another kind.

    Args:
        convert: whether the flop counter counts the network again after its conversion.
    """
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        network = network_on_meta(name)
        check = check_network(network, input_shape_of(network))
        counts = {check.flop_counter_macs, *([converted_macs(network, check)] if convert else [])}
    except LimpqError as error:
        found: dict[str, Any] = {"outcome": "refused", "reason": str(error)}
    except Exception as error:  # what must never happen is what this looks for
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        found = {"outcome": "error", "reason": reason}
    else:
        found = {
            "outcome": "equal" if counts == {check.macs} else "unequal",
            "converted": convert,
            "macs": check.macs,
            "flop_counter_macs": check.flop_counter_macs,
            "searched": len(check.searched),
            "products": len(check.of_kind("product")),
            "float_macs": sum(cost.macs for cost in check.of_kind("float").values()),
            "float": list(check.of_kind("float")),
            "uncalled": list(check.uncalled),
        }
    return {"name": name, **found, "seconds": round(time.perf_counter() - start, 2)}


def converted_macs(network: nn.Module, check: NetworkCheck) -> int:
    """Return what the flop counter counts of a supernet of the network: all is multiplied, along other ways."""
    supernet = build_supernet(network, check.costs, (2,), check.input_shape).eval().requires_grad_(False)
    for _, quantized in quantized_layers(supernet):
        quantized.set_bits_(None)  # without values there are no steps to quantize with
    return flop_counter_macs(supernet, check.input_shape)


def print_summary(records: dict[str, dict[str, Any]]) -> None:
    """Print how many passed, and the others by their reasons."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, record in records.items():
        if record["outcome"] != "equal":
            reason = re.sub(r"[\d.]+", "N", record.get("reason", "counts differ"))
            groups[f"{record['outcome']}: {reason}"].append(name)
    equal = sum(record["outcome"] == "equal" for record in records.values())
    share = 100 * equal / max(1, len(records))
    print(f"timm {timm.__version__}, torch {torch.__version__}: {len(records)} networks checked")
    print(f"{equal} ({share:.1f} %) pass with counts equal to the flop counter's")
    for reason, names in sorted(groups.items(), key=lambda group: -len(group[1])):
        print(f"\n{len(names)} x {reason}\n    {', '.join(names)}")
    slowest = sorted(records.values(), key=lambda record: -record["seconds"])[:10]
    print("\nslowest: " + ", ".join(f"{record['name']} {record['seconds']} s" for record in slowest))


if __name__ == "__main__":
    main()
