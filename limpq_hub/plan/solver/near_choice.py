"""A heuristic for a choice within the limits that costs little more than the bound; it proves nothing by itself.

It is for programmes with too many choices near the bound to enumerate, many of which are then close to the optimum.
"""

from __future__ import annotations

import time

import numpy as np

from limpq_hub.plan.solver.meet_in_the_middle import cheapest_pair
from limpq_hub.plan.solver.relaxation import Relaxation
from limpq_hub.plan.solver.scaled_programme import Floats, Integers, ScaledProgramme
from limpq_hub.plan.solver.states import TooManyStatesError, states_within

# Partial choices of each half of the groups that are chosen anew together.
_MOST_STATES = 20_000
_FRUITLESS_ROUNDS = 20
# The gap of the choice so far is divided by this so often, and choices are looked for within what is left of it first.
_NARROW, _NARROWINGS = 4.0, 10
# By how much prices are raised to get a choice within the limits: relative, from the first to the last.
_LOWEST_RAISE, _HIGHEST_RAISE = -40, 20
# By how much prices are lowered to see which groups are as good with other options: relative.
_LOWERED = 2.0**-20


def near_choice(
    programme: ScaledProgramme, relaxation: Relaxation, deadline: float, enough_gap: float
) -> Integers | None:
    """Return a choice within the limits near the bound, [groups], or None if none was found.

    Args:
        deadline: when to return what there is, by `time.monotonic`.
        enough_gap: how much above the bound a choice may cost that needs no improvement.
    """
    choice = _filled_up(programme, relaxation, deadline)
    if choice is None:
        return None
    rng = np.random.default_rng(0)
    fruitless = 0
    while fruitless < _FRUITLESS_ROUNDS and time.monotonic() < deadline:
        if relaxation.gap_of(programme, choice) <= enough_gap:
            break
        improved = _improved(programme, relaxation, choice, rng, deadline)
        fruitless = 0 if programme.cost_of(improved) < programme.cost_of(choice) else fruitless + 1
        choice = improved
    return choice


def _filled_up(programme: ScaledProgramme, relaxation: Relaxation, deadline: float) -> Integers | None:
    """Return the choice at prices just high enough to be within the limits, its groups then moved to lower prices."""
    guess = relaxation.widest / np.maximum(programme.limits, 1.0)
    choice, target = (_cheapest_at(programme, relaxation.prices * factor) for factor in (1.0, 1 - _LOWERED))
    for exponent in range(_LOWEST_RAISE, _HIGHEST_RAISE):
        if programme.meets_limits(choice):
            break
        target = choice
        choice = _cheapest_at(programme, relaxation.prices + 2.0**exponent * np.maximum(relaxation.prices, guess))
    else:
        return None
    groups = np.arange(len(choice))
    unused = programme.limits - programme.coefficients[:, groups, choice].sum(1)
    choice = choice.copy()
    for group in np.flatnonzero(choice != target):
        if time.monotonic() > deadline:
            break
        coefficients = programme.coefficients[:, group]
        left = unused - coefficients[:, target[group]] + coefficients[:, choice[group]]
        if (left >= 0).all() and programme.costs[group, target[group]] <= programme.costs[group, choice[group]]:
            unused, choice[group] = left, target[group]
    return choice


def _cheapest_at(programme: ScaledProgramme, prices: Floats) -> Integers:
    return programme.priced_costs(prices).argmin(1)


def _improved(
    programme: ScaledProgramme,
    relaxation: Relaxation,
    choice: Integers,
    rng: np.random.Generator,
    deadline: float,
) -> Integers:
    """Return a cheaper choice that differs in a few groups, drawn by `rng`, or the same choice if there is none."""
    gap = relaxation.gap_of(programme, choice)
    options = (relaxation.reduced_costs <= gap).sum(1)
    drawn = rng.permutation(np.flatnonzero(options > 1))
    # As many groups as two halves of `_MOST_STATES` partial choices hold.
    number = int(np.searchsorted(np.log(options[drawn]).cumsum(), 2 * np.log(_MOST_STATES), "right"))
    halves = np.sort(drawn[: number // 2]), np.sort(drawn[number // 2 : number])
    free = np.concatenate(halves)
    fixed = np.setdiff1d(np.arange(len(choice)), free)
    limits = programme.limits - programme.coefficients[:, fixed, choice[fixed]].sum(1)
    gap -= float(relaxation.reduced_costs[fixed, choice[fixed]].sum())
    try:
        first, second = (states_within(programme, relaxation.reduced_costs, groups, gap, deadline) for groups in halves)
        for narrowing in range(_NARROWINGS, -1, -1):
            pair = cheapest_pair(first, second, limits, relaxation.prices, gap / _NARROW**narrowing, deadline)
            if pair is not None:
                changed = choice.copy()
                changed[free] = first.options(pair[0]) + second.options(pair[1])
                return changed if programme.cost_of(changed) < programme.cost_of(choice) else choice
    except TooManyStatesError:
        pass
    return choice
