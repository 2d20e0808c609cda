"""The lower bound of a search against every choice, linear programming and prices found by hand."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

from limpq_hub.plan.solver.prices import best_prices


def highest_of(scaled):
    return float(np.where(np.isfinite(scaled.costs), scaled.costs, 0).max(1).sum())


def exact_bound(scaled, prices):
    """Return, in exact numbers, the least priced cost of the groups less the priced limits."""
    prices = [Fraction(price) for price in prices.tolist()]
    bound = -sum(price * int(limit) for price, limit in zip(prices, scaled.limits.tolist(), strict=True))
    for group, costs in enumerate(scaled.costs.tolist()):
        bound += min(
            int(cost)
            + sum(price * int(table[group, option]) for price, table in zip(prices, scaled.coefficients, strict=True))
            for option, cost in enumerate(costs)
            if cost < float("inf")
        )
    return bound


def relaxed_optimum(scaled):
    """Return the least cost of mixtures of options within the limits, by linear programming."""
    there = np.isfinite(scaled.costs)
    groups, _ = np.nonzero(there)
    result = linprog(
        scaled.costs[there] / highest_of(scaled),
        A_ub=scaled.coefficients[:, there] / np.maximum(scaled.limits, 1)[:, None],
        b_ub=scaled.limits / np.maximum(scaled.limits, 1),
        A_eq=(groups == np.arange(len(there))[:, None]).astype(float),
        b_eq=np.ones(len(there)),
    )
    assert result.status == 0, result.message
    return result.fun * highest_of(scaled)


def test_one_group_pays_the_slope_between_its_two_options(programme):
    scaled = programme([[10, 0]], [[[0, 4]]], [4]).scaled()
    assert best_prices(scaled, highest_of(scaled)).tolist() == [0]  # the limit allows both
    scaled = programme([[10, 0], [10, 0]], [[[0, 4], [0, 4]]], [4]).scaled()
    # One of the two can have the better option: half of the largest cost, 20, and 10 for one unit of the limit.
    scale = scaled.costs.max() / 10
    assert scaled.limits.tolist() == [1]
    assert best_prices(scaled, highest_of(scaled)).tolist() == [10 * scale]
    assert exact_bound(scaled, best_prices(scaled, highest_of(scaled))) == 10 * scale


def test_a_constraint_that_does_not_bind_costs_nothing(programme):
    costs, binding = [[10, 0], [7, 0]], [[0, 4], [0, 3]]
    loose = [[0, 1], [0, 1]]
    scaled = programme(costs, [binding, loose], [4, 2]).scaled()
    first, second = best_prices(scaled, highest_of(scaled))
    assert (first > 0, second) == (True, 0)
    scaled = programme(costs, [loose, binding], [2, 4]).scaled()
    assert best_prices(scaled, highest_of(scaled)).tolist() == [second, first]


@pytest.mark.parametrize("constraints", [1, 2])
def test_no_choice_costs_less_than_the_bound_and_none_is_said_to_be_infeasible(
    random_programme, best_choice, constraints
):
    rng = random.Random(constraints)
    bounded = 0
    for _ in range(600):
        drawn = random_programme(rng, constraints)
        scaled, best = drawn.scaled(), best_choice(drawn)
        prices = best_prices(scaled, highest_of(scaled))
        if best is None:
            continue
        assert prices is not None, drawn
        assert (prices >= 0).all()
        optimum = sum(int(scaled.costs[group, option]) for group, option in enumerate(best.choice))
        assert exact_bound(scaled, prices) <= optimum
        bounded += 1
    assert bounded > 400


@pytest.mark.parametrize("constraints", [1, 2])
def test_the_bound_is_the_largest_there_is_that_of_linear_programming(random_programme, best_choice, constraints):
    rng = random.Random(10 + constraints)
    for _ in range(150):
        drawn = random_programme(rng, constraints, largest=(1, 3, 10, 1000))  # the linear programme is solved to 1e-7
        scaled = drawn.scaled()
        if best_choice(drawn) is None or highest_of(scaled) == 0:
            continue
        bound = exact_bound(scaled, best_prices(scaled, highest_of(scaled)))
        assert float(bound) == pytest.approx(relaxed_optimum(scaled), rel=0, abs=1e-6 * highest_of(scaled))


@pytest.mark.parametrize("constraints", [1, 2])
def test_the_bound_is_that_of_linear_programming_also_of_many_groups(programme, constraints):
    rng = random.Random(20 + constraints)
    for _ in range(8):
        costs = [sorted((rng.randint(0, 10**6) for _ in range(9)), reverse=True) for _ in range(60)]
        drawn = [[sorted(rng.randint(0, 10**4) for _ in range(9)) for _ in range(60)] for _ in range(constraints)]
        limits = [int(rng.uniform(0.3, 0.5) * sum(map(max, table))) for table in drawn]
        scaled = programme(costs, drawn, limits).scaled()
        bound = exact_bound(scaled, best_prices(scaled, highest_of(scaled)))
        assert float(bound) == pytest.approx(relaxed_optimum(scaled), rel=0, abs=1e-6 * highest_of(scaled))


def test_limits_that_no_mixture_of_options_meets_have_no_price(programme):
    # Each option takes at least 3 of the two limits together, and both limits together are 2.
    scaled = programme([[0, 1, 2]], [[[0, 1, 3]], [[3, 2, 0]]], [1, 1]).scaled()
    scaled = scaled.with_limit(0, 1)
    assert best_prices(scaled, 100.0) is None


def test_a_limit_that_only_one_mixture_meets_is_not_infeasible(programme, best_choice):
    # What one constraint gains the other loses: only choices that use up both limits exactly are within them.
    drawn = programme([[0, 0]] * 3, [[[1, 0]] * 3, [[1, 2]] * 3], [2, 4])
    assert best_choice(drawn).choice == [0, 0, 1]
    assert best_prices(drawn.scaled(), 0.0) is not None
