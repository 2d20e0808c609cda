"""The search: the policy of least importance lost within a budget, exact and proven."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

from limpq_hub.plan.budget import Budget
from limpq_hub.plan.certification import certify
from limpq_hub.plan.deadline import deadline_in
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.infeasible import check_each_constraint, conflict
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.quantities import allowed_gap
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver.solving import solve


def search(
    indicators: Indicators,
    budget: Budget,
    *,
    time_limit_s: float = 10,
    allow_gap: str | float | None = None,
    **choices: Any,
) -> Plan:
    """Return the policy of least importance lost among all that meet `budget`, proven optimal unless a gap is allowed.

    Of policies that lose the same, it is the one with the least sum in the first constraint, in the order of `Budget`,
    then in the second, then the one with the fewest weight bits, then activation bits, in the first layer by name where
    they differ. What each layer loses, a float64, is rounded to 2^-50 of the most that all can add up to (2^-36 where
    one option dwarfs the others), and compared in whole numbers: policies whose losses are equal on paper can be a unit
    apart. Where `Plan.way` is "bound" it is any one of those that lose the same; where it is "HiGHS", as with three
    constraints that add up over layers, any one of those within 2e-9 of what it loses; always the same one.
    `limpq_hub.plan.solver` tells how.

    `Plan.certificate` says how far the second best policy and the best uniform one lie behind; it searches again, once
    for each layer, when it is asked for.

    Args:
        time_limit_s: seconds after which the search gives up, up to a day; the certificate has as many of its own.
        allow_gap: where the proof takes long, the share of its objective by which a policy may lie above the bound:
            0.01 or "1%". Such a plan has `optimal` False, and its `bound`. It holds for the second best as well.
        choices: `alpha`, `importance`, `apart`, `candidates`, `pin`, `exclude`, `tie` and `counting`, as in
            `SearchProblem.of`.

    Raises:
        InfeasibleBudgetError: no policy meets the budget; says the nearest one that can be met, see
            `InfeasibleBudgetError`.
        PolicyError: a pattern matches nothing, or bits that were not learned are asked for.
        SearchError: no proven optimum within `time_limit_s`, and no policy within `allow_gap`; says which gap would do.

    Source: LIMPQ (ECCV 2022), the integer programme over learned step sizes.
    """
    began = time.perf_counter()
    deadline, gap = deadline_in(time_limit_s), allowed_gap(allow_gap)
    problem = SearchProblem.of(indicators, budget, deadline=deadline, **choices)
    check_each_constraint(problem, deadline)
    solution = solve(problem.programme, deadline, gap)
    if solution is None:
        raise conflict(problem, deadline)
    plan = problem.plan(solution, time.perf_counter() - began)
    return replace(plan, certify=partial(certify, problem, solution, plan, time_limit_s, gap))
