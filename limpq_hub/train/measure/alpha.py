"""Alpha, the factor of the weight importance in the objective: the one whose policies diverge least from float."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from limpq_hub.plan.budget import Budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.optimum import search
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.train.progress import tracked

ALPHAS = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# How far it goes on doubling where the largest is the best: networks of depthwise convolutions need hundreds.
_LARGEST = 4096.0
_LEAST_DIVERGENCE = 1e-9  # in nats


def with_measured_alpha(
    indicators: Indicators, divergence_of: Callable[[Policy], float]
) -> tuple[Indicators, dict[str, list[float]]]:
    """Return the indicators with the best alpha, and the divergences at each alpha.

    `ALPHAS` are measured, then twice the largest as long as the largest is the best. The budgets lie halfway between
    neighbouring uniform policies; those below the least that a search can reach without outliers are left out, and so
    is the largest where others are left. The best alpha has the least geometric mean over them.

    Args:
        divergence_of: KL divergence of a policy from the float network in nats, such as `Divergence`.

    Returns:
        Indicators, and {alpha: [KL divergence from the float network at each budget, in nats]}.
    """
    budgets = [Budget(bitops=bitops) for bitops in _budgets(indicators)]

    def divergences_at(alpha: float) -> list[float]:
        """Return the divergence of the policy that is searched with an alpha, at each budget."""
        return [divergence_of(search(indicators, budget, alpha=alpha).policy) for budget in budgets]

    shown = tracked(ALPHAS, "measuring alpha", "factors", len(ALPHAS), each_takes_long=True)
    measured = {alpha: divergences_at(alpha) for alpha in shown}
    while (best := _best(measured)) == max(measured) < _LARGEST:
        measured[2 * best] = divergences_at(2 * best)
    record = {
        f"{alpha:g}": [round(divergence, 5) for divergence in divergences] for alpha, divergences in measured.items()
    }
    return replace(indicators, alpha=best), record


def _best(measured: Mapping[float, Sequence[float]]) -> float:
    """Return the alpha whose divergences have the least geometric mean."""
    # The divergence of a policy that is as good as float can be 0, which has no logarithm.
    return min(
        measured, key=lambda alpha: sum(math.log(max(divergence, _LEAST_DIVERGENCE)) for divergence in measured[alpha])
    )


def _budgets(indicators: Indicators) -> list[int]:
    """Return the BitOps at which alpha is measured; where none is left to trade, those of the most bits."""
    costs, ascending = indicators.costs, sorted(indicators.candidates)
    uniform = [total_bitops(costs, Policy.uniform(indicators.model, costs, bits)) for bits in ascending]
    least, most = indicators.bitops_range()
    between = [(low + high) // 2 for low, high in itertools.pairwise(uniform)]
    reached = [bitops for bitops in between if bitops >= least]
    return reached[:-1] or reached or [most]
