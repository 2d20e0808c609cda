"""The frontier: the best policy at each of many budgets, from the least to the most BitOps."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from limpq_hub.errors import BudgetError, quoted
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraints.bitops import ANY_BITOPS, BitOps
from limpq_hub.plan.deadline import deadline_in
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.infeasible import check_each_constraint, conflict
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.quantities import allowed_gap, python_integer
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver.solution import one_of_several
from limpq_hub.plan.solver.solving import least_total, solve, solve_at_limits

MOST_POINTS = 10_000


@one_of_several()
def search_frontier(
    indicators: Indicators,
    points: int,
    *,
    budget: Budget | None = None,
    time_limit_s: float = 60,
    allow_gap: str | float | None = None,
    **choices: Any,
) -> list[Plan]:
    """Return the best plan at each of `points` budgets evenly apart, BitOps ascending and objectives falling.

    A plan that another one beats in BitOps without a worse objective is left out, so there can be fewer than `points`.

    Args:
        budget: constraints that every plan meets as well; with BitOps among them, those of the last plan at most.
        time_limit_s: seconds for the whole frontier, up to a day.
        allow_gap: for each plan, as in `search`, and for the least BitOps, where other limits make it hard to find.
        choices: `alpha`, `importance`, `apart`, `candidates`, `pin`, `exclude`, `tie` and `counting` as in `search`.

    Raises:
        BudgetError: `points` is not a whole number from 2 to 10,000.
        InfeasibleBudgetError: no policy meets `budget`.
        SearchError: no proven optimum of one of them in time, and no policy within `allow_gap`.
    """
    count = python_integer(points)
    if count is None or count < 2:
        raise BudgetError(f"points={quoted(points)} cannot be: use a whole number of at least 2, for example 100")
    if count > MOST_POINTS:
        raise BudgetError(f"points={quoted(points)} are too many: use at most {MOST_POINTS}, for example 100")
    deadline, gap = deadline_in(time_limit_s), allowed_gap(allow_gap)
    began = time.perf_counter()
    any_bitops = Budget(bitops=ANY_BITOPS)
    within = budget.changed({**any_bitops.limits, **budget.limits}) if budget else any_bitops
    problem = SearchProblem.of(indicators, within, deadline=deadline, **choices)
    if budget is None or budget.bitops is None:  # that any are allowed is nothing to tell
        others = tuple((kind, most) for kind, most in problem.without_effect if kind.name != BitOps.name)
        problem = replace(problem, without_effect=others)
    check_each_constraint(problem, deadline)
    programme = problem.programme
    bitops = programme.constraints[0]  # of the kinds of limits the first, and always limited here
    least, best = least_total(programme, bitops, deadline, gap), solve(programme, deadline, gap)
    if least is None or best is None:
        raise conflict(problem, deadline)
    most = bitops.total(best.choice)
    limits = [least + (most - least) * point // (count - 1) for point in range(count)]
    plans: list[Plan] = []
    choice_before = None
    for solution in solve_at_limits(programme.with_limit(0, most), 0, limits, deadline, gap):
        if solution is not None and solution.choice != choice_before:
            choice_before = solution.choice
            plans.append(problem.plan(solution, time.perf_counter() - began))
        began = time.perf_counter()
    frontier: list[Plan] = []
    # Within an allowed gap, a larger budget may give a plan of fewer BitOps.
    for plan in sorted(plans, key=lambda plan: (plan.bitops, plan.objective)):
        if not frontier or plan.objective < frontier[-1].objective:
            frontier.append(plan)
    return frontier
