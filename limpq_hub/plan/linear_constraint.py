"""One limit on a sum over layers, in exact integers: a constraint of the integer programme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from limpq_hub.errors import InfeasibleBudgetError
from limpq_hub.plan.constraint_kind import ConstraintKind
from limpq_hub.plan.rounding import nearest_float

Coefficients = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LinearConstraint:
    """The coefficients of the chosen options, one per layer group, add up to at most `limit`.

    Attributes:
        kind: what it limits, and how that is told.
        coefficients: for each layer group, one whole number per option.
        requested: the limit as it was asked for, in the units of the kind.
        amount_of: turns a sum of coefficients into the units of the kind; no lambda, so that a plan can be pickled.
    """

    kind: ConstraintKind[Any]
    coefficients: Coefficients
    limit: int
    requested: Fraction
    amount_of: Callable[[int], Fraction]

    @cached_property
    def least(self) -> int:
        """The smallest sum of coefficients, one per layer group."""
        return sum(map(min, self.coefficients))

    @cached_property
    def most(self) -> int:
        """The largest sum of coefficients, one per layer group."""
        return sum(map(max, self.coefficients))

    @property
    def most_allowed(self) -> Fraction | None:
        """The most that any options take, in the units of the kind, where the limit allows that, else None."""
        return self.amount_of(self.most) if self.most <= self.limit else None

    @property
    def span(self) -> str:
        """What any policy needs and uses at most, as text: "2.66MB to 6.91MB"."""
        return f"{self.text_of(self.least)} to {self.text_of(self.most)}"

    def text_of(self, total: int) -> str:
        """Return text that allows a sum of coefficients when it is fed back as this constraint."""
        return self.kind.text(self.amount_of(total))

    def keyword(self, total: int) -> str:
        """Return the argument of `search` that allows a sum of coefficients, as a message tells it."""
        return self.kind.keyword(self.text_of(total))

    def total(self, choice: Sequence[int]) -> int:
        """Return the sum of the coefficients of the chosen options.

        Args:
            choice: place of the option of each layer group.
        """
        return sum(of_group[option] for of_group, option in zip(self.coefficients, choice, strict=True))

    def infeasible(
        self, network: str, minimum: int, beside: str = "", because: str = "", instead: str = ""
    ) -> InfeasibleBudgetError:
        """Return the error for a limit below `minimum`, the smallest sum that is possible.

        Args:
            network: its name in the message.
            beside: words for the other constraints that the minimum depends on.
            because: words for why it is no smaller.
            instead: words for what else would work, or is needed.
        """
        kind = self.kind
        meant = kind.meant(self.requested, self.amount_of(minimum), self.amount_of(self.most))
        ends = sorted(kind.number(self.amount_of(total)) for total in (minimum, self.most))
        return InfeasibleBudgetError(
            f"{kind.keyword(kind.requested_text(self.requested))} cannot be met{beside}: {network} {kind.at_least} "
            f"{self.text_of(minimum)}{because} {kind.at_most} {self.text_of(self.most)}; "
            f"use {self.keyword(minimum)} {kind.advice}{instead}{meant}",
            requested=nearest_float(self.requested) if self.requested.denominator > 1 else int(self.requested),
            minimum=ends[0],
            maximum=ends[1],
            constraint=kind.name,
        )
