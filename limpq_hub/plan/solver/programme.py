"""The integer programme of a search: one option per group, the least total cost, every constraint within its limit."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from limpq_hub.errors import SearchError
from limpq_hub.plan.deadline import MORE_TIME, NOT_IN_TIME, until
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.rounding import decimal_above
from limpq_hub.plan.solver.dynamic_programme import DynamicProgramme
from limpq_hub.plan.solver.enumeration import Cheapest, cheapest, within_gap
from limpq_hub.plan.solver.near_choice import near_choice
from limpq_hub.plan.solver.relaxation import Relaxation
from limpq_hub.plan.solver.scaled_programme import Integers, ScaledProgramme
from limpq_hub.plan.solver.states import TooManyStatesError

ENUMERATION = "enumeration"
DYNAMIC_PROGRAMME = "dynamic programme"
BOUND = "bound"
HIGHS = "HiGHS"
# More constraints leave too many choices near the bound.
_MOST_CONSTRAINTS_ENUMERATED = 2
# Costs are at least 0: every choice is within such a gap of its bound.
_ANY_GAP = 2.0
# First gap of a limit, as a multiple of the gap that the limit before it needed.
_FIRST_GAP = 1.2
# Of the time that is left: for enumerating what is near the bound, before it is known how near a choice is.
_TIME_TO_ENUMERATE = 0.5
# Of the time that is left where there are too many choices near the bound: for finding a good one.
_TIME_TO_TRY = 0.3
# There, so many partial choices are enumerated that a step of it is short beside the time that is left.
_STATES_PER_SECOND, _MOST_STATES_OF_HARD = 200_000, 1_500_000


@dataclass(frozen=True)
class Solution:
    """A choice, and how it was found.

    Attributes:
        choice: [groups], the number of the option that each group takes.
        way: "enumeration", "dynamic programme", "bound" (the choice costs no more than what all cost at least) or
            "HiGHS"; of a choice that is not proven to be the best, the way that proved the bound.
        bound: no choice costs less in total; None if this one is proven to be the best.
    """

    choice: list[int]
    way: str
    bound: float | None = None


@dataclass(frozen=True)
class Programme:
    """What is minimized, and within what.

    Attributes:
        costs: [groups, options], rows of different lengths where groups have different numbers of options; infinite for
            an option that takes no part.
        constraints: each with coefficients of the same shape, and a limit.
    """

    costs: Sequence[Sequence[float]]
    constraints: Sequence[LinearConstraint]

    def solve(self, deadline: float, allow_gap: float | None = 0.0) -> Solution | None:
        """Return the choice of least total cost that meets all constraints, or None if there is none.

        Args:
            deadline: when to give up, by `time.monotonic`.
            allow_gap: where an optimum takes long to prove, the share of the total cost that a choice may cost more
                than the bound; None, which is as good as 0, where who asks cannot allow one, so that none is advised.

        Raises:
            SearchError: no proven optimum in time, and no choice within the gap.
        """
        if not self.constraints:
            return Solution([costs.index(min(costs)) for costs in until(deadline, self.costs)], ENUMERATION)
        if any(constraint.least > constraint.limit for constraint in self.constraints):
            return None
        scaled = self.scaled()
        if scaled is None:
            return self._solve_with_highs(deadline, allow_gap)
        try:
            best = cheapest(scaled, _share_of_time(_TIME_TO_ENUMERATE, deadline))
        except TooManyStatesError:
            if not DynamicProgramme.fits(scaled):
                return self._solve_hard(scaled, deadline, allow_gap)
            choice = DynamicProgramme(scaled, deadline).cheapest(scaled.limits[0])
            return self._sharpened(scaled, choice, DYNAMIC_PROGRAMME, deadline, allow_gap)
        return self._sharpened(scaled, best and best.choice, ENUMERATION, deadline, allow_gap)

    def solve_at_limits(
        self, constraint: int, limits: Sequence[int], deadline: float, allow_gap: float | None = 0.0
    ) -> Iterator[Solution | None]:
        """Yield, for each of many limits of one constraint, the solution at this limit, or None where there is none.

        Args:
            constraint: its number.
            limits: none above that of the constraint.
            deadline: of all together, by `time.monotonic`.
            allow_gap: as `solve` takes it.

        Raises:
            SearchError: no proven optimum in time, and no choice within the gap.
        """
        scaled = self.scaled()
        table = DynamicProgramme(scaled, deadline) if scaled is not None and DynamicProgramme.fits(scaled) else None
        gap = 0.0
        for limit in until(deadline, limits):
            programme = self.with_limit(constraint, limit)
            if scaled is None:
                yield programme._solve_with_highs(deadline, allow_gap)
                continue
            if table is not None:
                choice = table.cheapest(scaled.scaled_limit(constraint, limit))
                yield programme._sharpened(scaled, choice, DYNAMIC_PROGRAMME, deadline, allow_gap)
                continue
            with_limit = scaled.with_limit(constraint, limit)
            try:
                best = _cheapest_from(with_limit, _share_of_time(_TIME_TO_ENUMERATE, deadline), _FIRST_GAP * gap)
            except TooManyStatesError:
                gap = 0.0
                yield programme._solve_hard(with_limit, deadline, allow_gap)
                continue
            gap = best.gap if best else 0.0
            yield programme._sharpened(scaled, best and best.choice, ENUMERATION, deadline, allow_gap)

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

    def cost(self, choice: Sequence[int]) -> float:
        """Return the total cost of a choice, [groups]."""
        return math.fsum(costs[option] for costs, option in zip(self.costs, choice, strict=True))

    def difference(self, choice: Sequence[int], other: Sequence[int]) -> float:
        """Return how much more a choice costs than another, [groups] both; exact beside what they have in common."""
        taken = zip(self.costs, choice, other, strict=True)
        return math.fsum(costs[option] - costs[option_of_other] for costs, option, option_of_other in taken)

    def is_feasible(self, deadline: float) -> bool:
        """Return whether a choice meets all constraints.

        Args:
            deadline: when to give up, by `time.monotonic`.

        Raises:
            SearchError: neither a choice nor a proof that there is none in time.
        """
        return self.solve(deadline, _ANY_GAP) is not None

    def least(self, constraint: LinearConstraint, deadline: float, allow_gap: float | None = None) -> int | None:
        """Return the least sum of a constraint that all others allow, or None if they allow nothing.

        Args:
            deadline: when to give up, by `time.monotonic`.
            allow_gap: the share of it that the sum returned may be larger, as `solve` takes it.

        Raises:
            SearchError: not proven in time.
        """
        solution = Programme(constraint.coefficients, self.without(constraint).constraints).solve(deadline, allow_gap)
        return None if solution is None else constraint.total(solution.choice)

    def _solve_hard(self, scaled: ScaledProgramme, deadline: float, allow_gap: float | None) -> Solution | None:
        """Return what `solve` does, where too many choices are near the bound to enumerate all of them."""
        relaxation = Relaxation.of(scaled, deadline)
        if relaxation is None:
            return None
        # Costs are whole multiples of a unit: a choice less than one above the bound is the best.
        enough = scaled.cost_unit - 2 * relaxation.safety
        # A good choice narrows down what is left to search, but leaves most of the time to it.
        near = near_choice(scaled, relaxation, _share_of_time(_TIME_TO_TRY, deadline), enough)
        if near is None:
            return self._solve_with_highs(deadline, allow_gap)
        hopeful = self._hopeful(scaled, near)
        if hopeful is not None:
            return hopeful._solve_again(near, deadline, allow_gap)
        bound = scaled.unscaled_bound(relaxation.bound - relaxation.safety)
        gap = relaxation.gap_of(scaled, near)
        if gap <= enough:
            return self._checked(near, BOUND)
        if self._gap(near.tolist(), bound) <= (allow_gap or 0.0):
            return self._checked(near, BOUND, bound)
        left_s = deadline - time.monotonic()
        most_states = int(min(max(_STATES_PER_SECOND * left_s, 1), _MOST_STATES_OF_HARD))
        try:
            enumerated = within_gap(scaled, relaxation, gap + relaxation.safety, deadline, most_states)
        except TooManyStatesError:
            options = [
                np.flatnonzero(of_group <= gap + relaxation.safety).tolist() for of_group in relaxation.reduced_costs
            ]
            return self._solve_with_highs(deadline, allow_gap, options, Solution(near.tolist(), BOUND, bound))
        return self._checked(enumerated.choice, ENUMERATION)

    def _sharpened(
        self, scaled: ScaledProgramme, choice: Integers | None, way: str, deadline: float, allow_gap: float | None
    ) -> Solution | None:
        """Return the best choice of the scaled programme, or that of a finer one where the scale was too coarse."""
        if choice is None:
            return None
        hopeful = self._hopeful(scaled, choice)
        return self._checked(choice, way) if hopeful is None else hopeful._solve_again(choice, deadline, allow_gap)

    def _solve_again(self, choice: Integers, deadline: float, allow_gap: float | None) -> Solution:
        """Return what `solve` does, where a choice is known, so that there is one."""
        known = Solution(choice.tolist(), ENUMERATION)
        return self.solve(deadline, allow_gap) or self._unproven(None, -math.inf, known, allow_gap)

    def _hopeful(self, scaled: ScaledProgramme, choice: Integers) -> Programme | None:
        """Return the programme of the options that a better choice may take; None where that tells nothing apart."""
        hopeful = scaled.hopeful(choice)
        options_taken = zip(self.costs, choice.tolist(), strict=True)
        if hopeful is None or all(of_group[option] == min(of_group) for of_group, option in options_taken):
            return None
        costs = [
            [cost if takes_part else math.inf for cost, takes_part in zip(of_group, taking_part, strict=False)]
            for of_group, taking_part in zip(self.costs, hopeful.tolist(), strict=True)
        ]
        # Costs that are equal as floats stay so on every scale.
        return Programme(costs, self.constraints) if costs != [list(of_group) for of_group in self.costs] else None

    def _solve_with_highs(
        self,
        deadline: float,
        allow_gap: float | None,
        options: Sequence[Collection[int]] | None = None,
        near: Solution | None = None,
    ) -> Solution | None:
        """Return what `solve` does, by HiGHS.

        Args:
            options: those of each group that a choice better than `near` may take; all if None.
            near: a choice within the limits, with its bound.
        """
        # Imports PuLP, which takes 0.1 s and is rarely needed.
        from limpq_hub.plan.solver.integer_programme import NoProofError, solve_with_highs

        try:
            choice = solve_with_highs(self.costs, self.constraints, deadline, options, allow_gap or 0.0)
        except NoProofError as error:
            return self._unproven(error.choice, error.bound, near, allow_gap)
        if choice is None:
            # Where a choice is known, HiGHS is wrong that there is none.
            return near and self._unproven(None, -math.inf, near, allow_gap)
        return Solution(choice, HIGHS)

    def _unproven(
        self, choice: list[int] | None, bound: float, near: Solution | None, allow_gap: float | None
    ) -> Solution:
        """Return the better of two choices if it is near enough to the better of the bounds.

        Raises:
            SearchError: it is not, or there is no choice; says which gap was reached.
        """
        choices = (choice, near.choice if near else None)
        known = [one_choice for one_choice in choices if one_choice is not None]
        if not known:
            raise SearchError(f"{NOT_IN_TIME}; {MORE_TIME}")
        best = min(known, key=self.cost)
        bound = min(self.cost(best), max(bound, near.bound if near and near.bound is not None else -math.inf))
        gap = self._gap(best, bound)
        if gap <= (allow_gap or 0.0):
            return Solution(best, HIGHS, bound)
        if allow_gap is None or not gap < 1:
            raise SearchError(f"{NOT_IN_TIME}; {MORE_TIME}")
        # Rounded up, so that it is enough.
        enough = decimal_above(Fraction(gap), 2)
        raise SearchError(
            f"{NOT_IN_TIME}: the best policy that was found loses at most {gap:.2g} of its objective more than the "
            f"optimum; allow_gap={enough} takes it, or {MORE_TIME}"
        )

    def _gap(self, choice: Sequence[int], bound: float) -> float:
        """Return how much more than a bound a choice costs, as a share of its cost; infinite where it costs nothing."""
        cost = self.cost(choice)
        return max(0.0, cost - bound) / cost if cost > 0 else math.inf if cost > bound else 0.0

    def _checked(self, options: Integers | None, way: str, bound: float | None = None) -> Solution | None:
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
        return Solution(choice, way, None if bound is None else min(bound, self.cost(choice)))


def _share_of_time(share: float, deadline: float) -> float:
    """Return when a share of the time that is left is over."""
    now = time.monotonic()
    return now + share * (deadline - now)


def _cheapest_from(scaled: ScaledProgramme, deadline: float, first_gap: float) -> Cheapest | None:
    """Return the cheapest choice; the first gap, taken from another limit and maybe too wide, only saves time."""
    try:
        return cheapest(scaled, deadline, first_gap)
    except TooManyStatesError:
        if not first_gap:
            raise
        return cheapest(scaled, deadline)
