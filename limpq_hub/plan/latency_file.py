"""A latency table as a CSV file: one line per layer and bit-widths, with the time that was measured of it."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from limpq_hub.errors import BudgetError, shown

COLUMNS = ("layer", "weight_bits", "activation_bits", "time")


def read_latency_table(path: str | os.PathLike[str]) -> dict[str, dict[tuple[int, int], float]]:
    """Return {layer: {(weight bits, activation bits): time}} of a CSV file whose first line names `COLUMNS`.

    Raises:
        BudgetError: the file cannot be read, a column is missing, a line is malformed, or a layer has two times at the
            same bits.
    """
    name = f"latency table {shown(str(path))}"
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise BudgetError(
            f"{name} cannot be read ({error}); give a CSV file with the columns {','.join(COLUMNS)}"
        ) from None
    heading = [column.strip() for column in lines[0]] if lines else []
    missing = [column for column in COLUMNS if column not in heading]
    if missing:
        raise BudgetError(f"{name} has no column {', '.join(missing)}; its first line must be {','.join(COLUMNS)}")
    places = [heading.index(column) for column in COLUMNS]
    table: dict[str, dict[tuple[int, int], float]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        try:
            if len(line) != len(heading):
                raise ValueError
            layer, weight, activation, time = (line[place] for place in places)
            bits, taken = (int(weight), int(activation)), float(time)
        except (IndexError, ValueError):
            raise BudgetError(
                f"{name}, line {number}: {shown(','.join(line))} is not a layer, two whole numbers of bits and a time; "
                "write for example layer1.0.conv1,4,4,0.21"
            ) from None
        of_layer = table.setdefault(layer, {})
        if bits in of_layer:
            raise BudgetError(f"{name}, line {number}: a second time of layer {shown(layer)} at these bits; remove one")
        of_layer[bits] = taken
    if not table:
        raise BudgetError(f"{name} holds no times; add lines such as layer1.0.conv1,4,4,0.21")
    return table
