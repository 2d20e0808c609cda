"""A table of what each layer takes at its bits as a CSV file: one line per layer and bit-widths, as it was measured."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from limpq_hub.errors import BudgetError, quoted
from limpq_hub.plan.input_file import read_regular
from limpq_hub.plan.quantities import decimal_number

# Python itself would read "1_0" and full-width digits too.
_WHOLE = re.compile(r"[0-9]+")

# {layer: {(weight bits, activation bits): what it takes}}
LayerTable = Mapping[str, Mapping[tuple[int, int], float]]
# Entries beyond these are taken for typing errors; sums of entries between them stay finite floats.
SMALLEST_ENTRY, LARGEST_ENTRY = 1e-100, 1e100


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
    lines = _lines(path, f"{name} cannot be read", f"give a CSV file with the columns {','.join(columns)}")
    heading = [column.strip() for column in next(lines, [])]
    twice = [column for column in columns if heading.count(column) > 1]
    if twice:
        raise BudgetError(f"{name} has several columns {', '.join(twice)}; keep one")
    missing = [column for column in columns if column not in heading]
    if missing:
        raise BudgetError(f"{name} has no column {', '.join(missing)}; its first line must be {','.join(columns)}")
    places = [heading.index(column) for column in columns]
    table: dict[str, dict[tuple[int, int], float]] = {}
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        try:
            if len(line) != len(heading):
                raise ValueError
            layer, weight, activation, entry = (line[place] for place in places)
            bits, amount = (_whole(weight), _whole(activation)), decimal_number(entry.strip(" "))
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


def _whole(text: str) -> int:
    """Return a whole number of ASCII digits; raises `ValueError` for text that is none."""
    if not _WHOLE.fullmatch(text.strip(" ")):
        raise ValueError
    return int(text)


def _lines(path: str | os.PathLike[str], what: str, advice: str) -> Iterator[list[str]]:
    """Yield the columns of each line; not a list of all, of which 32 MiB of empty lines would make 2 GB."""
    try:
        yield from csv.reader(io.StringIO(read_regular(path).decode("utf-8-sig"), newline=""))
    except (OSError, ValueError, csv.Error) as error:
        raise BudgetError(f"{what} ({error}); {advice}") from None
