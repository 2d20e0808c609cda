"""The Pareto front: the best policy at each of many budgets, from the least to the most BitOps."""

from __future__ import annotations

import time
from typing import Any

from limpq_hub.errors import BudgetError, shown
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.infeasible import check_each_constraint, conflict
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.search_problem import SearchProblem, check_time_limit

# More than any network of a zoo takes.
ANY_BITOPS = 10**18


def pareto_front(
    indicators: Indicators,
    points: int,
    *,
    budget: Budget | None = None,
    time_limit_s: float = 10,
    **choices: Any,
) -> list[Plan]:
    """Return the best plan at each of `points` budgets evenly apart, BitOps ascending and objectives falling.

    A plan that another one beats in BitOps without a worse objective is left out, so there can be fewer than `points`.

    Args:
        budget: constraints that every plan meets as well, BitOps among them: those of the last plan at most.
        time_limit_s: for each plan, and for the range of budgets.
        choices: `alpha`, `candidates`, `pin`, `exclude`, `tie` and `counting` as in `search`.

    Raises:
        BudgetError: `points` is not a whole number of at least 2.
        InfeasibleBudgetError: no policy meets `budget`.
    """
    if type(points) is not int or points < 2:
        raise BudgetError(f"points={shown(points)} cannot be: use a whole number of at least 2, for example 100")
    check_time_limit(time_limit_s)
    began = time.perf_counter()
    question = SearchProblem.of(indicators, budget or Budget(bitops=ANY_BITOPS), **choices)
    deadline = time.monotonic() + time_limit_s
    check_each_constraint(question, deadline)
    programme = question.programme
    least, best = programme.least(programme.rows[0], deadline), programme.solve(deadline)
    if least is None or best is None:
        raise conflict(question, deadline)
    most = programme.rows[0].total(best.choice)
    limits = [least + (most - least) * point // (points - 1) for point in range(points)]
    front: list[Plan] = []
    before = None
    for solution in programme.within(0, most).solve_within(0, limits, time_limit_s):
        if solution is not None and solution.choice != before:
            before = solution.choice
            plan = question.plan(solution, time.perf_counter() - began)
            if not front or plan.objective < front[-1].objective:
                front.append(plan)
        began = time.perf_counter()
    return front
