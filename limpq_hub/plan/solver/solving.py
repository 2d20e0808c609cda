"""How the best choice of a programme is found: the first of four ways that suits it, until the time is over."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from limpq_hub.plan.deadline import until
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.solver.dynamic_programme import DynamicProgramme
from limpq_hub.plan.solver.enumeration import Cheapest, cheapest, within_gap
from limpq_hub.plan.solver.near_choice import near_choice
from limpq_hub.plan.solver.programme import Programme
from limpq_hub.plan.solver.relaxation import Relaxation
from limpq_hub.plan.solver.scaled_programme import Integers, ScaledProgramme
from limpq_hub.plan.solver.solution import (
    BOUND,
    DYNAMIC_PROGRAMME,
    ENUMERATION,
    HIGHS,
    Solution,
    checked,
    near_enough,
)
from limpq_hub.plan.solver.states import TooManyStatesError

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


def solve(programme: Programme, deadline: float, allow_gap: float | None = 0.0) -> Solution | None:
    """Return the choice of least total cost that meets all constraints, or None if there is none.

    Args:
        deadline: when to give up, by `time.monotonic`.
        allow_gap: where an optimum takes long to prove, the share of the total cost that a choice may cost more than
            the bound. None is as good as 0, and no gap is advised: for callers whose user cannot allow one.

    Raises:
        SearchError: no proven optimum in time, and no choice within the gap.
    """
    if not programme.constraints:
        return Solution([costs.index(min(costs)) for costs in until(deadline, programme.costs)], ENUMERATION)
    if any(constraint.least > constraint.limit for constraint in programme.constraints):
        return None
    scaled = programme.scaled()
    if scaled is None:
        return _solve_with_highs(programme, deadline, allow_gap)
    try:
        best = cheapest(scaled, _share_of_time(_TIME_TO_ENUMERATE, deadline))
    except TooManyStatesError:
        if not DynamicProgramme.fits(scaled):
            return _solve_hard(programme, scaled, deadline, allow_gap)
        choice = DynamicProgramme(scaled, deadline).cheapest(scaled.limits[0])
        return _sharpened(programme, scaled, choice, DYNAMIC_PROGRAMME, deadline, allow_gap)
    return _sharpened(programme, scaled, best and best.choice, ENUMERATION, deadline, allow_gap)


def solve_at_limits(
    programme: Programme, constraint: int, limits: Sequence[int], deadline: float, allow_gap: float | None = 0.0
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
    scaled = programme.scaled()
    table = DynamicProgramme(scaled, deadline) if scaled is not None and DynamicProgramme.fits(scaled) else None
    gap = 0.0
    for limit in until(deadline, limits):
        at_limit = programme.with_limit(constraint, limit)
        if scaled is None:
            yield _solve_with_highs(at_limit, deadline, allow_gap)
            continue
        if table is not None:
            choice = table.cheapest(scaled.scaled_limit(constraint, limit))
            yield _sharpened(at_limit, scaled, choice, DYNAMIC_PROGRAMME, deadline, allow_gap)
            continue
        with_limit = scaled.with_limit(constraint, limit)
        try:
            best = _cheapest_from(with_limit, _share_of_time(_TIME_TO_ENUMERATE, deadline), _FIRST_GAP * gap)
        except TooManyStatesError:
            gap = 0.0
            yield _solve_hard(at_limit, with_limit, deadline, allow_gap)
            continue
        gap = best.gap if best else 0.0
        yield _sharpened(at_limit, scaled, best and best.choice, ENUMERATION, deadline, allow_gap)


def is_feasible(programme: Programme, deadline: float) -> bool:
    """Return whether a choice meets all constraints.

    Args:
        deadline: when to give up, by `time.monotonic`.

    Raises:
        SearchError: neither a choice nor a proof that there is none in time.
    """
    return solve(programme, deadline, _ANY_GAP) is not None


def least_total(
    programme: Programme, constraint: LinearConstraint, deadline: float, allow_gap: float | None = None
) -> int | None:
    """Return the least sum of a constraint that all others allow, or None if they allow nothing.

    Args:
        deadline: when to give up, by `time.monotonic`.
        allow_gap: the share of it that the sum returned may be larger, as `solve` takes it.

    Raises:
        SearchError: not proven in time.
    """
    sums = Programme(constraint.coefficients, programme.without(constraint).constraints)
    solution = solve(sums, deadline, allow_gap)
    return None if solution is None else constraint.total(solution.choice)


def _solve_hard(
    programme: Programme, scaled: ScaledProgramme, deadline: float, allow_gap: float | None
) -> Solution | None:
    """Return what `solve` does, where too many choices are near the bound to enumerate all of them."""
    relaxation = Relaxation.of(scaled, deadline)
    if relaxation is None:
        return None
    # Costs are whole multiples of a unit: a choice less than one above the bound is the best.
    enough = scaled.cost_unit - 2 * relaxation.safety
    # A good choice narrows down what is left to search, but leaves most of the time to it.
    near = near_choice(scaled, relaxation, _share_of_time(_TIME_TO_TRY, deadline), enough)
    if near is None:
        return _solve_with_highs(programme, deadline, allow_gap)
    hopeful = programme.hopeful(scaled, near)
    if hopeful is not None:
        return _solve_again(hopeful, near, deadline, allow_gap)
    bound = scaled.unscaled_bound(relaxation.bound - relaxation.safety)
    gap = relaxation.gap_of(scaled, near)
    if gap <= enough:
        return checked(programme, near, BOUND)
    if programme.gap(near.tolist(), bound) <= (allow_gap or 0.0):
        return checked(programme, near, BOUND, bound)
    left_s = deadline - time.monotonic()
    most_states = int(min(max(_STATES_PER_SECOND * left_s, 1), _MOST_STATES_OF_HARD))
    try:
        enumerated = within_gap(scaled, relaxation, gap + relaxation.safety, deadline, most_states)
    except TooManyStatesError:
        options = [
            np.flatnonzero(of_group <= gap + relaxation.safety).tolist() for of_group in relaxation.reduced_costs
        ]
        return _solve_with_highs(programme, deadline, allow_gap, options, Solution(near.tolist(), BOUND, bound))
    return checked(programme, enumerated.choice, ENUMERATION)


def _sharpened(
    programme: Programme,
    scaled: ScaledProgramme,
    choice: Integers | None,
    way: str,
    deadline: float,
    allow_gap: float | None,
) -> Solution | None:
    """Return the best choice of the scaled programme, or that of a finer one where the scale was too coarse."""
    if choice is None:
        return None
    hopeful = programme.hopeful(scaled, choice)
    return checked(programme, choice, way) if hopeful is None else _solve_again(hopeful, choice, deadline, allow_gap)


def _solve_again(programme: Programme, choice: Integers, deadline: float, allow_gap: float | None) -> Solution:
    """Return what `solve` does, where a choice is known, so that there is one."""
    known = Solution(choice.tolist(), ENUMERATION)
    return solve(programme, deadline, allow_gap) or near_enough(programme, None, -math.inf, known, allow_gap)


def _solve_with_highs(
    programme: Programme,
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
        choice = solve_with_highs(programme.costs, programme.constraints, deadline, options, allow_gap or 0.0)
    except NoProofError as error:
        return near_enough(programme, error.choice, error.bound, near, allow_gap)
    if choice is None:
        # Where a choice is known, HiGHS is wrong that there is none.
        return near and near_enough(programme, None, -math.inf, near, allow_gap)
    return Solution(choice, HIGHS)


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
