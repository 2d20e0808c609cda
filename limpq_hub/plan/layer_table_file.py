"""A table of what each layer takes at its bits as a CSV file: one line per layer and bit-widths, as it was measured."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from limpq_hub.errors import BudgetError, quoted

# {layer: {(weight bits, activation bits): what it takes}}
LayerTable = Mapping[str, Mapping[tuple[int, int], float]]


@dataclass(frozen=True)
class EntryWords:
    """How the messages about a table call the table and what it holds of each layer.

    Attributes:
        table: name of the table: "latency".
        column: name of the column: "time".
        with_article: one entry: "a time".
        plural: several entries: "times".
    """

    table: str
    column: str
    with_article: str
    plural: str


def read_layer_table(path: str | os.PathLike[str], words: EntryWords) -> LayerTable:
    """Return the table in a CSV file whose first line names the columns, in any order.

    Raises:
        BudgetError: the file cannot be read, a column is missing, a line is malformed, or a layer has two entries at
            the same bits.
    """
    name = f"{words.table} table {quoted(str(path))}"
    columns = ("layer", "weight_bits", "activation_bits", words.column)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise BudgetError(
            f"{name} cannot be read ({error}); give a CSV file with the columns {','.join(columns)}"
        ) from None
    heading = [column.strip() for column in lines[0]] if lines else []
    missing = [column for column in columns if column not in heading]
    if missing:
        raise BudgetError(f"{name} has no column {', '.join(missing)}; its first line must be {','.join(columns)}")
    places = [heading.index(column) for column in columns]
    table: dict[str, dict[tuple[int, int], float]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        try:
            if len(line) != len(heading):
                raise ValueError
            layer, weight, activation, entry = (line[place] for place in places)
            bits, amount = (int(weight), int(activation)), float(entry)
        except (IndexError, ValueError):
            raise BudgetError(
                f"{name}, line {number}: {quoted(','.join(line))} is not a layer, two whole numbers of bits and "
                f"{words.with_article}; write for example layer1.0.conv1,4,4,0.21"
            ) from None
        of_layer = table.setdefault(layer, {})
        if bits in of_layer:
            raise BudgetError(
                f"{name}, line {number}: a second {words.column} of layer {quoted(layer)} at these bits; remove one"
            )
        of_layer[bits] = amount
    if not table:
        raise BudgetError(f"{name} holds no {words.plural}; add lines such as layer1.0.conv1,4,4,0.21")
    return table
