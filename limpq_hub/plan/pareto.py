"""The Pareto front: the best policy at each of many budgets, from the least to the most BitOps."""

from __future__ import annotations

from limpq_hub.errors import BudgetError, shown
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.ilp import search
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.result import Plan


def pareto_front(
    indicators: Indicators, points: int, *, alpha: float | None = None, counting: Counting = "exact"
) -> list[Plan]:
    """Return the best plan at each of `points` budgets evenly apart, BitOps ascending and objectives falling.

    A plan that another one beats in BitOps without a worse objective is left out, so there can be fewer than `points`.

    Raises:
        BudgetError: `points` is not a whole number of at least 2.
    """
    if type(points) is not int or points < 2:
        raise BudgetError(f"points={shown(points)} cannot be: use a whole number of at least 2, for example 100")
    least, most = indicators.bitops_range(counting)
    front: list[Plan] = []
    for point in range(points):
        budget = Budget(bitops=least + (most - least) * point // (points - 1))
        plan = search(indicators, budget, alpha=alpha, counting=counting)
        if not front or plan.objective < front[-1].objective:
            front.append(plan)
    return front
