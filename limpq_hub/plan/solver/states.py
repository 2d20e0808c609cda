"""Partial choices of some groups near the bound, enumerated group by group, dominated ones left out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from limpq_hub.plan.solver.scaled_programme import Floats, Integers, ScaledProgramme

MOST_STATES = 200_000
# States up to which leaving out the dominated ones takes longer than it saves.
_FEW_STATES = 100


class TooManyStatesError(Exception):
    """There are too many partial choices near the bound, or pairs of them, or the time is over."""


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
