"""The programme in numbers that numpy adds up exactly, against programmes scaled by hand and Python's whole numbers."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from limpq_hub.plan.solver.scaled_programme import ScaledProgramme

INFINITE = float("inf")


@pytest.fixture
def scaled(programme):
    """Return a function that scales a programme of plain numbers."""

    def build(costs, coefficients, limits):
        drawn = programme(costs, coefficients, limits)
        return ScaledProgramme.of(drawn.costs, drawn.constraints)

    return build


def test_the_least_of_each_group_is_taken_out_and_constraints_are_divided_by_what_they_have_in_common(scaled):
    made = scaled([[3, 5], [2, 2, 7]], [[[10, 30], [20, 20, 60]], [[7, 7], [1, 5, 3]]], [99, 13])
    # Least costs 3 and 2, steepest 2 + 5 = 7; least coefficients 10 + 20 and 7 + 1.
    scale = 2**47  # 7 x 2^47 is the last below 2^50
    assert made.costs.tolist() == [[0, 2 * scale, INFINITE], [0, 0, 5 * scale]]
    assert made.coefficients.tolist() == [[[0, 1, 0], [0, 0, 2]], [[0, 0, 0], [0, 2, 1]]]
    assert made.limits.tolist() == [(99 - 30) // 20, (13 - 8) // 2]
    assert (made.offsets, made.divisors) == ((30, 8), (20, 2))


def test_an_option_that_a_group_does_not_have_or_cannot_afford_costs_infinitely_much(scaled):
    made = scaled([[0, 1, 2], [5]], [[[1, 2, 4], [3]], [[9, 8, 1], [0]]], [6, 8])
    # Option 2 takes 4 + 3 > 6 in the first constraint, option 0 takes 9 > 8 in the second.
    assert np.isinf(made.costs).tolist() == [[True, False, True], [False, True, True]]


def test_costs_are_scaled_by_a_power_of_two_to_sums_just_below_2_to_the_50(scaled):
    rng = random.Random(0)
    for _ in range(100):
        # With a least cost of 0, taking it out loses nothing.
        costs = [[0.0, *(rng.lognormvariate(0, 3) for _ in range(3))] for _ in range(rng.randint(1, 9))]
        made = scaled(costs, [], [])
        steepest = sum(Fraction(max(of_group)) for of_group in costs)
        (scale,) = [Fraction(2) ** power for power in range(99) if 2**49 <= steepest * 2**power < 2**50]
        for of_group, scaled_costs in zip(costs, made.costs.tolist(), strict=True):
            assert scaled_costs == [round(Fraction(cost) * scale) for cost in of_group]


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-30, 1.0, 1e30, 1e300, 1e307])
def test_costs_of_any_size_keep_their_order(scaled, scale):
    made = scaled([[2 * scale, scale, 4 * scale], [scale, scale, scale]], [], [])
    assert np.isfinite(made.costs).all()
    assert made.costs[0].argsort().tolist() == [1, 0, 2]


def test_sums_of_the_largest_numbers_that_are_taken_are_exact(scaled):
    rng = random.Random(1)
    for _ in range(50):
        tables = [[[rng.randrange(2**49) for _ in range(4)] for _ in range(8)] for _ in range(2)]
        costs = [[rng.random() for _ in range(4)] for _ in range(8)]
        made = scaled(costs, tables, [2**52, 2**52])
        choice = [rng.randrange(4) for _ in range(8)]
        for index, table in enumerate(tables):
            exact = sum(of_group[option] for of_group, option in zip(table, choice, strict=True))
            total = made.coefficients[index, range(8), choice].sum()
            assert int(total) * made.divisors[index] + made.offsets[index] == exact
        whole = sum(int(made.costs[group, option]) for group, option in enumerate(choice))
        assert int(made.costs[range(8), choice].sum()) == whole


def test_constraints_that_floats_cannot_add_up_exactly_are_not_scaled(scaled):
    assert scaled([[0, 0], [0]], [[[0, 2**51], [2**51]]], [2**52]) is not None
    assert scaled([[0, 0], [0]], [[[0, 2**51], [2**51 + 1]]], [2**52]) is None
    assert scaled([[0, 0], [0]], [[[0, 1], [0]], [[0, 10**16], [0]]], [5, 5]) is None


def test_a_limit_that_is_larger_than_all_sums_is_no_limit(scaled):
    made = scaled([[0, 1], [0, 1]], [[[0, 10**9], [7, 10**9]]], [10**30])
    assert np.isfinite(made.costs).all()
    assert made.limits[0] >= made.coefficients[0].max(1).sum()


def test_equal_costs_and_constraints_without_a_choice_divide_by_nothing(scaled):
    made = scaled([[4.5, 4.5], [1.5]], [[[3, 3], [8]]], [11])
    assert made.costs.tolist() == [[0, 0], [0, INFINITE]]
    assert (made.coefficients.tolist(), made.limits.tolist()) == ([[[0, 0], [0, 0]]], [0])
    assert (made.offsets, made.divisors) == ((11,), (1,))


@pytest.mark.parametrize("seed", range(20))
def test_a_choice_is_within_a_limit_exactly_when_it_is_within_the_scaled_one(scaled, seed):
    rng = random.Random(seed)
    factor = rng.choice((1, 6, 1000))
    table = [[factor * rng.randint(0, 5) for _ in range(3)] for _ in range(3)]
    made = scaled([[0, 0, 0]] * 3, [table, table], [10**6, 10**6])
    for value in range(-1, 15 * factor + 2, max(1, factor // 3)):
        smaller = made.with_limit(1, value)
        assert smaller.limits[1] == made.scaled_limit(1, value)
        assert (smaller.limits[0], smaller.offsets, smaller.divisors) == (made.limits[0], made.offsets, made.divisors)
        for choice in itertools.product(range(3), repeat=3):
            within = sum(table[group][option] for group, option in enumerate(choice)) <= value
            assert within == (made.coefficients[1, range(3), choice].sum() <= made.scaled_limit(1, value))
