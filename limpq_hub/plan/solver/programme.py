"""The integer programme of a search: one option per unit, the least total cost, every row within its limit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from limpq_hub.errors import SearchError
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.solver.dynamic_programme import DynamicProgramme
from limpq_hub.plan.solver.enumeration import Cheapest, cheapest
from limpq_hub.plan.solver.meet_in_the_middle import TooManyStatesError
from limpq_hub.plan.solver.scaled_programme import ScaledProgramme

ENUMERATION = "enumeration"
DYNAMIC_PROGRAMME = "dynamic programme"
# More rows leave too many choices near the bound.
_MOST_ROWS_ENUMERATED = 2
# Of the gap of the search before, where the next one begins.
_NEXT_GAP = 1.2


@dataclass(frozen=True)
class Solution:
    """The best choice, and how it was found.

    Attributes:
        choice: the option of each unit.
        way: "enumeration", "dynamic programme", "CBC" or "HiGHS".
    """

    choice: list[int]
    way: str


@dataclass(frozen=True)
class Programme:
    """What is minimized, and within what.

    Attributes:
        costs: for each unit, the cost of each option.
        rows: each with one coefficient per option of each unit.
    """

    costs: Sequence[Sequence[float]]
    rows: Sequence[LinearConstraint]

    def solve(self, deadline: float) -> Solution | None:
        """Return the option of each unit with the least total cost that meets all rows, or None if there is none.

        Args:
            deadline: when to give up, by `time.monotonic`.

        Raises:
            SearchError: no proven optimum in time.
        """
        if not self.rows:
            return Solution([of_unit.index(min(of_unit)) for of_unit in self.costs], ENUMERATION)
        if any(row.least > row.limit for row in self.rows):
            return None
        tables = self.tables()
        try:
            found = None if tables is None else cheapest(tables, deadline)
        except TooManyStatesError:
            if DynamicProgramme.fits(tables):
                choice = DynamicProgramme(tables).cheapest(tables.limits[0])
                return None if choice is None else self._checked(choice.tolist(), DYNAMIC_PROGRAMME)
            tables = None
        if tables is None:
            return self._solve_with_pulp(deadline)
        return None if found is None else self._checked(found.options.tolist(), ENUMERATION)

    def solve_within(self, row: int, limits: Sequence[int], time_limit_s: float) -> Iterator[Solution | None]:
        """Give the solution for each of many limits of one row, none above its own, or None where there is none.

        Args:
            time_limit_s: for each solution.

        Raises:
            SearchError: no proven optimum within `time_limit_s`.
        """
        tables = self.tables()
        every = DynamicProgramme(tables) if tables is not None and DynamicProgramme.fits(tables) else None
        gap = 0.0
        for limit in limits:
            within = self.within(row, limit)
            if every is not None:
                choice = every.cheapest(tables.limit(row, limit))
                yield None if choice is None else within._checked(choice.tolist(), DYNAMIC_PROGRAMME)
                continue
            deadline = time.monotonic() + time_limit_s
            try:
                if tables is None:
                    raise TooManyStatesError
                found = _cheapest_from(tables.within(row, limit), deadline, gap)
                gap = _NEXT_GAP * found.gap if found else 0.0
                yield None if found is None else within._checked(found.options.tolist(), ENUMERATION)
            except TooManyStatesError:
                gap = 0.0
                yield within._solve_with_pulp(deadline)

    def within(self, row: int, limit: int) -> Programme:
        """Return the same programme with another limit of one row."""
        rows = list(self.rows)
        rows[row] = replace(rows[row], limit=limit)
        return Programme(self.costs, rows)

    def without(self, row: LinearConstraint) -> Programme:
        """Return the same programme without one row."""
        return Programme(self.costs, [other for other in self.rows if other is not row])

    def tables(self) -> ScaledProgramme | None:
        """Return the programme in numbers that numpy adds up exactly, or None where that way does not suit it."""
        return ScaledProgramme.of(self.costs, self.rows) if len(self.rows) <= _MOST_ROWS_ENUMERATED else None

    def total(self, solution: Solution) -> float:
        """Return the total cost of a solution."""
        return math.fsum(of_unit[picked] for of_unit, picked in zip(self.costs, solution.choice, strict=True))

    def least(self, row: LinearConstraint, deadline: float) -> int | None:
        """Return the least sum of `row` that the other rows allow, or None if they allow nothing.

        Args:
            deadline: when to give up, by `time.monotonic`.

        Raises:
            SearchError: not proven in time.
        """
        found = Programme(row.coefficients, self.without(row).rows).solve(deadline)
        return None if found is None else row.total(found.choice)

    def _solve_with_pulp(self, deadline: float) -> Solution | None:
        from limpq_hub.plan.solver.integer_programme import (
            solve_with_pulp,  # takes 0.1 s to import, and is rarely needed
        )

        choice, name = solve_with_pulp(self.costs, self.rows, deadline)
        return None if choice is None else Solution(choice, name)

    def _checked(self, choice: list[int], way: str) -> Solution:
        """Return a choice as a solution, its rows added up afresh.

        Raises:
            SearchError: a row is over its limit.
        """
        over = next((row for row in self.rows if row.total(choice) > row.limit), None)
        if over is not None:
            raise SearchError(
                f"the {way} returned a policy over the limit of {over.constraint}, which is a fault of limpq-hub: "
                "report it with the model and the budget"
            )
        return Solution(choice, way)


def _cheapest_from(tables: ScaledProgramme, deadline: float, gap: float) -> Cheapest | None:
    """Return the cheapest choice; the gap of another limit, which may be too wide for this one, only speeds it up."""
    try:
        return cheapest(tables, deadline, gap)
    except TooManyStatesError:
        if not gap:
            raise
        return cheapest(tables, deadline)
