"""The integer programme for a general solver, HiGHS through PuLP: for what the ways of this project do not take."""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import pulp

from limpq_hub.errors import SearchError
from limpq_hub.plan.linear_constraint import LinearConstraint

# HiGHS looks only for choices that cost at least 1e-6 less than its best so far: costs are scaled to reach up to this.
_COST_SCALE = 1e4
# Coefficients up to this stay exact within the tolerances of HiGHS.
_LARGEST_COEFFICIENT = 10**5
_MOST_REPAIRS = 100
_REINSTALL = "reinstall it: pip install --force-reinstall pulp highspy"
_STDOUT_LOCK = threading.Lock()

Number = TypeVar("Number", int, float)
# A PuLP variable of each option of each group, 1 where the group takes it: [groups, options].
Variables = Sequence[Sequence[pulp.LpVariable]]


def solve_with_highs(
    costs: Sequence[Sequence[float]], constraints: Sequence[LinearConstraint], deadline: float
) -> list[int] | None:
    """Return the option that each group takes for the least total cost within all limits, [groups], or None.

    Args:
        costs: [groups, options], rows of different lengths where groups have different numbers of options.
        constraints: each with coefficients of the same shape.
        deadline: when to give up, by `time.monotonic`.

    Raises:
        SearchError: HiGHS does not work, or there is no proven optimum in time.
    """
    affordable = [_affordable_options(constraints, group, len(options)) for group, options in enumerate(costs)]
    if not all(affordable):
        return None

    def narrowed(table: Sequence[Sequence[Number]]) -> tuple[tuple[Number, ...], ...]:
        """Return a table [groups, options] with the affordable options alone."""
        return tuple(
            tuple(of_group[option] for option in options) for of_group, options in zip(table, affordable, strict=True)
        )

    within_reach = [replace(constraint, coefficients=narrowed(constraint.coefficients)) for constraint in constraints]
    choice = _solve(narrowed(costs), within_reach, deadline)
    return choice and [options[place] for options, place in zip(affordable, choice, strict=True)]


def run_highs(problem: pulp.LpProblem, deadline: float) -> None:
    """Solve `problem` with HiGHS, inside this process: no solver and no file outlives it.

    The number of threads is left to HiGHS: all programmes of a process share it, and where another one has set it,
    HiGHS refuses a different number.

    Raises:
        SearchError: it could not be run, or gave up before the deadline.
    """
    try:
        problem.solve(_QuietHighs(msg=False, gapRel=0, gapAbs=0, timeLimit=max(deadline - time.monotonic(), 0.01)))
    except pulp.PulpSolverError:
        raise SearchError(f"HiGHS could not be run; {_REINSTALL}") from None
    if problem.status == pulp.LpStatusNotSolved and time.monotonic() < deadline:
        raise SearchError(f"HiGHS gave up without an answer; {_REINSTALL}, or search in a process of its own")


def _solve(
    costs: Sequence[Sequence[float]], constraints: Sequence[LinearConstraint], deadline: float
) -> list[int] | None:
    """Return what `solve_with_highs` does; options that no choice within the limits takes are left out already."""
    above_least = [[cost - min(options) for cost in options] for options in costs]
    scale = _COST_SCALE / (max(map(max, above_least)) or 1.0)
    problem = pulp.LpProblem("limpq", pulp.LpMinimize)
    variables = [
        [problem.add_variable(f"takes_{group}_{option}", cat=pulp.LpBinary) for option in range(len(options))]
        for group, options in enumerate(costs)
    ]
    problem += scale * _weighted_sum(above_least, variables)
    for of_group in variables:
        problem += pulp.lpSum(of_group) == 1
    for constraint in constraints:
        coefficients, limit = _reduced(constraint)
        problem += _weighted_sum(coefficients, variables) <= limit
    for _ in range(_MOST_REPAIRS):
        run_highs(problem, deadline)
        if problem.status == pulp.LpStatusInfeasible:
            return None
        # `status` also reads Optimal when a time limit stopped at a merely feasible point; `sol_status` does not.
        if problem.sol_status != pulp.LpSolutionOptimal:
            raise SearchError("no proven optimum in time; raise time_limit_s, or use fewer candidates")
        choice = [
            max(range(len(of_group)), key=lambda option: of_group[option].varValue or 0) for of_group in variables
        ]
        exceeded = next((constraint for constraint in constraints if constraint.total(choice) > constraint.limit), None)
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


def _affordable_options(constraints: Sequence[LinearConstraint], group: int, options: int) -> list[int]:
    """Return the options of a group that are within every limit while all other groups use the least."""
    most = [constraint.limit - constraint.least + min(constraint.coefficients[group]) for constraint in constraints]
    return [
        option
        for option in range(options)
        if all(
            constraint.coefficients[group][option] <= most_of_constraint
            for constraint, most_of_constraint in zip(constraints, most, strict=True)
        )
    ]


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
    limit = (constraint.limit - sum(least)) // divisor + 0.5
    return [[coefficient // divisor for coefficient in coefficients] for coefficients in above_least], limit


class _QuietHighs(pulp.HiGHS):
    """HiGHS without the banner that it prints, against its options, where the first solver of a process is made."""

    def createAndConfigureSolver(self, lp: pulp.LpProblem) -> None:  # the name is PuLP's
        with _silent_stdout():
            super().createAndConfigureSolver(lp)


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Send what a library writes to the process's stdout nowhere."""
    # Stdout belongs to all threads: a second one would take the `/dev/null` of the first for the real one.
    with _STDOUT_LOCK:
        sys.stdout.flush()
        stdout, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 1)
            yield
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
            os.close(nowhere)
