"""The dynamic programme against the enumeration and every choice, at every budget of a range."""

from __future__ import annotations

import random

import numpy as np
import pytest

from limpq_hub.plan.solver import dynamic_programme
from limpq_hub.plan.solver.dynamic_programme import DynamicProgramme
from limpq_hub.plan.solver.enumeration import cheapest

SMALL = (1, 3, 10, 200)


def listed(choice):
    return None if choice is None else choice.tolist()


def test_every_limit_of_a_programme_solved_by_hand(programme):
    scaled = programme([[5, 3, 0], [4, 4, 1]], [[[0, 2, 4], [0, 1, 3]]], [7]).scaled()
    table = DynamicProgramme(scaled)
    # Lost 9, 9, 7, 6, 4, 4, 4, 1; at 4, (2, 0) takes less than (1, 2) would; option 1 of the second gains nothing.
    expected = [[0, 0], [0, 0], [1, 0], [0, 2], [2, 0], [2, 0], [2, 0], [2, 2]]
    assert [listed(table.cheapest(limit)) for limit in range(8)] == expected


@pytest.mark.parametrize("seed", range(8))
def test_it_is_equal_to_the_enumeration_and_to_every_choice_at_every_limit(random_programme, best_choice, seed):
    rng = random.Random(seed)
    for _ in range(20):
        drawn = random_programme(rng, 1, largest=SMALL)
        highest = sum(map(max, drawn.constraints[0].coefficients))
        scaled = drawn.with_limit(0, highest).scaled()
        table = DynamicProgramme(scaled)
        for limit in range(sum(map(min, drawn.constraints[0].coefficients)), highest + 1):
            choice = listed(table.cheapest(scaled.scaled_limit(0, limit)))
            assert choice == listed(cheapest(scaled.with_limit(0, limit)).choice)
            if limit % 5 == 0:
                assert choice == best_choice(drawn.with_limit(0, limit)).choice


def test_a_table_that_ends_at_a_limit_answers_up_to_there_the_same(random_programme):
    rng = random.Random(20)
    for _ in range(50):
        drawn = random_programme(rng, 1, largest=SMALL)
        short = drawn.scaled()
        whole = DynamicProgramme(drawn.with_limit(0, sum(map(max, drawn.constraints[0].coefficients))).scaled())
        table = DynamicProgramme(short)
        # The limit of the drawn programme, as both count it: the same coefficients, so the same divisor.
        for limit in range(int(short.limits[0]) + 1):
            assert listed(table.cheapest(limit)) == listed(whole.cheapest(limit))
        assert listed(table.cheapest(limit + 1)) == listed(table.cheapest(limit))


def test_a_limit_beyond_the_range_gives_the_last_choice_and_one_below_nothing_gives_none(programme):
    table = DynamicProgramme(programme([[2, 0], [2, 0]], [[[0, 1], [0, 2]]], [3]).scaled())
    assert listed(table.cheapest(4)) == listed(table.cheapest(1e18)) == [1, 1]
    assert table.cheapest(-1) is None
    assert listed(table.cheapest(0)) == [0, 0]


def test_a_group_without_an_affordable_option_leaves_no_choice_at_any_limit(programme):
    scaled = programme([[0, 1], [0, 1]], [[[0, 1], [0, 1]]], [2]).scaled()
    scaled.costs[1] = np.inf
    table = DynamicProgramme(scaled)
    assert [table.cheapest(limit) for limit in range(3)] == [None] * 3


def test_one_group_and_groups_of_one_option(programme):
    table = DynamicProgramme(programme([[4], [3, 2, 1], [4]], [[[7], [0, 5, 9], [7]]], [23]).scaled())
    assert [listed(table.cheapest(limit)) for limit in (0, 4, 5, 8, 9)] == [
        [0, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
        [0, 1, 0],
        [0, 2, 0],
    ]


def test_only_one_constraint_of_few_sums_fits_this_way(programme, monkeypatch):
    small = [[0, 5, 7]] * 4
    assert DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [small], [28]).scaled())
    assert not DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [small, small], [28, 28]).scaled())
    huge = [[0, 5, 10**9]] * 4
    assert not DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [huge], [10**9]).scaled())
    # Options that no limit of the range affords do not count.
    assert DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [huge], [10**9 - 1]).scaled())
    monkeypatch.setattr(dynamic_programme, "MOST_CELLS", 29 * 4)
    assert DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [small], [28]).scaled())
    monkeypatch.setattr(dynamic_programme, "MOST_CELLS", 29 * 4 - 1)
    assert not DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [small], [28]).scaled())
    assert DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [small], [27]).scaled())
