"""The best choice at every limit of one constraint at once: a dynamic programme over its whole-number sums."""

from __future__ import annotations

import numpy as np

from limpq_hub.plan.deadline import NEVER, until
from limpq_hub.plan.solver.scaled_programme import Floats, Integers, ScaledProgramme
from limpq_hub.plan.solver.states import undominated

# Sums times groups. Above it, a search for each limit on its own is faster.
MOST_CELLS = 2_000_000


class DynamicProgramme:
    """The best choice for each limit of the one constraint of a scaled programme, from 0 to the limit there.

    Of choices that cost the same, it returns the one that `enumeration.cheapest` does.
    """

    def __init__(self, programme: ScaledProgramme, deadline: float = NEVER) -> None:
        """Fill the table [groups, sums] of the option that each group takes to reach each sum at the least cost.

        Args:
            programme: with one constraint, and `fits` this way.
            deadline: when to give up, by `time.monotonic`.

        Raises:
            SearchError: the time is over.
        """
        self._coefficients = programme.coefficients[0].astype(np.int64)  # [groups, options]
        self._options = np.zeros((len(programme.costs), _sums_within_limit(programme)), np.uint16)
        # For each sum, the least cost of a partial choice that uses exactly that much: [sums].
        least_costs = np.full(self._options.shape[1], np.inf)
        least_costs[0] = 0.0
        largest_sum = 0
        # From the last group to the first, so that among equal costs the first group gets its first option.
        for group in until(deadline, reversed(range(len(programme.costs)))):
            least_costs, largest_sum = self._with_group(programme, group, least_costs, largest_sum)
        self._least_costs = np.minimum.accumulate(least_costs)
        # For each limit, the smallest sum within it of the least cost: [sums].
        improves = least_costs < np.append(np.inf, self._least_costs[:-1])
        self._best_sums = np.maximum.accumulate(np.where(improves, np.arange(len(least_costs)), 0))

    @staticmethod
    def fits(programme: ScaledProgramme) -> bool:
        """Return whether this way suits a programme: one constraint, and not too many different sums."""
        return len(programme.limits) == 1 and _sums_within_limit(programme) * len(programme.costs) <= MOST_CELLS

    def cheapest(self, limit: float) -> Integers | None:
        """Return the option of each group within a scaled limit, [groups], or None if there is no choice."""
        place = int(min(limit, len(self._least_costs) - 1))
        if place < 0 or not np.isfinite(self._least_costs[place]):
            return None
        remaining, choice = int(self._best_sums[place]), np.zeros(len(self._coefficients), np.int64)
        for group, options in enumerate(self._options):
            choice[group] = options[remaining]
            remaining -= int(self._coefficients[group, choice[group]])
        return choice

    def _with_group(
        self, programme: ScaledProgramme, group: int, least_costs: Floats, largest_sum: int
    ) -> tuple[Floats, int]:
        """Return the least cost of each sum, [sums], once `group` is added, and the largest sum that is reached."""
        options = np.flatnonzero(np.isfinite(programme.costs[group]))
        options = options[undominated(programme.coefficients[:, group, options], programme.costs[group, options])]
        costs_with_group = np.full(len(least_costs), np.inf)
        largest_coefficient = int(self._coefficients[group, options].max(initial=0))
        largest_with_group = min(largest_sum + largest_coefficient, len(least_costs) - 1)
        for option in np.sort(options):
            coefficient = int(self._coefficients[group, option])
            sums = slice(coefficient, min(largest_sum + coefficient, largest_with_group) + 1)
            costs = least_costs[: sums.stop - coefficient] + programme.costs[group, option]
            cheaper = costs < costs_with_group[sums]
            costs_with_group[sums][cheaper] = costs[cheaper]
            self._options[group, sums][cheaper] = option
        return costs_with_group, largest_with_group


def _sums_within_limit(programme: ScaledProgramme) -> int:
    """Return how many sums there are from 0 to the limit, or to the largest sum of affordable options if less."""
    affordable = np.isfinite(programme.costs)
    largest_sum = np.where(affordable, programme.coefficients[0], 0.0).max(1).sum()
    return int(min(largest_sum, programme.limits[0])) + 1
