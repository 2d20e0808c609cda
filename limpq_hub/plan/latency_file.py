"""A latency table as a CSV file: one line per layer and bit-widths, with the time that was measured of it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from limpq_hub.errors import BudgetError, shown

COLUMNS = ("layer", "weight_bits", "activation_bits", "time")


def read_latency_table(path: str | os.PathLike[str]) -> dict[str, dict[tuple[int, int], float]]:
    """Return {layer: {(weight bits, activation bits): time}} of a CSV file whose first line names `COLUMNS`.

    Raises:
        BudgetError: a column is missing, a line is malformed, or a layer has two times at the same bits.
        OSError: the file cannot be read.
    """
    table: dict[str, dict[tuple[int, int], float]] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (lines.fieldnames or ())]
        if missing:
            raise BudgetError(f"{path}: no column {', '.join(missing)}; the first line must be {','.join(COLUMNS)}")
        for line in lines:
            where = f"{path}, line {lines.line_num}"
            try:
                bits, time = (int(line["weight_bits"]), int(line["activation_bits"])), float(line["time"])
            except (TypeError, ValueError):
                raise BudgetError(
                    f"{where}: {shown(','.join(str(line[column]) for column in COLUMNS))} is not a layer, two whole "
                    "numbers of bits and a time; write for example layer1.0.conv1,4,4,0.21"
                ) from None
            of_layer = table.setdefault(line["layer"], {})
            if bits in of_layer:
                raise BudgetError(
                    f"{where}: layer {shown(line['layer'])} at {bits[0]}/{bits[1]} bits again; remove one"
                )
            of_layer[bits] = time
    return table
