"""The search: the policy of least importance lost within a budget, exact and proven."""

from __future__ import annotations

import time
from typing import Any

from limpq_hub.plan.budget import Budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.infeasible import check_each_constraint, conflict
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.search_problem import SearchProblem, check_time_limit


def search(indicators: Indicators, budget: Budget, *, time_limit_s: float = 10, **choices: Any) -> Plan:
    """Return the policy of least importance lost among all that meet `budget`, proven optimal.

    Of policies that lose the same (to 2^-50 of what any could lose), it is the one with the least sum in the first
    constraint, in the order of `Budget`, then in the second, then the one with the fewest weight bits, then activation
    bits, in the first layer by name where they differ. HiGHS takes over for three constraints that add up over layers
    and where too many policies are nearly the best: it returns any one of those within 1e-9 of the largest importance,
    always the same. `limpq_hub.plan.solver` tells how.

    Args:
        time_limit_s: seconds after which the search gives up.
        choices: `alpha`, `candidates`, `pin`, `exclude`, `tie` and `counting`, as in `SearchProblem.of`.

    Raises:
        InfeasibleBudgetError: no policy meets the budget; says what the smallest one is.
        PolicyError: a pattern matches nothing, or bits that were not learned are asked for.
        SearchError: no proven optimum within `time_limit_s`.

    Source: LIMPQ (ECCV 2022), the integer programme over learned step sizes.
    """
    began = time.perf_counter()
    check_time_limit(time_limit_s)
    deadline = time.monotonic() + time_limit_s
    problem = SearchProblem.of(indicators, budget, **choices)
    check_each_constraint(problem, deadline)
    solution = problem.programme.solve(deadline)
    if solution is None:
        raise conflict(problem, deadline)
    return problem.plan(solution, time.perf_counter() - began)
