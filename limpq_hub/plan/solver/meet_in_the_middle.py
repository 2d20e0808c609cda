"""Meeting in the middle: partial choices near the bound, of half of the groups each, and the best pair of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from limpq_hub.plan.deadline import NEVER
from limpq_hub.plan.solver.scaled_programme import Floats, Integers, ScaledProgramme

MOST_STATES = 200_000
MOST_PAIRS = 5_000_000
# Pairs that are held in memory together.
_PAIRS_AT_A_TIME = 500_000
# Pairs up to which the smallest gap of all of them is computed.
_MOST_GAPS = 50_000
# States up to which leaving out the dominated ones takes longer than it saves.
_FEW_STATES = 100


class TooManyStatesError(Exception):
    """There are more than `MOST_STATES` partial choices near the bound, or `MOST_PAIRS` pairs, or the time is over."""


@dataclass(frozen=True)
class States:
    """Partial choices of some groups; where there are many, only those that no other one dominates.

    Attributes:
        sums: [constraints, states], the coefficients of the options taken, added up.
        costs: [states], their costs, added up.
        reduced_costs: [states], their reduced costs, added up.
        history: for each group, from the last to the first, ([states], [states]): the state before the group was added,
            and the option that the group takes.
    """

    sums: Floats
    costs: Floats
    reduced_costs: Floats
    history: tuple[tuple[Integers, Integers], ...] = ()

    def options(self, state: int) -> list[int]:
        """Return the option of each group, [groups], in the order of the groups."""
        options = []
        for parent, option in reversed(self.history):
            options.append(int(option[state]))
            state = int(parent[state])
        return options


def states_within(
    programme: ScaledProgramme,
    reduced_costs: Floats,
    groups: Integers,
    gap: float,
    deadline: float,
    most_states: int | None = None,
) -> States:
    """Return the partial choices of some groups whose reduced costs add up to at most `gap`.

    Args:
        reduced_costs: [groups, options], of all groups of the programme.
        groups: the numbers of those that take part, ascending.
        deadline: when to give up, by `time.monotonic`.
        most_states: how many there may be before dominated ones are left out; `MOST_STATES` if None.

    Raises:
        TooManyStatesError: there are too many, or the deadline is over.
    """
    most_states = MOST_STATES if most_states is None else most_states
    states = States(np.zeros((len(programme.limits), 1)), np.zeros(1), np.zeros(1))
    for group in groups[::-1]:
        options = np.flatnonzero(reduced_costs[group] <= gap)
        if len(states.costs) * len(options) > most_states or time.monotonic() > deadline:
            raise TooManyStatesError
        # Every option with every state, [options x states].
        summed = (reduced_costs[group, options, None] + states.reduced_costs).ravel()
        near = np.flatnonzero(summed <= gap)
        option, parent = np.divmod(near, len(states.costs))
        option = options[option]
        sums = states.sums[:, parent] + programme.coefficients[:, group, option]
        costs = states.costs[parent] + programme.costs[group, option]
        best = undominated(sums, costs) if len(near) > _FEW_STATES else slice(None)
        history = (*states.history, (parent[best], option[best]))
        states = States(sums[:, best], costs[best], summed[near[best]], history)
    return states


def undominated(sums: Floats, costs: Floats) -> Integers:
    """Return the places of the states that no other one dominates.

    A state dominates one that has the same sums in all constraints but the last, no less in the last, and costs no
    less; of states alike in everything, the first dominates the others.

    Args:
        sums: [constraints, states].
        costs: [states].
    """
    by_cost = costs.argsort(kind="stable")
    rank = np.zeros(len(costs), np.int64)  # of the cost: 0 for the least
    rank[by_cost[1:]] = (costs[by_cost[1:]] != costs[by_cost[:-1]]).cumsum()
    order = by_cost[np.lexsort(sums[::-1, by_cost])]
    rank = rank[order]
    for sums_of_constraint in sums[:-1, order]:
        # Each new sum moves all ranks after it below those before: a running minimum then starts afresh there, and
        # states are compared only with those of the same sums.
        rank[1:] -= len(order) * (sums_of_constraint[1:] != sums_of_constraint[:-1]).cumsum()
    improves = np.ones(len(order), bool)
    improves[1:] = rank[1:] < np.minimum.accumulate(rank)[:-1]
    return order[improves]


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
