"""Two halves of the units of a knapsack: the partial choices near the bound, and pairs of them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from limpq_hub.plan.solver.scaled_programme import Floats, Integers, ScaledProgramme

MOST_STATES = 200_000
MOST_PAIRS = 5_000_000
_MOST_TRIED = 50_000
# Up to so many, leaving out those that are beaten takes longer than it saves.
_FEW_STATES = 100


class TooManyStatesError(Exception):
    """There are more than `MOST_STATES` partial choices near the bound, or `MOST_PAIRS` pairs, or the time is over."""


@dataclass(frozen=True)
class States:
    """Partial choices of some units; of many, only those that no other one beats.

    Attributes:
        sums: [rows, states].
        costs, reduced: [states], sums of costs and of reduced costs.
        history: for each unit, from the last to the first, the state it came from and the option taken.
    """

    sums: Floats
    costs: Floats
    reduced: Floats
    history: tuple[tuple[Integers, Integers], ...] = ()

    def options(self, state: int) -> list[int]:
        """Return the option of each unit, in the order of the units."""
        picked = []
        for came_from, option in reversed(self.history):
            picked.append(int(option[state]))
            state = int(came_from[state])
        return picked


def enumerated(tables: ScaledProgramme, reduced: Floats, units: Integers, gap: float, deadline: float) -> States:
    """Return the partial choices of the units whose reduced costs add up to at most `gap`.

    Raises:
        TooManyStatesError: there are too many, or `deadline`, by `time.monotonic`, is over.
    """
    states = States(np.zeros((len(tables.rows), 1)), np.zeros(1), np.zeros(1))
    for unit in units[::-1]:
        allowed = np.flatnonzero(reduced[unit] <= gap)
        if len(states.costs) * len(allowed) > MOST_STATES or time.monotonic() > deadline:
            raise TooManyStatesError
        lost = (reduced[unit, allowed, None] + states.reduced).ravel()
        kept = np.flatnonzero(lost <= gap)
        option, parent = np.divmod(kept, len(states.costs))
        option = allowed[option]
        sums = states.sums[:, parent] + tables.rows[:, unit, option]
        costs = states.costs[parent] + tables.costs[unit, option]
        best = unbeaten(sums, costs) if len(kept) > _FEW_STATES else slice(None)
        states = States(sums[:, best], costs[best], lost[kept[best]], (*states.history, (parent[best], option[best])))
    return states


def unbeaten(sums: Floats, costs: Floats) -> Integers:
    """Return the states without those that cost no less than one with the same sums and no more in the last row."""
    by_cost = costs.argsort(kind="stable")
    rank = np.zeros(len(costs), np.int64)
    rank[by_cost[1:]] = (costs[by_cost[1:]] != costs[by_cost[:-1]]).cumsum()
    order = by_cost[np.lexsort(sums[::-1, by_cost])]
    rank = rank[order]
    for of_row in sums[:-1, order]:
        # Later groups of the same sums rank below earlier ones, so that each is compared with itself alone.
        rank[1:] -= len(order) * (of_row[1:] != of_row[:-1]).cumsum()
    unbeaten = np.ones(len(order), bool)
    unbeaten[1:] = rank[1:] < np.minimum.accumulate(rank)[:-1]
    return order[unbeaten]


def nearest(first: States, second: States, room: Floats, prices: Floats) -> float:
    """Return the least gap of any two states within `room`; infinite if there are none, or too many to try them all."""
    if len(first.costs) * len(second.costs) > _MOST_TRIED:
        return np.inf
    slack = (room[:, None] - first.sums)[:, :, None] - second.sums[:, None, :]
    lost = first.reduced[:, None] + second.reduced
    for price, of_row in zip(prices, slack, strict=True):
        lost += price * of_row
    lost[(slack < 0).any(0)] = np.inf
    return float(lost.min())


def joined(first: States, second: States, room: Floats, prices: Floats, gap: float) -> tuple[int, int] | None:
    """Return the states of the two halves that together are within `room` and `gap` and cost the least, or None.

    Of those that cost the same, the ones with the least sum in the first row, then in the second, then with the first
    options.

    Raises:
        TooManyStatesError: too many pairs are near.
    """
    # What stays below the limit of a row costs its price, so in the row of the dearest limit few sums are left.
    row = int((prices * (1 + np.abs(room))).argmax())
    order = np.argsort(second.sums[row], kind="stable")
    ordered = second.sums[row, order]
    most = room[row] - first.sums[row]
    band = (gap - first.reduced) / prices[row] if prices[row] > 0 else np.full(len(most), np.inf)
    end = np.searchsorted(ordered, most, "right")
    begin = np.minimum(np.searchsorted(ordered, np.floor(most - band), "left"), end)
    counts = end - begin
    if counts.sum() > MOST_PAIRS:
        raise TooManyStatesError
    one = np.repeat(np.arange(len(counts)), counts)
    other = order[np.arange(len(one)) + np.repeat(begin - counts.cumsum() + counts, counts)]
    near = first.reduced[one] + second.reduced[other] <= gap
    one, other = one[near], other[near]
    sums = first.sums[:, one] + second.sums[:, other]
    slack = room[:, None] - sums
    near = (slack >= 0).all(0) & (first.reduced[one] + second.reduced[other] + prices @ slack <= gap)
    one, other = one[near], other[near]
    if not len(one):
        return None
    ranks = np.array([first.costs[one] + second.costs[other], *sums[:, near]])
    best = np.lexsort(ranks[::-1])[0]
    equal = np.flatnonzero((ranks == ranks[:, [best]]).all(0))
    pairs = zip(one[equal].tolist(), other[equal].tolist(), strict=True)
    return min(pairs, key=lambda pair: first.options(pair[0]) + second.options(pair[1]))
