"""The integer programme for a general solver, HiGHS through PuLP: for what the ways of this project do not take."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeVar

import pulp

from limpq_hub.errors import SearchError
from limpq_hub.plan.deadline import MORE_TIME, NOT_IN_TIME
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.solver.options_left import affordable_options, hopeful_options
from limpq_hub.plan.solver.quiet_highs import run_highs

# HiGHS looks only for choices that cost at least 1e-6 less than its best so far: costs are scaled to reach up to this.
_COST_SCALE = 1e4
# Coefficients up to this stay exact within the tolerances of HiGHS.
_LARGEST_COEFFICIENT = 10**5
_MOST_REPAIRS = 100
# What PuLP takes, at most, to write down one option and hand it to HiGHS.
_SECONDS_PER_OPTION = 5e-5
# More than HiGHS is wrong by in a bound, in scaled costs.
_BOUND_TOLERANCE = 1e-4
# A bound so near to its choice proves it, in scaled costs.
_PROOF_TOLERANCE = 1e-6
# Of an allowed gap, for HiGHS: the rest is for what it is wrong by.
_SHARE_OF_GAP = 0.99

Number = TypeVar("Number", int, float)
# A PuLP variable of each option of each group, 1 where the group takes it: [groups, options].
Variables = Sequence[Sequence[pulp.LpVariable]]


class NoProofError(SearchError):
    """There was no proof in time, or none was needed within the allowed gap.

    Attributes:
        choice: [groups], the best choice that was found, or None.
        bound: no choice costs less; -infinity if nothing is known.
    """

    def __init__(self, choice: list[int] | None = None, bound: float = -math.inf) -> None:
        super().__init__(f"{NOT_IN_TIME}; {MORE_TIME}")
        self.choice = choice
        self.bound = bound


def solve_with_highs(
    costs: Sequence[Sequence[float]],
    constraints: Sequence[LinearConstraint],
    deadline: float,
    options: Sequence[Collection[int]] | None = None,
    allow_gap: float = 0.0,
) -> list[int] | None:
    """Return the option that each group takes for the least total cost within all limits, [groups], or None.

    Args:
        costs: [groups, options], rows of different lengths where groups have different numbers of options; infinite for
            an option that takes no part.
        constraints: each with coefficients of the same shape.
        deadline: when to give up, by `time.monotonic`.
        options: the options of each group that take part; all of them if None.
        allow_gap: the share of the total cost that a choice may cost more than the bound.

    Raises:
        NoProofError: there is no proven optimum in time, or before a choice within the gap.
        SearchError: HiGHS does not work.
    """
    if time.monotonic() + _SECONDS_PER_OPTION * sum(map(len, options or costs)) > deadline:
        raise NoProofError  # even writing the programme down takes longer
    affordable = [
        affordable_options(
            constraints,
            group,
            [
                option
                for option in (range(len(of_group)) if options is None else options[group])
                if of_group[option] < math.inf
            ],
        )
        for group, of_group in enumerate(costs)
    ]
    if not all(affordable):
        return None
    choice = _solve_among(costs, constraints, affordable, deadline, allow_gap)
    hopeful = None if choice is None else hopeful_options(costs, affordable, choice)
    if hopeful is None:
        return choice
    finer = solve_with_highs(costs, constraints, deadline, hopeful, allow_gap)
    if finer is None:
        raise NoProofError(choice)  # HiGHS is wrong that there is none
    return finer


def _solve_among(
    costs: Sequence[Sequence[float]],
    constraints: Sequence[LinearConstraint],
    affordable: Sequence[Sequence[int]],
    deadline: float,
    allow_gap: float,
) -> list[int] | None:
    """Return what `solve_with_highs` does; options that no choice within the limits takes are left out already."""

    def narrowed(table: Sequence[Sequence[Number]]) -> tuple[tuple[Number, ...], ...]:
        """Return a table [groups, options] with the affordable options alone."""
        return tuple(
            tuple(of_group[option] for option in of_choice)
            for of_group, of_choice in zip(table, affordable, strict=True)
        )

    def unnarrowed(places: Sequence[int] | None) -> list[int] | None:
        """Return the options that stand at these places of the affordable ones, [groups]; None stays None."""
        return (
            None if places is None else [of_choice[place] for of_choice, place in zip(affordable, places, strict=True)]
        )

    within_reach = [replace(constraint, coefficients=narrowed(constraint.coefficients)) for constraint in constraints]
    try:
        return unnarrowed(_solve(narrowed(costs), within_reach, deadline, allow_gap))
    except NoProofError as error:
        raise NoProofError(unnarrowed(error.choice), error.bound) from None


def _solve(
    costs: Sequence[Sequence[float]], constraints: Sequence[LinearConstraint], deadline: float, allow_gap: float
) -> list[int] | None:
    """Return what `solve_with_highs` does, by one programme of all options."""
    least = [min(options) for options in costs]
    above_least = [[cost - lowest for cost in options] for options, lowest in zip(costs, least, strict=True)]
    largest = max(map(max, above_least)) or 1.0
    # Divided before multiplied: costs near the smallest float have no finite reciprocal.
    scaled_costs = [[cost / largest * _COST_SCALE for cost in options] for options in above_least]
    problem = pulp.LpProblem("limpq", pulp.LpMinimize)
    variables = [
        [problem.add_variable(f"takes_{group}_{option}", cat=pulp.LpBinary) for option in range(len(options))]
        for group, options in enumerate(costs)
    ]
    problem += _weighted_sum(scaled_costs, variables)
    for of_group in variables:
        if time.monotonic() > deadline:
            raise NoProofError
        problem += pulp.lpSum(of_group) == 1
    for constraint in constraints:
        coefficients, limit = _reduced(constraint)
        problem += _weighted_sum(coefficients, variables) <= limit
    least_cost = math.fsum(least)
    for _ in range(_MOST_REPAIRS):
        # HiGHS counts its gap without the least costs.
        share = _SHARE_OF_GAP * allow_gap
        absolute_gap = share * least_cost / largest * _COST_SCALE
        run_highs(problem, deadline, relative_gap=share, absolute_gap=absolute_gap)
        if problem.status == pulp.LpStatusInfeasible:
            return None
        choice = [
            max(range(len(of_group)), key=lambda option: of_group[option].varValue or 0) for of_group in variables
        ]
        exceeded = next((constraint for constraint in constraints if constraint.total(choice) > constraint.limit), None)
        # `status` also reads Optimal when a time limit stopped at a merely feasible point; `sol_status` does not.
        stopped = problem.sol_status != pulp.LpSolutionOptimal
        if stopped or (allow_gap and exceeded is None):
            proven = _proven_bound(problem)
            scaled_cost = math.fsum(of_group[option] for of_group, option in zip(scaled_costs, choice, strict=True))
            if not stopped and scaled_cost - proven <= _PROOF_TOLERANCE:
                return choice
            bound = least_cost + (proven - _BOUND_TOLERANCE) / _COST_SCALE * largest
            cost = least_cost + scaled_cost / _COST_SCALE * largest
            if not stopped and cost - bound > allow_gap * cost:
                allow_gap = 0.0  # it is too small beside what HiGHS is wrong by
                continue
            raise NoProofError(choice if exceeded is None else None, bound)
        if exceeded is None:
            return choice
        problem += _differs_from(choice, exceeded, variables)
    raise SearchError(f"HiGHS returned {_MOST_REPAIRS} policies that are over budget; try a slightly other budget")


def _differs_from(choice: Sequence[int], exceeded: LinearConstraint, variables: Variables) -> pulp.LpConstraint:
    """Return a constraint that forbids a choice over a limit, which the rounded coefficients let through.

    With it, every choice is forbidden whose coefficient is at least as large in each group.
    """
    return (
        pulp.lpSum(
            variable
            for of_group, coefficients, option in zip(variables, exceeded.coefficients, choice, strict=True)
            for variable, coefficient in zip(of_group, coefficients, strict=True)
            if coefficient >= coefficients[option]
        )
        <= len(choice) - 1
    )


def _proven_bound(problem: pulp.LpProblem) -> float:
    """Return what no choice costs less than by what HiGHS has proven, at least 0: all costs are."""
    bound = problem.solverModel.getInfo().mip_dual_bound
    return bound if math.isfinite(bound) else 0.0


def _weighted_sum(weights: Sequence[Sequence[float]], variables: Variables) -> pulp.LpAffineExpression:
    """Return the sum of weight x variable over groups and options, both [groups, options]."""
    terms = zip(itertools.chain(*variables), itertools.chain(*weights), strict=True)
    return pulp.LpAffineExpression(list(terms))


def _reduced(constraint: LinearConstraint) -> tuple[list[list[int]], float]:
    """Return coefficients, [groups, options], and limit of a constraint in small whole numbers.

    The least coefficient of each group is taken out, and the rest divided by the greatest common divisor. Coefficients
    that are still large are rounded down, which lets more choices through and never fewer; the caller adds them up
    again. One half is added to the limit, to keep the tolerance of the solver away from it.
    """
    least = [min(coefficients) for coefficients in constraint.coefficients]
    above_least = [
        [coefficient - lowest for coefficient in coefficients]
        for coefficients, lowest in zip(constraint.coefficients, least, strict=True)
    ]
    divisor = math.gcd(*itertools.chain(*above_least)) or 1
    divisor *= max(1, max(itertools.chain(*above_least)) // divisor // _LARGEST_COEFFICIENT)
    most = sum(map(max, above_least))  # a limit beyond it does not bind, and may be no float
    limit = min(constraint.limit - sum(least), most) // divisor + 0.5
    return [[coefficient // divisor for coefficient in coefficients] for coefficients in above_least], limit
