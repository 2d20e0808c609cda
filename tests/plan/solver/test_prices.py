"""The lower bound of a search against every choice, linear programming and prices found by hand."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

from limpq_hub.plan.solver.prices import best_prices


def highest_of(tables):
    return float(np.where(np.isfinite(tables.costs), tables.costs, 0).max(1).sum())


def exact_bound(tables, prices):
    """Return, in exact numbers, the least priced cost of the units less the priced limits."""
    prices = [Fraction(price) for price in prices.tolist()]
    bound = -sum(price * int(limit) for price, limit in zip(prices, tables.limits.tolist(), strict=True))
    for unit, costs in enumerate(tables.costs.tolist()):
        bound += min(
            int(cost) + sum(price * int(row[unit, option]) for price, row in zip(prices, tables.rows, strict=True))
            for option, cost in enumerate(costs)
            if cost < float("inf")
        )
    return bound


def relaxed_optimum(tables):
    """Return the least cost of mixtures of options within the limits, by linear programming."""
    there = np.isfinite(tables.costs)
    units, _ = np.nonzero(there)
    result = linprog(
        tables.costs[there] / highest_of(tables),
        A_ub=tables.rows[:, there] / np.maximum(tables.limits, 1)[:, None],
        b_ub=tables.limits / np.maximum(tables.limits, 1),
        A_eq=(units == np.arange(len(there))[:, None]).astype(float),
        b_eq=np.ones(len(there)),
    )
    assert result.status == 0, result.message
    return result.fun * highest_of(tables)


def test_one_unit_pays_the_slope_between_its_two_options(programme):
    tables = programme([[10, 0]], [[[0, 4]]], [4]).tables()
    assert best_prices(tables, highest_of(tables)).tolist() == [0]  # the limit allows both
    tables = programme([[10, 0], [10, 0]], [[[0, 4], [0, 4]]], [4]).tables()
    # One of the two can have the better option: half of the largest cost, 20, and 10 for one unit of the row.
    scale = tables.costs.max() / 10
    assert tables.limits.tolist() == [1]
    assert best_prices(tables, highest_of(tables)).tolist() == [10 * scale]
    assert exact_bound(tables, best_prices(tables, highest_of(tables))) == 10 * scale


def test_a_row_that_does_not_bind_costs_nothing(programme):
    costs, row = [[10, 0], [7, 0]], [[0, 4], [0, 3]]
    loose = [[0, 1], [0, 1]]
    tables = programme(costs, [row, loose], [4, 2]).tables()
    first, second = best_prices(tables, highest_of(tables))
    assert (first > 0, second) == (True, 0)
    tables = programme(costs, [loose, row], [2, 4]).tables()
    assert best_prices(tables, highest_of(tables)).tolist() == [second, first]


@pytest.mark.parametrize("rows", [1, 2])
def test_no_choice_costs_less_than_the_bound_and_none_is_said_to_be_infeasible(random_programme, best_choice, rows):
    rng = random.Random(rows)
    bounded = 0
    for _ in range(600):
        drawn = random_programme(rng, rows)
        tables, best = drawn.tables(), best_choice(drawn)
        prices = best_prices(tables, highest_of(tables))
        if best is None:
            continue
        assert prices is not None, drawn
        assert (prices >= 0).all()
        optimum = sum(int(tables.costs[unit, option]) for unit, option in enumerate(best.choice))
        assert exact_bound(tables, prices) <= optimum
        bounded += 1
    assert bounded > 400


@pytest.mark.parametrize("rows", [1, 2])
def test_the_bound_is_the_largest_there_is_that_of_linear_programming(random_programme, best_choice, rows):
    rng = random.Random(10 + rows)
    for _ in range(150):
        drawn = random_programme(rng, rows, largest=(1, 3, 10, 1000))  # the linear programme is solved to 1e-7
        tables = drawn.tables()
        if best_choice(drawn) is None or highest_of(tables) == 0:
            continue
        bound = exact_bound(tables, best_prices(tables, highest_of(tables)))
        assert float(bound) == pytest.approx(relaxed_optimum(tables), rel=0, abs=1e-6 * highest_of(tables))


@pytest.mark.parametrize("rows", [1, 2])
def test_the_bound_is_that_of_linear_programming_also_of_many_units(programme, rows):
    rng = random.Random(20 + rows)
    for _ in range(8):
        costs = [sorted((rng.randint(0, 10**6) for _ in range(9)), reverse=True) for _ in range(60)]
        drawn = [[sorted(rng.randint(0, 10**4) for _ in range(9)) for _ in range(60)] for _ in range(rows)]
        limits = [int(rng.uniform(0.3, 0.5) * sum(map(max, row))) for row in drawn]
        tables = programme(costs, drawn, limits).tables()
        bound = exact_bound(tables, best_prices(tables, highest_of(tables)))
        assert float(bound) == pytest.approx(relaxed_optimum(tables), rel=0, abs=1e-6 * highest_of(tables))


def test_limits_that_no_mixture_of_options_meets_have_no_price(programme):
    # Each option takes at least 3 of the two rows together, and both limits together are 2.
    tables = programme([[0, 1, 2]], [[[0, 1, 3]], [[3, 2, 0]]], [1, 1]).tables()
    tables = tables.within(0, 1)
    assert best_prices(tables, 100.0) is None


def test_a_limit_that_only_one_mixture_meets_is_not_infeasible(programme, best_choice):
    # What one row gains the other loses: only choices that use up both limits exactly are within them.
    drawn = programme([[0, 0]] * 3, [[[1, 0]] * 3, [[1, 2]] * 3], [2, 4])
    assert best_choice(drawn).choice == [0, 0, 1]
    assert best_prices(drawn.tables(), 0.0) is not None
