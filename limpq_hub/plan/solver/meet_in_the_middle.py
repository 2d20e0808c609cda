"""Meeting in the middle: of the partial choices of two halves of the groups, the best pair."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from limpq_hub.plan.deadline import NEVER
from limpq_hub.plan.solver.scaled_programme import Floats, Integers
from limpq_hub.plan.solver.states import States, TooManyStatesError

MOST_PAIRS = 5_000_000
# Pairs that are held in memory together.
_PAIRS_AT_A_TIME = 500_000
# Pairs up to which the smallest gap of all of them is computed.
_MOST_GAPS = 50_000


def smallest_gap(first: States, second: States, limits: Floats, prices: Floats) -> float:
    """Return the smallest gap of all pairs of states within the limits.

    Infinite if there is no such pair, and where there are too many pairs to compute all gaps.

    Args:
        first, second: states of two halves of the groups.
        limits: [constraints], what is left of them for the two halves.
        prices: [constraints].
    """
    if len(first.costs) * len(second.costs) > _MOST_GAPS:
        return np.inf
    slack = (limits[:, None] - first.sums)[:, :, None] - second.sums[:, None, :]  # [constraints, first, second]
    gaps = first.reduced_costs[:, None] + second.reduced_costs
    for price, slack_of_constraint in zip(prices, slack, strict=True):
        gaps += price * slack_of_constraint
    gaps[(slack < 0).any(0)] = np.inf
    return float(gaps.min())


def cheapest_pair(
    first: States, second: States, limits: Floats, prices: Floats, gap: float, deadline: float = NEVER
) -> tuple[int, int] | None:
    """Return the place of a state in each half, together within the limits and the gap, that cost the least, or None.

    Of pairs that cost the same, the one with the least sum in the first constraint, then in the second, then with the
    first options.

    Args:
        first, second: states of two halves of the groups.
        limits: [constraints], what is left of them for the two halves.
        prices: [constraints].
        deadline: when to give up, by `time.monotonic`.

    Raises:
        TooManyStatesError: too many pairs are near the bound, or the deadline is over.
    """
    # A pair pays the price of what it leaves unused of a limit, so within the gap it leaves little unused: for each
    # state of the first half, a narrow band of sums of the second. It is narrowest for the constraint of the dearest
    # limit.
    constraint = int((prices * (1 + np.abs(limits))).argmax())
    order = np.argsort(second.sums[constraint], kind="stable")
    ordered = second.sums[constraint, order]
    most = limits[constraint] - first.sums[constraint]
    price = prices[constraint]
    unused = (gap - first.reduced_costs) / price if price > 0 else np.full(len(most), np.inf)
    end = np.searchsorted(ordered, most, "right")
    begin = np.minimum(np.searchsorted(ordered, np.floor(most - unused), "left"), end)
    counts = end - begin
    if counts.sum() > MOST_PAIRS:
        raise TooManyStatesError
    best_rank: tuple[float, ...] | None = None
    lefts: list[Integers] = []
    rights: list[Integers] = []
    # Some pairs at a time, so that memory stays small and the deadline is looked at.
    for block in _blocks(counts):
        if time.monotonic() > deadline:
            raise TooManyStatesError
        counts_here = counts[block]
        left = np.repeat(np.arange(block.start, block.stop), counts_here)
        within = np.arange(len(left)) - np.repeat(counts_here.cumsum() - counts_here, counts_here)
        right = order[np.repeat(begin[block], counts_here) + within]
        near = first.reduced_costs[left] + second.reduced_costs[right] <= gap
        left, right = left[near], right[near]
        sums = first.sums[:, left] + second.sums[:, right]
        slack = limits[:, None] - sums
        gaps = first.reduced_costs[left] + second.reduced_costs[right] + prices @ slack
        near = (slack >= 0).all(0) & (gaps <= gap)
        left, right = left[near], right[near]
        if not len(left):
            continue
        ranks = np.array([first.costs[left] + second.costs[right], *sums[:, near]])
        best = np.lexsort(ranks[::-1])[0]
        rank = tuple(ranks[:, best].tolist())
        if best_rank is not None and rank > best_rank:
            continue
        if rank != best_rank:
            best_rank, lefts, rights = rank, [], []
        equal = np.flatnonzero((ranks == ranks[:, [best]]).all(0))
        lefts.append(left[equal])
        rights.append(right[equal])
    if best_rank is None:
        return None
    left, right = np.concatenate(lefts), np.concatenate(rights)
    places = _with_first_options(first, left)
    left, right = left[places], right[places]
    place = _with_first_options(second, right)[0]
    return int(left[place]), int(right[place])


def _blocks(counts: Integers) -> Iterator[slice]:
    """Yield runs of the states of the first half whose pairs, [states], are at most about `_PAIRS_AT_A_TIME` each."""
    ends = np.append(0, counts.cumsum())
    begin = 0
    while begin < len(counts):
        end = max(begin + 1, int(np.searchsorted(ends, ends[begin] + _PAIRS_AT_A_TIME, "right")) - 1)
        yield slice(begin, end)
        begin = end


def _with_first_options(states: States, places: Integers) -> Integers:
    """Return which of `places` hold the states whose options come first, group by group."""
    remaining = np.arange(len(places))
    at = places
    for parent, option in reversed(states.history):
        options = option[at]
        first = options == options.min()
        remaining, at = remaining[first], parent[at[first]]
    return remaining
