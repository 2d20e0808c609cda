"""The dynamic programme against the enumeration and every choice, at every budget of a range."""

from __future__ import annotations

import random

import numpy as np
import pytest

from limpq_hub.plan.solver import dynamic_programme as budget_range
from limpq_hub.plan.solver.dynamic_programme import DynamicProgramme
from limpq_hub.plan.solver.enumeration import cheapest

SMALL = (1, 3, 10, 200)


def options_of(found):
    return None if found is None else found.tolist()


def test_every_limit_of_a_table_solved_by_hand(programme):
    tables = programme([[5, 3, 0], [4, 4, 1]], [[[0, 2, 4], [0, 1, 3]]], [7]).tables()
    every = DynamicProgramme(tables)
    # Lost 9, 9, 7, 6, 4, 4, 4, 1; at 4, (2, 0) takes less than (1, 2) would; option 1 of the second gains nothing.
    expected = [[0, 0], [0, 0], [1, 0], [0, 2], [2, 0], [2, 0], [2, 0], [2, 2]]
    assert [options_of(every.cheapest(limit)) for limit in range(8)] == expected


@pytest.mark.parametrize("seed", range(8))
def test_it_is_equal_to_the_enumeration_and_to_every_choice_at_every_limit(random_programme, best_choice, seed):
    rng = random.Random(seed)
    for _ in range(20):
        drawn = random_programme(rng, 1, largest=SMALL)
        highest = sum(map(max, drawn.rows[0].coefficients))
        tables = drawn.within(0, highest).tables()
        every = DynamicProgramme(tables)
        for limit in range(sum(map(min, drawn.rows[0].coefficients)), highest + 1):
            found = options_of(every.cheapest(tables.limit(0, limit)))
            assert found == options_of(cheapest(tables.within(0, limit)).options)
            if limit % 5 == 0:
                assert found == best_choice(drawn.within(0, limit)).choice


def test_a_table_that_ends_at_a_limit_answers_up_to_there_the_same(random_programme):
    rng = random.Random(20)
    for _ in range(50):
        drawn = random_programme(rng, 1, largest=SMALL)
        short = drawn.tables()
        whole = DynamicProgramme(drawn.within(0, sum(map(max, drawn.rows[0].coefficients))).tables())
        every = DynamicProgramme(short)
        # The limit of the drawn programme, in the units of both: the same rows, so the same units.
        for limit in range(int(short.limits[0]) + 1):
            assert options_of(every.cheapest(limit)) == options_of(whole.cheapest(limit))
        assert options_of(every.cheapest(limit + 1)) == options_of(every.cheapest(limit))


def test_a_limit_beyond_the_range_gives_the_last_choice_and_one_below_nothing_gives_none(programme):
    every = DynamicProgramme(programme([[2, 0], [2, 0]], [[[0, 1], [0, 2]]], [3]).tables())
    assert options_of(every.cheapest(4)) == options_of(every.cheapest(1e18)) == [1, 1]
    assert every.cheapest(-1) is None
    assert options_of(every.cheapest(0)) == [0, 0]


def test_a_unit_without_an_affordable_option_leaves_no_choice_at_any_limit(programme):
    tables = programme([[0, 1], [0, 1]], [[[0, 1], [0, 1]]], [2]).tables()
    tables.costs[1] = np.inf
    every = DynamicProgramme(tables)
    assert [every.cheapest(limit) for limit in range(3)] == [None] * 3


def test_one_unit_and_units_of_one_option(programme):
    every = DynamicProgramme(programme([[4], [3, 2, 1], [4]], [[[7], [0, 5, 9], [7]]], [23]).tables())
    assert [options_of(every.cheapest(limit)) for limit in (0, 4, 5, 8, 9)] == [
        [0, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
        [0, 1, 0],
        [0, 2, 0],
    ]


def test_only_one_row_of_few_sums_fits_this_way(programme, monkeypatch):
    row = [[0, 5, 7]] * 4
    assert DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [row], [28]).tables())
    assert not DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [row, row], [28, 28]).tables())
    huge = [[0, 5, 10**9]] * 4
    assert not DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [huge], [10**9]).tables())
    # Options that no limit of the range affords do not count.
    assert DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [huge], [10**9 - 1]).tables())
    monkeypatch.setattr(budget_range, "MOST_CELLS", 29 * 4)
    assert DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [row], [28]).tables())
    monkeypatch.setattr(budget_range, "MOST_CELLS", 29 * 4 - 1)
    assert not DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [row], [28]).tables())
    assert DynamicProgramme.fits(programme([[2, 1, 0]] * 4, [row], [27]).tables())
