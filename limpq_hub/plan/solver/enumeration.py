"""The cheapest choice by enumeration of all that lie within a gap of the bound, widened until there is one.

With the best prices each option has a reduced cost of at least 0: what a choice loses against the bound by taking it.
The options taken by a choice within a gap have reduced costs that add up to at most the gap. These few partial choices
are enumerated in two halves of the groups, dominated ones left out, and the halves paired. Where a choice lies within
the gap, every choice outside it costs more, so the cheapest one inside is the cheapest of all.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from limpq_hub.errors import SearchError
from limpq_hub.plan.deadline import NEVER
from limpq_hub.plan.solver.meet_in_the_middle import cheapest_pair, smallest_gap
from limpq_hub.plan.solver.relaxation import Relaxation
from limpq_hub.plan.solver.scaled_programme import Integers, ScaledProgramme
from limpq_hub.plan.solver.states import TooManyStatesError, states_within

# The first gap lets so many options besides the cheapest of each group take part.
_FIRST_ALTERNATIVES = 30
# The next gap, as a multiple of the one before: gently once there are many states.
_WIDEN, _WIDEN_GENTLY = 2.5, 1.15
_MANY_STATES = 500


class Cheapest(NamedTuple):
    """The cheapest choice.

    Attributes:
        choice: [groups], the option that each group takes.
        gap: by how much it costs more than the bound.
    """

    choice: Integers
    gap: float


def cheapest(programme: ScaledProgramme, deadline: float = NEVER, first_gap: float = 0.0) -> Cheapest | None:
    """Return the cheapest choice, or None if no choice meets the limits.

    Of choices that cost the same, the one with the least sum in the first constraint is returned, then in the second,
    then the one with the first option in the first group where they differ.

    Args:
        deadline: when to give up, by `time.monotonic`.
        first_gap: the first gap to try; one near that of the answer saves time, 0 lets the reduced costs tell.

    Raises:
        TooManyStatesError: too many partial choices are near the bound, or the time is over.
    """
    try:
        relaxation = Relaxation.of(programme, deadline)
    except SearchError:
        raise TooManyStatesError from None
    if relaxation is None:
        return None
    widest, safety = relaxation.widest, relaxation.safety
    reduced_costs = relaxation.reduced_costs
    positive = reduced_costs[np.isfinite(reduced_costs) & (reduced_costs > safety)]
    many = len(positive) > _FIRST_ALTERNATIVES
    gap = first_gap or (float(np.partition(positive, _FIRST_ALTERNATIVES)[_FIRST_ALTERNATIVES]) if many else widest)
    growth, gap_before = _WIDEN, 0.0
    while True:
        gap = min(gap, widest)
        try:
            enumerated = within_gap(programme, relaxation, gap + safety, deadline)
        except TooManyStatesError:
            if growth == _WIDEN_GENTLY or not gap_before or time.monotonic() > deadline:
                raise
            growth = _WIDEN_GENTLY
            gap = gap_before * growth
            continue
        if enumerated.choice is not None:
            gap_of_choice = relaxation.gap_of(programme, enumerated.choice)
            if gap_of_choice <= gap or gap == widest:
                return Cheapest(enumerated.choice, max(0.0, gap_of_choice))
            # The choice lies between the gap and the safety margin around it, where others may be missing.
            gap_before, gap = gap, gap_of_choice
            continue
        if gap == widest:
            return None
        gap_before = gap
        growth = growth if enumerated.states < _MANY_STATES else _WIDEN_GENTLY
        gap = min(gap * growth, max(enumerated.smallest_gap, gap * _WIDEN_GENTLY))


class Enumerated(NamedTuple):
    """What lies within a gap of the bound.

    Attributes:
        choice: [groups], the cheapest choice, or None.
        states: how many partial choices were kept in both halves.
        smallest_gap: where there is no choice, a gap within which there is one; infinite if none is known.
    """

    choice: Integers | None
    states: int
    smallest_gap: float = np.inf


def within_gap(
    programme: ScaledProgramme, relaxation: Relaxation, gap: float, deadline: float, most_states: int | None = None
) -> Enumerated:
    """Return the cheapest choice that costs at most `gap` more than the bound, if there is one.

    Args:
        most_states: as `states_within` takes it.

    Raises:
        TooManyStatesError: too many partial choices are within the gap, or the time is over.
    """
    reduced_costs, prices = relaxation.reduced_costs, relaxation.prices
    options = (reduced_costs <= gap).sum(1)  # how many take part: [groups]
    choice = reduced_costs.argmin(1)
    fixed, free = np.flatnonzero(options == 1), np.flatnonzero(options > 1)
    limits = programme.limits - programme.coefficients[:, fixed, choice[fixed]].sum(1)
    # Both halves get about the same number of partial choices: the product of the numbers of options.
    log_choices = np.log(options[free]).cumsum()
    middle = int(np.searchsorted(log_choices, log_choices[-1] / 2)) + 1 if len(free) else 0
    first, second = (
        states_within(programme, reduced_costs, groups, gap, deadline, most_states)
        for groups in (free[:middle], free[middle:])
    )
    pair = cheapest_pair(first, second, limits, prices, gap, deadline)
    states = len(first.costs) + len(second.costs)
    if pair is None:
        return Enumerated(None, states, smallest_gap(first, second, limits, prices))
    choice[free] = first.options(pair[0]) + second.options(pair[1])
    return Enumerated(choice, states)
