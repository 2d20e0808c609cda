"""Partial choices that another one dominates, against a comparison of every two."""

from __future__ import annotations

import numpy as np
import pytest

from limpq_hub.plan.solver.states import undominated


@pytest.mark.parametrize("constraints", [1, 2, 3])
def test_states_are_left_out_exactly_when_another_one_dominates_them(constraints):
    rng = np.random.default_rng(constraints)
    left_out = 0
    for _ in range(200):
        count = int(rng.integers(1, 30))
        sums, costs = rng.integers(0, 4, (constraints, count)).astype(float), rng.integers(0, 5, count).astype(float)
        states = [(*sums[:, place].tolist(), costs[place]) for place in range(count)]

        def dominates(one, other, states=states):
            *same, last, cost = states[one]
            *same_other, last_other, cost_other = states[other]
            if same != same_other or last > last_other or cost > cost_other:
                return False
            return states[one] != states[other] or one < other  # of equal ones the first stays

        undominated_places = {
            place for place in range(count) if not any(dominates(one, place) for one in range(count) if one != place)
        }
        assert set(undominated(sums, costs).tolist()) == undominated_places
        left_out += count - len(undominated_places)
    assert left_out > 200
