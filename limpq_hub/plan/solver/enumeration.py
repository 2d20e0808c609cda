"""The search as a multiple-choice knapsack: the exact optimum by enumeration near the bound, in numpy.

With the prices of `prices.py` each option has a reduced cost of at least 0: what a choice loses against the bound by
taking it. A choice within a gap of the bound takes options whose reduced costs add up to at most the gap. These few are
enumerated in two halves of the units, partial choices that another one beats left out, and the halves joined. The gap
is widened until a choice lies within it: then none is better.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from limpq_hub.plan.solver.meet_in_the_middle import TooManyStatesError, enumerated, joined, nearest
from limpq_hub.plan.solver.prices import best_prices
from limpq_hub.plan.solver.scaled_programme import Floats, Integers, ScaledProgramme

_FIRST_ALTERNATIVES = 30
_WIDEN, _WIDEN_GENTLY = 2.5, 1.15
_MANY_STATES = 500
# Relative to costs, and to costs with priced coefficients: more than rounding adds to a reduced cost.
_SAFETY, _PRICED_SAFETY = 1e-9, 1e-14


class Cheapest(NamedTuple):
    """The cheapest choice.

    Attributes:
        options: the option of each unit.
        gap: by how much it costs more than the bound.
    """

    options: Integers
    gap: float


def cheapest(tables: ScaledProgramme, deadline: float = float("inf"), gap: float = 0.0) -> Cheapest | None:
    """Return the cheapest choice, or None if no choice meets the limits.

    Of choices that cost the same, the one with the least sum in the first row is returned, then in the second, then the
    one with the first option in the first unit where they differ.

    Args:
        deadline: when to give up, by `time.monotonic`.
        gap: where to begin; that of a similar search saves time.

    Raises:
        TooManyStatesError: too many partial choices are near the bound.
    """
    exists = np.isfinite(tables.costs)
    if not exists.any(1).all():
        return None
    highest = float(np.where(exists, tables.costs, 0.0).max(1).sum())
    prices = best_prices(tables, highest)
    if prices is None:
        return None
    priced = tables.costs + sum(price * row for price, row in zip(prices, tables.rows, strict=True))
    least = priced.min(1, keepdims=True)
    reduced = priced - least
    priced_sum = float(np.where(exists, priced, 0.0).max(1).sum() + prices @ tables.limits)
    safety = _SAFETY * (1.0 + highest) + _PRICED_SAFETY * priced_sum
    bound = float(least.sum() - prices @ tables.limits)
    widest = highest - bound + safety
    positive = np.sort(reduced[exists & (reduced > safety)])
    gap = gap or (float(positive[_FIRST_ALTERNATIVES]) if len(positive) > _FIRST_ALTERNATIVES else widest)
    growth, before = _WIDEN, 0.0
    while True:
        gap = min(gap, widest)
        try:
            found = _within(tables, reduced, prices, gap + safety, deadline)
        except TooManyStatesError:
            if growth == _WIDEN_GENTLY or not before or time.monotonic() > deadline:
                raise
            growth = _WIDEN_GENTLY
            gap = before * growth
            continue
        if found.choice is not None:
            lost = float(tables.costs[np.arange(len(found.choice)), found.choice].sum()) - bound
            if lost <= gap or gap == widest:
                return Cheapest(found.choice, max(0.0, lost))
            # Nothing is proven of choices in the safety margin.
            before, gap = gap, lost
            continue
        if gap == widest:
            return None
        before = gap
        growth = growth if found.states < _MANY_STATES else _WIDEN_GENTLY
        gap = min(gap * growth, max(found.nearest, gap * _WIDEN_GENTLY))


class _Found(NamedTuple):
    """What lies within a gap of the bound.

    Attributes:
        choice: the cheapest choice, or None.
        states: how many partial choices were looked at.
        nearest: where there is no choice, a gap within which there is one; infinite if none is known.
    """

    choice: Integers | None
    states: int
    nearest: float = np.inf


def _within(tables: ScaledProgramme, reduced: Floats, prices: Floats, gap: float, deadline: float) -> _Found:
    """Return the cheapest choice that costs at most `gap` more than the bound, if there is one."""
    alternatives = (reduced <= gap).sum(1)
    choice = reduced.argmin(1)
    fixed, free = np.flatnonzero(alternatives == 1), np.flatnonzero(alternatives > 1)
    room = tables.limits - tables.rows[:, fixed, choice[fixed]].sum(1)
    weight = np.log(alternatives[free]).cumsum()
    half = int(np.searchsorted(weight, weight[-1] / 2)) + 1 if len(free) else 0
    first, second = (enumerated(tables, reduced, units, gap, deadline) for units in (free[:half], free[half:]))
    pair = joined(first, second, room, prices, gap)
    states = len(first.costs) + len(second.costs)
    if pair is None:
        return _Found(None, states, nearest(first, second, room, prices))
    choice[free] = first.options(pair[0]) + second.options(pair[1])
    return _Found(choice, states)
