"""The search as a multiple-choice knapsack: the exact optimum by enumeration near the bound, in numpy.

With the prices of `prices.py` each option has a reduced cost of at least 0: what a choice loses against the bound by
taking it. A choice within a gap of the bound takes options whose reduced costs add up to at most the gap. These few are
enumerated in two halves of the units, partial choices that another one beats left out, and the halves joined. The gap
is widened until a choice lies within it: then none is better.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from limpq_hub.plan.prices import best_prices
from limpq_hub.plan.tables import Floats, Integers, Tables

MOST_STATES = 200_000
MOST_PAIRS = 5_000_000
_FIRST_ALTERNATIVES = 30
_WIDEN, _WIDEN_GENTLY = 2.5, 1.15
_MANY_STATES = 500
# Relative to costs, and to costs with priced coefficients: more than rounding adds to a reduced cost.
_SAFETY, _PRICED_SAFETY = 1e-9, 1e-14


class TooManyStatesError(Exception):
    """There are more than `MOST_STATES` partial choices near the bound, or `MOST_PAIRS` pairs, or the time is over."""


class Cheapest(NamedTuple):
    """The cheapest choice.

    Attributes:
        options: the option of each unit.
        gap: by how much it costs more than the bound.
    """

    options: Integers
    gap: float


def cheapest(tables: Tables, deadline: float = float("inf"), gap: float = 0.0) -> Cheapest | None:
    """Return the cheapest choice, or None if no choice meets the limits.

    Of choices that cost the same, the one with the least sum in the first row is returned, then in the second, then the
    one with the first option in the first unit where they differ.

    Args:
        deadline: when to give up, by `time.monotonic`.
        gap: where to begin; that of a similar search saves time.

    Raises:
        TooManyStatesError: too many partial choices are near the bound.
    """
    there = np.isfinite(tables.costs)
    if not there.any(1).all():
        return None
    highest = float(np.where(there, tables.costs, 0.0).max(1).sum())
    prices = best_prices(tables, highest)
    if prices is None:
        return None
    priced = tables.costs + np.tensordot(prices, tables.rows, 1)
    least = priced.min(1, keepdims=True)
    reduced = priced - least
    priced_sum = float(np.where(there, priced, 0.0).max(1).sum() + prices @ tables.limits)
    safety = _SAFETY * (1.0 + highest) + _PRICED_SAFETY * priced_sum
    bound = float(least.sum() - prices @ tables.limits)
    widest = highest - bound + safety
    positive = np.sort(reduced[there & (reduced > safety)])
    gap = gap or (float(positive[_FIRST_ALTERNATIVES]) if len(positive) > _FIRST_ALTERNATIVES else widest)
    by, before = _WIDEN, 0.0
    while True:
        gap = min(gap, widest)
        try:
            choice, states = _within(tables, reduced, prices, gap + safety, deadline)
        except TooManyStatesError:
            if by == _WIDEN_GENTLY or not before or time.monotonic() > deadline:
                raise
            by = _WIDEN_GENTLY
            gap = before * by
            continue
        if choice is not None:
            return Cheapest(choice, max(0.0, float(tables.costs[np.arange(len(choice)), choice].sum()) - bound))
        if gap == widest:
            return None
        before = gap
        by = by if states < _MANY_STATES else _WIDEN_GENTLY
        gap *= by


@dataclass(frozen=True)
class _States:
    """Partial choices of some units: those that no other one beats.

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


def _within(
    tables: Tables, reduced: Floats, prices: Floats, gap: float, deadline: float
) -> tuple[Integers | None, int]:
    """Return the cheapest choice that costs at most `gap` more than the bound, or None, and how many states it took."""
    alternatives = (reduced <= gap).sum(1)
    choice = reduced.argmin(1)
    fixed, free = np.flatnonzero(alternatives == 1), np.flatnonzero(alternatives > 1)
    room = tables.limits - tables.rows[:, fixed, choice[fixed]].sum(1)
    weight = np.log(alternatives[free]).cumsum()
    half = int(np.searchsorted(weight, weight[-1] / 2)) + 1 if len(free) else 0
    first, second = (_enumerated(tables, reduced, units, gap, deadline) for units in (free[:half], free[half:]))
    pair = _joined(first, second, room, prices, gap)
    if pair is not None:
        choice[free] = first.options(pair[0]) + second.options(pair[1])
    return (None if pair is None else choice), len(first.costs) + len(second.costs)


def _enumerated(tables: Tables, reduced: Floats, units: Integers, gap: float, deadline: float) -> _States:
    """Return the partial choices of the units whose reduced costs add up to at most `gap`."""
    states = _States(np.zeros((len(tables.rows), 1)), np.zeros(1), np.zeros(1))
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
        best = unbeaten(sums, costs)
        came_from = (parent[best], option[best])
        states = _States(sums[:, best], costs[best], lost[kept[best]], (*states.history, came_from))
    return states


def unbeaten(sums: Floats, costs: Floats) -> Integers:
    """Return the states without those that cost no less than one with the same sums and no more in the last row."""
    order = np.lexsort((costs, *sums[::-1]))
    costs = costs[order]
    if len(sums) > 1:
        # Later groups of the same sums rank below earlier ones, so that each is compared with itself alone.
        changed = (sums[:-1, order[1:]] != sums[:-1, order[:-1]]).any(0)
        group = np.concatenate(([0], changed.cumsum()))
        rank = np.empty(len(order))
        rank[np.argsort(costs, kind="stable")] = np.arange(len(order))
        costs = rank - group * len(order)
    unbeaten = np.ones(len(order), bool)
    unbeaten[1:] = costs[1:] < np.minimum.accumulate(costs)[:-1]
    return order[unbeaten]


def _joined(first: _States, second: _States, room: Floats, prices: Floats, gap: float) -> tuple[int, int] | None:
    """Return the states of the two halves that together are within `room` and `gap` and cost the least."""
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
