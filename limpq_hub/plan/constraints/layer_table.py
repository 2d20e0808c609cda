"""(table, limit): what was measured of each layer at its bits, by a table, adds up to at most the limit.

Numbers of up to 15 significant digits mean what they are written as, exactly. Floats with more were computed, so their
last digits are noise: a table with such a float is read to 13 digits of its largest sum, and what differs by less is
equal; a limit to 13 of its own, where that allows more. So a table of `0.1 * w * a` gives the answer of one in which
they are rounded.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar

from limpq_hub.errors import BudgetError, quoted
from limpq_hub.plan.constraints.linear_kind import LinearKind
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_array_file import LayerArray, read_layer_array
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.layer_groups import LayerGroup
from limpq_hub.plan.layer_table_file import LARGEST_ENTRY, SMALLEST_ENTRY, EntryWords, LayerTable, read_layer_table
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.quantities import exact_number, python_number
from limpq_hub.plan.rounding import as_written, decimal_above, float_above, log10, nearest_float

# A table, or the path of one as CSV, and the limit.
TableLimit = tuple[LayerTable | str | os.PathLike[str], str | float]

# A decimal of up to so many digits is kept exactly by a float; an entry with more was computed.
_DIGITS_WRITTEN = sys.float_info.dig
# Sums of rounded entries are exact in a float64, and far coarser than its noise.
_DIGITS_OF_SUM = 13

_FORM = 'give (table, limit), for example ({"layer1.0.conv1": {(4, 4): 0.21, (8, 8): 0.35}}, 2.5)'


class LayerTableKind(LinearKind[tuple[LayerTable | LayerArray, Fraction]]):
    """A table[layer][weight bits, activation bits] and a limit in its unit; layers that it does not name take nothing.

    A `.npy` file holds an array [layers, 8, 8] instead, as published tables do, in milliseconds, cycles or whatever.

    Attributes:
        entry: the words for what the table holds.
    """

    entry: ClassVar[EntryWords]
    # What the limit may be written with; it is in the unit of the table with or without.
    units: ClassVar[Mapping[str, int]] = {"": 1}
    # The fastest bits of a layer need not be its fewest.
    grows_with_bits = False
    limits_activations = True

    @property
    def option(self) -> Mapping[str, Any]:
        """A CSV file and the limit."""
        return {"nargs": 2, "metavar": ("TABLE.csv", "LIMIT"), "help": self.help}

    def of_option(self, value: list[str]) -> tuple[str, str]:
        """Return the path of the file and the limit, as text."""
        path, limit = value
        return path, limit

    def option_words(self, value: Any) -> list[str] | None:
        """Return the path of the file and the limit, or None for a table that is no file."""
        table, limit = value
        if not isinstance(table, str | os.PathLike) or not isinstance(limit, str | int | float):
            return None
        path = os.fspath(table)
        return [f"./{path}" if path.startswith("-") else path, str(limit)]  # no path is taken for an option

    def keyword(self, text: str) -> str:
        """Return the argument of `search` for the text of a limit: `latency=(table, "2.142")`."""
        return f'{self.name}=(table, "{text}")'

    def parse(self, value: Any) -> tuple[LayerTable | LayerArray, Fraction]:
        """Return the table, read from its file if a path was given, and the limit, exactly as it was written.

        Raises:
            BudgetError: it is no table and limit, the file cannot be read, or an entry cannot have been measured.
        """
        advice = f"use for example {self.keyword('2.5')}"
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | os.PathLike):
            reads = read_layer_array if str(value[0]).endswith(".npy") else read_layer_table
            value = (reads(value[0], self.entry), value[1])
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], LayerArray):
            return value[0], exact_number(self.name, value[1], self.units, advice)
        if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], Mapping) or not value[0]:
            raise BudgetError(f"{self.name}={quoted(value)} is not a budget: {_FORM}")
        table, limit = value
        for layer, entries in table.items():
            if not isinstance(entries, Mapping):
                raise BudgetError(f"{self.name} of layer {quoted(layer)} is {quoted(entries)}: {_FORM}")
            for bits, given in entries.items():
                amount = python_number(given)
                if amount is None or amount < 0:
                    raise BudgetError(
                        f"{self.name} of layer {quoted(layer)} at bits {quoted(bits)} is {quoted(given)}: "
                        f"{self.entry.with_article} is a finite number of at least 0"
                    )
                if amount and not SMALLEST_ENTRY <= amount <= LARGEST_ENTRY:
                    raise BudgetError(
                        f"{self.name} of layer {quoted(layer)} at bits {quoted(bits)} is {quoted(amount)}: "
                        f"{self.entry.with_article} is 0 or from {SMALLEST_ENTRY:g} to {LARGEST_ENTRY:g}; use another "
                        "unit"
                    )
        return table, exact_number(self.name, limit, self.units, advice)

    def with_entries(
        self, limit: tuple[LayerTable | LayerArray, Fraction], groups: Sequence[LayerGroup]
    ) -> list[LayerGroup]:
        """Return the groups without the options that the table lacks for one of their layers; an array has all bits."""
        table, _ = limit
        if isinstance(table, LayerArray):
            return list(groups)
        return [
            replace(group, options=tuple(bits for bits in group.options if _has(table, group, bits)))
            for group in groups
        ]

    def constraint(
        self,
        limit: tuple[LayerTable | LayerArray, Fraction],
        indicators: Indicators,
        groups: Sequence[LayerGroup],
        counting: Counting,
    ) -> LinearConstraint:
        """Return the limit on the sum of the entries, all scaled up to whole numbers."""
        table, most = limit
        if isinstance(table, LayerArray):
            table = table.named(indicators.costs)
        written = {name: self._amounts(table, name, groups) for name in table}
        every = [amount for at_bits in written.values() for amount in at_bits.values()]
        # Of what was computed the last digits are noise: `0.1 * 3` is 0.30000000000000004.
        limit_amount = most if _has_few_digits(most) else max(most, _without_noise(most))
        if all(map(_has_few_digits, every)):
            scale, slack = Fraction(math.lcm(*(amount.denominator for amount in every))), 0
        else:
            # All entries are read to a share of what they can add up to, and the limit allows as much as rounding may
            # have added.
            largest = sum((max(at_bits.values()) for at_bits in written.values()), Fraction(0))
            scale, slack = _scale_of(largest), len(written)
        amounts = {
            name: {bits: round(amount * scale) for bits, amount in at_bits.items()} for name, at_bits in written.items()
        }
        coefficients = tuple(
            tuple(sum(amounts[name][bits] for name in group.layers if name in amounts) for bits in group.options)
            for group in groups
        )
        return LinearConstraint(
            self,
            coefficients,
            math.floor(limit_amount * scale) + slack,
            requested=most,
            amount_of=partial(_amount_of, slack=slack, scale=scale),
        )

    def without_effect(self, most: Fraction) -> str:
        """Return the clause with the words for a table, in which the most bits need not take the most."""
        return f"{self.name}= is no less than the {self.text(most)} that any bits take"

    def number(self, amount: Fraction) -> float:
        """Return the smallest float that is not below the amount."""
        return float_above(amount)

    def text(self, amount: Fraction) -> str:
        """Return at least four digits, rounded up: "2.142"."""
        return decimal_above(amount)

    def _amounts(self, table: LayerTable, name: str, groups: Sequence[LayerGroup]) -> dict[LayerBits, Fraction]:
        """Return the entry of a layer at each of its options; a float is what it is written as in decimal."""
        group = next((group for group in groups if name in group.layers), None)
        if group is None:
            raise BudgetError(
                f"the {self.name} table names layer {quoted(name)}, which the network does not have; remove it, or "
                "check its name"
            )
        amounts = {}
        for bits in group.options:
            amount = python_number(table[name].get((bits.weight, bits.activation)))
            if amount is None:
                raise BudgetError(
                    f"the {self.name} table has no {self.entry.column} for layer {quoted(name)} at {bits.weight} "
                    f"weight and {bits.activation} activation bits; add it"
                )
            amounts[bits] = Fraction(amount) if isinstance(amount, int) else as_written(amount)
        return amounts


def _scale_of(amount: Fraction) -> Fraction:
    """Return what a number above 0 is multiplied by, so that its digits that count stand before the point."""
    return Fraction(10) ** (_DIGITS_OF_SUM - math.ceil(log10(amount)))


def _without_noise(amount: Fraction) -> Fraction:
    """Return a number above 0 that was computed to as many digits as count."""
    scale = _scale_of(amount)
    return round(amount * scale) / scale


def _amount_of(total: int, slack: int, scale: Fraction) -> Fraction:
    """Return what a sum of scaled entries stands for in the unit of the table."""
    return max(Fraction(total - slack), Fraction(0)) / scale


def _has(table: LayerTable, group: LayerGroup, bits: LayerBits) -> bool:
    """Return whether the table tells what each layer of a group takes at some bits: nothing, if it does not name it."""
    return all((bits.weight, bits.activation) in table[name] for name in group.layers if name in table)


def _has_few_digits(amount: Fraction) -> bool:
    """Return whether a number is an integer, or a decimal that a person may have written."""
    near = nearest_float(amount)
    return amount.denominator == 1 or math.isinf(near) or Fraction(f"{near:.{_DIGITS_WRITTEN}g}") == amount
