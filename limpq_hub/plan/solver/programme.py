"""The integer programme of a search: one option per group, the least total cost, every constraint within its limit."""

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
from limpq_hub.plan.solver.scaled_programme import Integers, ScaledProgramme

ENUMERATION = "enumeration"
DYNAMIC_PROGRAMME = "dynamic programme"
HIGHS = "HiGHS"
# More constraints leave too many choices near the bound.
_MOST_CONSTRAINTS_ENUMERATED = 2
# First gap of a limit, as a multiple of the gap that the limit before it needed.
_FIRST_GAP = 1.2


@dataclass(frozen=True)
class Solution:
    """The best choice, and how it was found.

    Attributes:
        choice: [groups], the number of the option that each group takes.
        way: "enumeration", "dynamic programme" or "HiGHS".
    """

    choice: list[int]
    way: str


@dataclass(frozen=True)
class Programme:
    """What is minimized, and within what.

    Attributes:
        costs: [groups, options], rows of different lengths where groups have different numbers of options.
        constraints: each with coefficients of the same shape, and a limit.
    """

    costs: Sequence[Sequence[float]]
    constraints: Sequence[LinearConstraint]

    def solve(self, deadline: float) -> Solution | None:
        """Return the choice of least total cost that meets all constraints, or None if there is none.

        Args:
            deadline: when to give up, by `time.monotonic`.

        Raises:
            SearchError: no proven optimum in time.
        """
        if not self.constraints:
            return Solution([costs.index(min(costs)) for costs in self.costs], ENUMERATION)
        if any(constraint.least > constraint.limit for constraint in self.constraints):
            return None
        scaled = self.scaled()
        if scaled is None:
            return self._solve_with_highs(deadline)
        try:
            best = cheapest(scaled, deadline)
        except TooManyStatesError:
            if not DynamicProgramme.fits(scaled):
                return self._solve_with_highs(deadline)
            return self._checked(DynamicProgramme(scaled).cheapest(scaled.limits[0]), DYNAMIC_PROGRAMME)
        return self._checked(best and best.options, ENUMERATION)

    def solve_at_limits(self, constraint: int, limits: Sequence[int], time_limit_s: float) -> Iterator[Solution | None]:
        """Yield, for each of many limits of one constraint, the solution at this limit, or None where there is none.

        Args:
            constraint: its number.
            limits: none above that of the constraint.
            time_limit_s: for each solution.

        Raises:
            SearchError: no proven optimum within `time_limit_s`.
        """
        scaled = self.scaled()
        table = DynamicProgramme(scaled) if scaled is not None and DynamicProgramme.fits(scaled) else None
        gap = 0.0
        for limit in limits:
            deadline = time.monotonic() + time_limit_s
            programme = self.with_limit(constraint, limit)
            if scaled is None:
                yield programme._solve_with_highs(deadline)
                continue
            if table is not None:
                yield programme._checked(table.cheapest(scaled.scaled_limit(constraint, limit)), DYNAMIC_PROGRAMME)
                continue
            try:
                best = _cheapest_from(scaled.with_limit(constraint, limit), deadline, _FIRST_GAP * gap)
            except TooManyStatesError:
                gap = 0.0
                yield programme._solve_with_highs(deadline)
                continue
            gap = best.gap if best else 0.0
            yield programme._checked(best and best.options, ENUMERATION)

    def with_limit(self, constraint: int, limit: int) -> Programme:
        """Return the same programme with another limit of one constraint, by its number."""
        constraints = list(self.constraints)
        constraints[constraint] = replace(constraints[constraint], limit=limit)
        return Programme(self.costs, constraints)

    def without(self, constraint: LinearConstraint) -> Programme:
        """Return the same programme without one of its constraints."""
        return Programme(self.costs, [other for other in self.constraints if other is not constraint])

    def scaled(self) -> ScaledProgramme | None:
        """Return the programme in whole numbers for numpy, or None where the enumeration does not suit it."""
        if len(self.constraints) > _MOST_CONSTRAINTS_ENUMERATED:
            return None
        return ScaledProgramme.of(self.costs, self.constraints)

    def total(self, solution: Solution) -> float:
        """Return the total cost of a solution."""
        return math.fsum(costs[option] for costs, option in zip(self.costs, solution.choice, strict=True))

    def least(self, constraint: LinearConstraint, deadline: float) -> int | None:
        """Return the least sum of a constraint that all others allow, or None if they allow nothing.

        Args:
            deadline: when to give up, by `time.monotonic`.

        Raises:
            SearchError: not proven in time.
        """
        solution = Programme(constraint.coefficients, self.without(constraint).constraints).solve(deadline)
        return None if solution is None else constraint.total(solution.choice)

    def _solve_with_highs(self, deadline: float) -> Solution | None:
        # Imports PuLP, which takes 0.1 s and is rarely needed.
        from limpq_hub.plan.solver.integer_programme import solve_with_highs

        choice = solve_with_highs(self.costs, self.constraints, deadline)
        return None if choice is None else Solution(choice, HIGHS)

    def _checked(self, options: Integers | None, way: str) -> Solution | None:
        """Return a choice, [groups], as a solution, its coefficients added up afresh; None stays None.

        Raises:
            SearchError: it is over a limit.
        """
        if options is None:
            return None
        choice = options.tolist()
        if any(constraint.total(choice) > constraint.limit for constraint in self.constraints):
            raise SearchError(
                f"the {way} returned a policy over the budget, which is a fault of limpq-hub: report it with the model "
                "and the budget"
            )
        return Solution(choice, way)


def _cheapest_from(scaled: ScaledProgramme, deadline: float, first_gap: float) -> Cheapest | None:
    """Return the cheapest choice; the first gap, taken from another limit and maybe too wide, only saves time."""
    try:
        return cheapest(scaled, deadline, first_gap)
    except TooManyStatesError:
        if not first_gap:
            raise
        return cheapest(scaled, deadline)
