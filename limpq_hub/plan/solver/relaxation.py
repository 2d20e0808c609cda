"""The programme with its limits priced instead of kept: a bound, and how far above it each option and choice lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limpq_hub.plan.deadline import NEVER
from limpq_hub.plan.solver.prices import best_prices
from limpq_hub.plan.solver.scaled_programme import Floats, Integers, ScaledProgramme

# More than rounding adds to a reduced cost: relative to costs, and to costs with priced coefficients.
_SAFETY, _PRICED_SAFETY = 1e-9, 1e-14


@dataclass(frozen=True)
class Relaxation:
    """What the best prices prove.

    Attributes:
        prices: [constraints].
        reduced_costs: [groups, options], at least 0; infinite where a group has no such option.
        bound: no choice within the limits costs less, but for rounding.
        safety: more than rounding adds to a bound or a reduced cost.
        widest: no choice costs more than this above the bound.
    """

    prices: Floats
    reduced_costs: Floats
    bound: float
    safety: float
    widest: float

    @classmethod
    def of(cls, programme: ScaledProgramme, deadline: float = NEVER) -> Relaxation | None:
        """Return the relaxation at the best prices, or None if it proves that no choice meets the limits.

        Raises:
            SearchError: the time is over.
        """
        exists = np.isfinite(programme.costs)
        if not exists.any(1).all():
            return None
        highest = float(np.where(exists, programme.costs, 0.0).max(1).sum())
        prices = best_prices(programme, highest, deadline)
        if prices is None:
            return None
        priced = programme.priced_costs(prices)
        least = priced.min(1, keepdims=True)
        priced_sum = float(np.where(exists, priced, 0.0).max(1).sum() + prices @ programme.limits)
        safety = _SAFETY * (1.0 + highest) + _PRICED_SAFETY * priced_sum
        bound = float(least.sum() - prices @ programme.limits)
        return cls(prices, priced - least, bound, safety, highest - bound + safety)

    def gap_of(self, programme: ScaledProgramme, choice: Integers) -> float:
        """Return how much a choice, [groups], costs above the bound."""
        return programme.cost_of(choice) - self.bound
