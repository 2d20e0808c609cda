"""Meeting in the middle, against every pair of states."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from limpq_hub.plan.solver import meet_in_the_middle
from limpq_hub.plan.solver.meet_in_the_middle import cheapest_pair, smallest_gap
from limpq_hub.plan.solver.states import States


def drawn_states(rng, constraints, count):
    sums = np.array([[float(rng.randint(0, 20)) for _ in range(count)] for _ in range(constraints)])
    costs = np.array([float(rng.randint(0, 9)) for _ in range(count)])
    reduced_costs = np.array([float(rng.randint(0, 30)) for _ in range(count)])
    return States(sums, costs, reduced_costs, ((np.zeros(count, np.int64), np.arange(count)),))


def gap_of(first, second, left, right, limits, prices):
    """Return what two states lose against the bound, or infinity where they exceed the limits."""
    slack = [limits[index] - first.sums[index, left] - second.sums[index, right] for index in range(len(limits))]
    if min(slack) < 0:
        return float("inf")
    return (
        first.reduced_costs[left]
        + second.reduced_costs[right]
        + sum(price * left for price, left in zip(prices, slack, strict=True))
    )


@pytest.mark.parametrize("constraints", [1, 2])
def test_the_nearest_pair_and_the_cheapest_near_pair_are_those_among_all_pairs(constraints):
    rng = random.Random(constraints)
    without = 0
    for _ in range(300):
        first, second = (drawn_states(rng, constraints, rng.randint(1, 12)) for _ in range(2))
        limits = np.array([float(rng.randint(0, 30)) for _ in range(constraints)])
        prices = np.array([float(rng.randint(0, 3)) for _ in range(constraints)])
        pairs = list(itertools.product(range(len(first.costs)), range(len(second.costs))))
        gaps = {pair: gap_of(first, second, *pair, limits, prices) for pair in pairs}
        assert smallest_gap(first, second, limits, prices) == min(gaps.values())
        gap = float(rng.randint(0, 60))
        near = [pair for pair in pairs if gaps[pair] <= gap]
        # Cheapest, then the least sum of each constraint, then the first options.
        best = min(
            near,
            key=lambda pair: (
                first.costs[pair[0]] + second.costs[pair[1]],
                *(first.sums[:, pair[0]] + second.sums[:, pair[1]]),
                pair,
            ),
            default=None,
        )
        assert cheapest_pair(first, second, limits, prices, gap) == best
        without += best is None
    assert 20 < without < 280


def test_no_gap_is_known_where_there_are_too_many_pairs_to_try(monkeypatch):
    first, second = (drawn_states(random.Random(0), 1, 10) for _ in range(2))
    limits, prices = np.array([100.0]), np.array([0.0])
    assert smallest_gap(first, second, limits, prices) < float("inf")
    monkeypatch.setattr(meet_in_the_middle, "_MOST_GAPS", 99)
    assert smallest_gap(first, second, limits, prices) == float("inf")
