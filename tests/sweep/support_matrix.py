"""What can be done with a network of each of timm's families, step by step: the table of the sweep, and exported files.

    python tests/sweep/support_matrix.py --output training/results/support_matrix.md

What was counted, trained, packed and loaded is read from the table that `network_sweep.py` wrote. Whether the network
can be written as integers is tried here. No runtime is asked: of random weights the logits tell nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import timm
import torch
from rich.progress import track

from limpq_hub import Policy
from limpq_hub.deploy.integer_layer import integer_layers
from limpq_hub.deploy.layer_formats import QuantizeDequantize
from limpq_hub.deploy.network_graph import network_graph
from limpq_hub.deploy.parity import check_integers
from limpq_hub.deploy.read_back import read_layers
from limpq_hub.errors import LimpqError
from limpq_hub.quant.convert import architecture_of, to_quantized
from limpq_hub.quant.network_check import check_network
from limpq_hub.zoo.timm_network import timm_network

TABLE = Path(__file__).parents[2] / "training" / "results" / "timm_networks.md"
STEPS = ("counted", "at few bits", "joint step", "packed, loaded", "written as integers")
NOT_TRIED, YES, NO = "not tried", "yes", "no"


@dataclass(frozen=True)
class SweptRow:
    """A row of the table of the sweep.

    Attributes:
        input_size: height and width in pixels.
        cosine: of the logits at 8/8 bits to those in float, as written; empty where that was not tried.
        remarks: what the sweep says of the network, empty where there is nothing to say.
    """

    family: str
    network: str
    input_size: int
    cosine: str
    remarks: str

    @property
    def steps(self) -> list[str]:
        """How far the sweep got, in the order of `STEPS` but for the last: each yes, no, "in part" or "not tried"."""
        if self.remarks.startswith(("refused", "failed")):
            return [NO] * 4
        if not self.cosine:
            return [YES, *[NOT_TRIED] * 3]
        joint = "in part" if "no gradient" in self.remarks else YES
        return [YES, YES, joint, NO if "other logits after loading" in self.remarks else YES]


def rows_of(table: str) -> list[SweptRow]:
    """Return the rows of the table of a sweep."""
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")] for line in lines]
    return [SweptRow(row[0], row[1], int(row[2]), row[7], row[8]) for row in cells]


def tried_export(name: str, input_size: int) -> str:
    """Return "yes" where a network can be written as ONNX and its integers read back bit for bit, else why not."""
    torch.manual_seed(0)
    network = timm_network(name, input_size=input_size, pretrained=False, num_classes=10).eval()
    shape = (3, input_size, input_size)
    policy = Policy.uniform(architecture_of(network), check_network(network, shape).costs, 8)
    quantized = to_quantized(network, policy, example_input=torch.randn(1, *shape)).eval()
    try:
        graph = network_graph(quantized, shape, QuantizeDequantize(without_vnni=False), {})
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.onnx")
            file.write_bytes(graph.SerializeToString())
            check_integers(list(integer_layers(quantized).values()), read_layers(file))
    except LimpqError as error:
        return str(error)
    return YES


def document(rows: Sequence[SweptRow], exports: Mapping[str, str], command: str) -> str:
    """Return the matrix.

    Args:
        exports: what `tried_export` found, by family.
    """
    steps = {row.family: [*row.steps, _short(exports.get(row.family, NOT_TRIED))] for row in rows}
    counts = [sum(of_family[place] == YES for of_family in steps.values()) for place in range(len(STEPS))]
    lines = [
        "# What works with which networks",
        "",
        f"`{command}`, {date.today()}, timm {timm.__version__}, CPU.",
        "",
        "One network of each of timm's families, with random weights. `limpq check NAME` says of any network in",
        "seconds what of it would be searched.",
        "",
        "- *counted*: every multiplication is found, and budgets are known;",
        "- *at few bits*: the network runs with quantized weights and activations;",
        "- *joint step*: every step size of what is searched is learned, so that there is importance to search in;",
        "- *packed, loaded*: the checkpoint on the disk gives the same logits;",
        "- *written as integers*: `limpq export` can write all that it computes, and the integers are read back the",
        "  same; whether a runtime gives the same logits, it checks each time, with the weights that matter.",
        "",
        f"The first four are those of [the sweep](timm_networks.md). All {len(rows)} families:",
        "",
        f"| {' | '.join(('', *STEPS))} |",
        f"|{'---|' * (len(STEPS) + 1)}",
        f"| families | {' | '.join(map(str, counts))} |",
        "",
        f"| {' | '.join(('family', 'network', *STEPS, 'what to know'))} |",
        f"|{'---|' * (len(STEPS) + 3)}",
        *(_row(row, steps[row.family], exports.get(row.family, NOT_TRIED)) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _short(exported: str) -> str:
    return exported if exported in (YES, NOT_TRIED) else NO


def _row(row: SweptRow, steps: Sequence[str], exported: str) -> str:
    remarks = [row.remarks] if row.remarks else []
    if _short(exported) == NO:
        remarks.append(f"export: {exported.partition(': ')[0]}")
    cells = [row.family, row.network, *steps, "; ".join(remarks)]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def main() -> None:
    """Try the exports that are not on record, and write the matrix."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--records", type=Path, help="file of one JSON line a network; what it has is not tried again")
    options = parser.parse_args()
    rows = rows_of(TABLE.read_text())
    exports: dict[str, str] = {}
    if options.records and options.records.is_file():
        exports = dict(map(json.loads, options.records.read_text().splitlines()))
    for row in track([row for row in rows if row.steps[1] == YES and row.family not in exports], "exports"):
        exports[row.family] = tried_export(row.network, row.input_size)
        if options.records:
            with options.records.open("a") as file:
                file.write(json.dumps([row.family, exports[row.family]]) + "\n")
    command = f"python tests/sweep/support_matrix.py --output {options.output}"
    options.output.write_text(document(rows, exports, command))


if __name__ == "__main__":
    main()
