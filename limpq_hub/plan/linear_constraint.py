"""One limit of the integer programme, in exact integers, and how it is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from limpq_hub.errors import InfeasibleBudgetError

Coefficients = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LinearConstraint:
    """One limit: the chosen coefficients, one per unit, add up to at most `limit`.

    Attributes:
        constraint: name of the argument of `search` it stands for.
        coefficients: for each unit, one whole number per option.
        requested: the limit as it was asked for, in the units of the constraint.
        value_of: turns a sum of coefficients into the units of the constraint, rounded so that it can be fed back.
        text_of: turns a sum of coefficients into text that can be fed back as this constraint.
        advice: how the text is used.
    """

    constraint: str
    coefficients: Coefficients
    limit: int
    requested: Fraction
    value_of: Callable[[int], float]
    text_of: Callable[[int], str]
    advice: str

    @cached_property
    def least(self) -> int:
        """The smallest sum of coefficients, one per unit."""
        return sum(map(min, self.coefficients))

    @cached_property
    def most(self) -> int:
        """The largest sum of coefficients, one per unit."""
        return sum(map(max, self.coefficients))

    @property
    def span(self) -> str:
        """What any policy needs and uses at most, as text: "2.66MB to 6.91MB"."""
        return f"{self.text_of(self.least)} to {self.text_of(self.most)}"

    def total(self, choice: Sequence[int]) -> int:
        """Return the sum of the coefficients of the chosen options, one per unit."""
        return sum(of_unit[picked] for of_unit, picked in zip(self.coefficients, choice, strict=True))

    def infeasible(
        self, model: str, minimum: int, given: str = "", because: str = "", instead: str = ""
    ) -> InfeasibleBudgetError:
        """Return the error for a limit below `minimum`, the smallest sum that is possible.

        Args:
            given: words for the other constraints that the minimum depends on.
            because: words for why it is no smaller.
            instead: words for what else would work, or is needed.
        """
        at_least, at_most = (
            ("allows at most", "and at least")
            if self.constraint == "compression"
            else ("needs at least", "and uses at most")
        )
        values = sorted((self.value_of(minimum), self.value_of(self.most)))
        return InfeasibleBudgetError(
            f'{self.constraint}="{_as_asked(self)}" cannot be met{given}: {model} {at_least} {self.text_of(minimum)}'
            f"{because} {at_most} {self.text_of(self.most)}; "
            f'use {self.constraint}="{self.text_of(minimum)}" {self.advice}{instead}',
            requested=float(self.requested) if self.requested.denominator > 1 else int(self.requested),
            minimum=values[0],
            maximum=values[1],
            constraint=self.constraint,
        )


def decimal_above(exact: Fraction, digits: int = 4) -> str:
    """Return `exact` rounded up to at least `digits` significant digits, as plain decimal text."""
    places = max(0, digits - math.floor(math.log10(exact)) - 1) if exact else 0
    scaled = str(math.ceil(exact * 10**places)).rjust(places + 1, "0")
    return f"{scaled[:-places]}.{scaled[-places:]}".rstrip("0").rstrip(".") if places else scaled


def _as_asked(row: LinearConstraint) -> str:
    """Return the limit as it was asked for, never rounded onto the minimum."""
    if row.constraint == "bitops":
        for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
            if row.requested >= size and row.requested * 1000 % size == 0:
                return f"{float(row.requested / size):.3f}".rstrip("0").rstrip(".") + unit
        return str(row.requested)
    unit = {"size": "B", "compression": "x"}.get(row.constraint, "")
    text = decimal_above(row.requested, digits=12)
    return (text if len(text) <= 76 else f"{text[:73]}...") + unit
