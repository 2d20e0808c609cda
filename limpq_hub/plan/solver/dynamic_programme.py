"""The best choice at every budget of a range at once: a dynamic programme over the whole numbers of one row."""

from __future__ import annotations

import numpy as np

from limpq_hub.plan.solver.meet_in_the_middle import unbeaten
from limpq_hub.plan.solver.scaled_programme import Floats, Integers, ScaledProgramme

# Budgets times units: above it, searches one by one are the better way.
MOST_CELLS = 2_000_000


class DynamicProgramme:
    """The best choice for each limit of the one row of `tables`, from 0 to the limit there.

    Equal costs are told apart as by `knapsack.cheapest`.
    """

    def __init__(self, tables: ScaledProgramme) -> None:
        """Fill the table, from the last unit to the first.

        Args:
            tables: with one row, and `fits` this way.
        """
        self._rows = tables.rows[0].astype(np.int64)
        self._options = np.zeros((len(tables.costs), _budgets(tables)), np.uint16)
        # For each sum of the row: the least cost of the units so far that add up to exactly that.
        least = np.full(self._options.shape[1], np.inf)
        least[0] = 0.0
        reached = 0
        for unit in reversed(range(len(tables.costs))):
            least, reached = self._with_unit(tables, unit, least, reached)
        cheapest = np.minimum.accumulate(least)
        # The smallest sum that costs the least among all up to a limit.
        self._sums = np.maximum.accumulate(np.where(least < np.append(np.inf, cheapest[:-1]), np.arange(len(least)), 0))
        self._least = cheapest

    @staticmethod
    def fits(tables: ScaledProgramme) -> bool:
        """Return whether this way suits `tables`: one row, not too many different sums."""
        return len(tables.limits) == 1 and _budgets(tables) * len(tables.costs) <= MOST_CELLS

    def cheapest(self, limit: float) -> Integers | None:
        """Return the option of each unit within a limit, or None if there is no choice."""
        place = int(min(limit, len(self._least) - 1))
        if place < 0 or not np.isfinite(self._least[place]):
            return None
        left, choice = int(self._sums[place]), np.zeros(len(self._rows), np.int64)
        for unit, of_sum in enumerate(self._options):
            choice[unit] = of_sum[left]
            left -= int(self._rows[unit, choice[unit]])
        return choice

    def _with_unit(self, tables: ScaledProgramme, unit: int, least: Floats, reached: int) -> tuple[Floats, int]:
        options = np.flatnonzero(np.isfinite(tables.costs[unit]))
        options = options[unbeaten(tables.rows[:, unit, options], tables.costs[unit, options])]
        following = np.full(len(least), np.inf)
        reachable = min(reached + int(self._rows[unit, options].max(initial=0)), len(least) - 1)
        for option in np.sort(options):
            used = int(self._rows[unit, option])
            span = slice(used, min(reached + used, reachable) + 1)
            costs = least[: span.stop - used] + tables.costs[unit, option]
            better = costs < following[span]
            following[span][better] = costs[better]
            self._options[unit, span][better] = option
        return following, reachable


def _budgets(tables: ScaledProgramme) -> int:
    there = np.isfinite(tables.costs)
    largest = np.where(there, tables.rows[0], 0.0).max(1).sum()
    return int(min(largest, tables.limits[0])) + 1
