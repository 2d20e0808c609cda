"""A table of what each layer takes at its bits as a numpy file: layers x 8 weight bits x 8 activation bits."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from limpq_hub.errors import BudgetError, quoted
from limpq_hub.plan.costs import FLOAT, Costs
from limpq_hub.plan.input_file import read_regular
from limpq_hub.plan.layer_table_file import LARGEST_ENTRY, SMALLEST_ENTRY, EntryWords, LayerTable

_BITS = range(1, 9)
_MAGIC = b"\x93NUMPY"
_KEYS = {
    "descr": re.compile(r"'descr': *'([ -&(-~]{1,16})'"),
    "fortran_order": re.compile(r"'fortran_order': *(True|False)"),
    "shape": re.compile(r"'shape': *\(((?:[0-9]{1,18}(?:, *|(?=\))))*)\)"),
}
# Integers and floats of 8 to 64 bits, in either order of bytes.
_NUMBERS = re.compile(r"[<>|=]?(?:[iu][1248]|f[248])")


@dataclass(frozen=True)
class LayerArray:
    """What layers take that have a place in the order of execution, and no name.

    Attributes:
        name: what to call the table in an error.
        entries: [layers][weight bits - 1][activation bits - 1].
    """

    name: str
    entries: tuple[tuple[tuple[float, ...], ...], ...]

    def named(self, costs: Costs) -> LayerTable:
        """Return the table by the names of the layers of a network: of all that have bits, or of the searched ones.

        Raises:
            BudgetError: the table has another number of layers.
        """
        every = [name for name, cost in costs.items() if cost.fixed != FLOAT]
        searched = [name for name in every if costs[name].fixed is None]
        names = next((names for names in (every, searched) if len(names) == len(self.entries)), None)
        if names is None:
            raise BudgetError(
                f"{self.name} has {len(self.entries)} layers, the network {len(every)}, of which {len(searched)} are "
                "searched; give a table of one of these numbers, in the order of execution, or a CSV file with names"
            )
        return {
            name: {
                (weight, activation): of_layer[weight - 1][activation - 1] for weight in _BITS for activation in _BITS
            }
            for name, of_layer in zip(names, self.entries, strict=True)
        }


def read_layer_array(path: str | os.PathLike[str], words: EntryWords) -> LayerArray:
    """Return the table in a file that `numpy.save` wrote.

    Raises:
        BudgetError: the file cannot be read, or is not an array of finite numbers from 0, [layers, 8, 8].
    """
    import numpy as np  # here, because its import takes time and few searches read such a table

    name = f"{words.table} table {quoted(str(path))}"
    advice = "give an array [layers, 8, 8], saved by numpy.save"
    try:
        content = read_regular(path)
        header, numbers = _parts(content)
        kind, in_columns, shape = _described(header)
    except (OSError, ValueError) as error:
        raise BudgetError(f"{name} cannot be read ({str(error)[:100]}); {advice}") from None
    if not _NUMBERS.fullmatch(kind) or len(shape) != 3 or shape[1:] != (8, 8):
        raise BudgetError(f"{name} holds {kind} {list(shape)}; {advice}")
    dtype = np.dtype(kind)
    if len(numbers) != math.prod(shape) * dtype.itemsize:
        raise BudgetError(
            f"{name} has {len(numbers):,} bytes of numbers, and {kind} {list(shape)} takes "
            f"{math.prod(shape) * dtype.itemsize:,}; is the file whole? {advice}"
        )
    # In float64 before they are compared: in fewer bits the largest number allowed is infinite.
    array = np.frombuffer(numbers, dtype).reshape(shape, order="F" if in_columns else "C").astype(np.float64)
    if not ((array == 0) | ((array >= SMALLEST_ENTRY) & (array <= LARGEST_ENTRY))).all():
        raise BudgetError(
            f"{name} holds a number that is neither 0 nor from {SMALLEST_ENTRY:g} to {LARGEST_ENTRY:g}; {advice}"
        )
    return LayerArray(name, tuple(tuple(tuple(map(float, row)) for row in of_layer) for of_layer in array))


def _parts(content: bytes) -> tuple[str, bytes]:
    """Return the header of the content of a `.npy` file, and the bytes of its numbers.

    Raises:
        ValueError: it is none.

    Source: `numpy.lib.format`, versions 1 to 3.
    """
    if not content.startswith(_MAGIC):
        raise ValueError("it does not begin like a file of numpy.save")
    length_bytes = 2 if content[len(_MAGIC) :][:1] == b"\x01" else 4
    begin = len(_MAGIC) + 2 + length_bytes
    end = begin + int.from_bytes(content[begin - length_bytes : begin], "little")
    if end > len(content):
        raise ValueError("it ends in its header")
    return content[begin:end].decode("utf-8"), content[end:]


def _described(header: str) -> tuple[str, bool, tuple[int, ...]]:
    """Return the type of the numbers in a header, whether the first index changes fastest, and the shape.

    Raises:
        ValueError: it has another form; what it holds is not evaluated.
    """
    found = {key: pattern.findall(header) for key, pattern in _KEYS.items()}
    if any(len(values) != 1 for values in found.values()):
        raise ValueError("its header does not describe one array of plain numbers")
    (kind,), (in_columns,), (shape,) = found.values()
    return kind, in_columns == "True", tuple(int(length) for length in re.findall("[0-9]{1,18}", shape))
