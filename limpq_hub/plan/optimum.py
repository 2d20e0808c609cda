"""The search: the policy of least importance lost within a budget, exact and proven."""

from __future__ import annotations

import time
from collections.abc import Iterable

from limpq_hub.plan.budget import Budget
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.infeasible import check_each_constraint, conflict
from limpq_hub.plan.question import Question, check_time_limit
from limpq_hub.plan.result import Plan
from limpq_hub.plan.units import Candidates, Pins


def search(
    indicators: Indicators,
    budget: Budget,
    *,
    alpha: float | None = None,
    candidates: Candidates | None = None,
    pin: Pins | None = None,
    exclude: Iterable[str] | None = None,
    tie: Iterable[Iterable[str]] | None = None,
    counting: Counting = "exact",
    time_limit_s: float = 10,
) -> Plan:
    """Return the policy of least importance lost among all that meet `budget`, proven optimal.

    Of policies that lose the same (to 2^-50 of what any could lose), it is the one with the least sum in the first
    constraint, in the order of `Budget`, then in the second, then the one with the fewest weight bits, then activation
    bits, in the first layer by name where they differ. PuLP takes over for three constraints that add up over layers
    and where too many policies are nearly the best: it returns any one of those within 1e-9 of the largest importance,
    always the same.

    Args:
        alpha: factor of the weight importance in the objective; that of the indicators if None.
        candidates: bit-widths that may be used, or by layer pattern; all that were learned if None.
        pin: (weight bits, activation bits) by shell pattern over layer names.
        exclude: shell patterns of layers that keep their most bits.
        tie: groups of shell patterns; the layers of a group get the same bits.
        counting: "exact" MACs, or "limpq" as the published script counts them.

    Raises:
        InfeasibleBudgetError: no policy meets the budget; says what the smallest one is.
        PolicyError: a pattern matches nothing, or bits that were not learned are asked for.
        SearchError: no proven optimum within `time_limit_s`.

    Source: LIMPQ (ECCV 2022), the integer programme over learned step sizes.
    """
    began = time.perf_counter()
    check_time_limit(time_limit_s)
    question = Question.of(
        indicators,
        budget,
        alpha=alpha,
        candidates=candidates,
        pin=pin,
        exclude=exclude,
        tie=tie,
        counting=counting,
    )
    check_each_constraint(question, time_limit_s)
    solution = question.programme.solve(time_limit_s)
    if solution is None:
        raise conflict(question, time_limit_s)
    return question.plan(solution, time.perf_counter() - began)
