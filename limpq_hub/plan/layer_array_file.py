"""A table of what each layer takes at its bits as a numpy file: layers x 8 weight bits x 8 activation bits."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass

from limpq_hub.errors import BudgetError, quoted
from limpq_hub.plan.costs import FLOAT, Costs
from limpq_hub.plan.input_file import read_regular
from limpq_hub.plan.layer_table_file import EntryWords, LayerTable

_BITS = range(1, 9)
# As in `limpq_hub.plan.constraints.layer_table`: entries beyond these are taken for typing errors.
_SMALLEST, _LARGEST = 1e-100, 1e100


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
        array = np.load(io.BytesIO(read_regular(path)), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BudgetError(f"{name} cannot be read ({str(error)[:100]}); {advice}") from None
    if (
        not isinstance(array, np.ndarray)
        or array.ndim != 3
        or array.shape[1:] != (8, 8)
        or array.dtype.kind not in "iuf"
    ):
        shape = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "several arrays"
        raise BudgetError(f"{name} holds {shape}; {advice}")
    if not ((array == 0) | ((array >= _SMALLEST) & (array <= _LARGEST))).all():
        raise BudgetError(f"{name} holds a number that is neither 0 nor from {_SMALLEST:g} to {_LARGEST:g}; {advice}")
    rows = array.astype(np.float64).tolist()
    return LayerArray(name, tuple(tuple(map(tuple, of_layer)) for of_layer in rows))
