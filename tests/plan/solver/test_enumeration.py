"""The enumeration against every choice in whole numbers, its rule for equal costs, and where it gives up."""

from __future__ import annotations

import itertools
import random
import time

import numpy as np
import pytest

from limpq_hub.plan.solver import meet_in_the_middle, states
from limpq_hub.plan.solver.enumeration import cheapest
from limpq_hub.plan.solver.states import TooManyStatesError


def options_of(best):
    return None if best is None else best.choice.tolist()


def choice_of(best):
    return None if best is None else best.choice


@pytest.mark.parametrize("few_states", [0, 100])
@pytest.mark.parametrize("constraints", [1, 2])
def test_the_choice_is_that_of_an_exhaustive_search_also_among_equal_costs(
    random_programme, best_choice, monkeypatch, constraints, few_states
):
    monkeypatch.setattr(states, "_FEW_STATES", few_states)
    rng = random.Random(constraints)
    infeasible = alike = 0
    for _ in range(1000):
        drawn = random_programme(rng, constraints)
        best = best_choice(drawn)
        assert options_of(cheapest(drawn.scaled())) == choice_of(best), drawn
        infeasible += best is None
        alike += len({cost for of_group in drawn.costs for cost in of_group}) <= 2
    assert alike > 100
    assert (infeasible > 50) == (constraints == 2)


@pytest.mark.parametrize("largest", [3, 100, 10**9])
def test_constraints_of_which_one_gains_what_the_other_loses_are_searched_too(programme, best_choice, largest):
    rng = random.Random(largest)
    feasible = 0
    for _ in range(300):
        groups = rng.randint(1, 5)
        first = [[rng.randint(0, largest) for _ in range(3)] for _ in range(groups)]
        second = [[largest - weight for weight in of_group] for of_group in first]
        costs = [[rng.randint(0, 9) for _ in range(3)] for _ in range(groups)]
        total = sum(rng.choice(of_group) for of_group in first)
        # Only choices that take exactly `total` are within both limits.
        drawn = programme(costs, [first, second], [total, largest * groups - total])
        best = best_choice(drawn)
        feasible += best is not None
        assert options_of(cheapest(drawn.scaled())) == choice_of(best), drawn
    assert feasible == 300


def test_of_constraints_of_large_numbers_that_nearly_exclude_each_other_the_one_choice_within_both_is_found(programme):
    # What one constraint gains the other loses, but for a few groups in the tenth place.
    first = [
        [4921706796, 7970709758],
        [3575668517, 3775075841, 3136123441],
        [2044569605, 5228502096],
        [5698644500, 5111310589],
    ]
    second = [
        [10156586408, 4058580483],
        [12848662965, 12449848319, 13727753117],
        [15910860790, 9542995807],
        [8602711001, 9777378822],
    ]
    costs = [[483, 567], [893, 346, 563], [370, 229], [487, 365]]
    limits = [sum(of_group[0] for of_group in table) for table in (first, second)]
    assert options_of(cheapest(programme(costs, [first, second], limits).scaled())) == [0, 0, 0, 0]


def test_the_search_ends_where_rounding_hides_the_best_price(programme):
    first = [
        [750688115],
        [369382327, 802367454, 496158233],
        [102931937, 942862407],
        [29832938, 185126023, 596265738, 823293426],
        [245576081],
        [747418990, 262872141, 861513961, 278678427],
    ]
    second = [[942862407 - weight for weight in of_group] for of_group in first]
    costs = [[999999999 - weight for weight in of_group] for of_group in first]
    # What one constraint gains the other loses: both limits together leave the choices of exactly one sum, or none.
    choice = [0, 2, 0, 3, 0, 0]
    total = sum(of_group[option] for of_group, option in zip(first, choice, strict=True))
    drawn = programme(costs, [first, second], [total, 6 * 942862407 - total])
    assert options_of(cheapest(drawn.scaled())) == choice
    assert cheapest(programme(costs, [first, second], [3167646808, 2489527633]).scaled()) is None


def test_equal_costs_are_told_apart_by_the_first_constraint_then_the_second_then_the_first_option(programme):
    # Two groups, of which one gets its second option: the first constraint says which, or else the second.
    costs = [[1, 0, 1], [1, 0, 1]]
    apart, alike = [[0, 3, 3], [0, 2, 2]], [[0, 2, 2], [0, 2, 2]]
    assert options_of(cheapest(programme(costs, [apart], [4]).scaled())) == [0, 1]
    assert options_of(cheapest(programme(costs, [alike, apart], [3, 9]).scaled())) == [0, 1]
    reverse = [apart[1], apart[0]]
    assert options_of(cheapest(programme(costs, [alike, reverse], [3, 9]).scaled())) == [1, 0]
    # Where nothing tells them apart, the first group takes the option that comes first.
    assert options_of(cheapest(programme(costs, [alike], [3]).scaled())) == [0, 1]
    same = [[0, 0, 0], [0, 0, 0]]
    assert options_of(cheapest(programme([[5, 5, 5], [5, 5, 5]], [same], [0]).scaled())) == [0, 0]


@pytest.mark.parametrize("groups", [5, 30, 200])
def test_where_all_groups_are_alike_the_later_ones_get_the_dearer_options(programme, groups):
    # Each may take 0, 1 or 2 of the limit and loses 4, 1 or 0: the first of them gains most, so all but the last few
    # with two get one each.
    drawn = programme([[4, 1, 0]] * groups, [[[0, 1, 2]] * groups], [groups + 3])
    assert options_of(cheapest(drawn.scaled())) == [1] * (groups - 3) + [2] * 3


def test_a_limit_of_nothing_leaves_the_options_that_take_nothing(programme):
    scaled = programme([[3, 2, 0], [0, 1, 1]], [[[0, 0, 1], [1, 0, 0]]], [0]).scaled()
    assert options_of(cheapest(scaled)) == [1, 1]
    scaled = programme([[3, 2, 0], [0, 1, 1]], [[[0, 0, 1], [1, 0, 0]], [[0, 4, 0], [0, 4, 0]]], [0, 0]).scaled()
    assert options_of(cheapest(scaled)) == [0, 2]


def test_one_group_takes_its_cheapest_option_within_the_limits(programme):
    for limit, option in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (10**18, 2)]:
        drawn = programme([[9, 4, 1]], [[[1, 3, 5]]], [limit])
        assert options_of(cheapest(drawn.scaled())) == [option]


def test_groups_with_one_option_each_leave_nothing_to_choose(programme):
    best = cheapest(programme([[7], [8], [9]], [[[1], [2], [3]]], [6]).scaled())
    assert (options_of(best), best.gap) == ([0, 0, 0], 0.0)


def test_a_group_without_an_affordable_option_leaves_no_choice(programme):
    # Each constraint alone allows an option of the first group, but not the same one.
    scaled = programme([[0, 1], [0, 1]], [[[0, 5], [0, 0]], [[5, 0], [0, 0]]], [4, 4]).scaled()
    assert np.isinf(scaled.costs[0]).all()
    assert cheapest(scaled) is None


def test_limits_that_hold_one_by_one_but_not_together_leave_no_choice(programme):
    # Mixtures of options could be within the limits, choices cannot: each group takes 2 of one of them.
    drawn = programme([[0, 0]] * 3, [[[0, 2]] * 3, [[2, 0]] * 3], [3, 3])
    assert cheapest(drawn.scaled()) is None


def test_the_gap_is_what_the_choice_costs_above_the_bound(programme):
    # Two groups save 10 for 4 of the limit each, and 6 are allowed: no choice saves more than 10, a mixture saves 15.
    scaled = programme([[10, 0], [10, 0], [0, 0]], [[[0, 4], [0, 4], [0, 1]]], [6]).scaled()
    best = cheapest(scaled)
    assert (options_of(best), best.gap) == ([0, 1, 0], scaled.costs.max() / 2)


def test_where_the_search_begins_changes_no_answer(random_programme):
    rng = random.Random(3)
    for _ in range(200):
        scaled = random_programme(rng, rng.choice((1, 2))).scaled()
        best = cheapest(scaled)
        highest = float(np.where(np.isfinite(scaled.costs), scaled.costs, 0).max(1).sum())
        for gap in (1e-9, 1.0, 1e-6 * highest, best.gap if best else 1.0, 2 * highest + 1):
            assert options_of(cheapest(scaled, first_gap=gap)) == options_of(best)


def test_when_the_time_is_over_it_gives_up(programme):
    scaled = programme([[3, 1, 0]] * 4, [[[0, 1, 2]] * 4], [5]).scaled()
    assert cheapest(scaled, time.monotonic() + 60) is not None
    with pytest.raises(TooManyStatesError):
        cheapest(scaled, time.monotonic() - 1)


@pytest.mark.parametrize(("module", "limit"), [(states, "MOST_STATES"), (meet_in_the_middle, "MOST_PAIRS")])
def test_where_too_many_choices_are_near_the_bound_it_gives_up(programme, monkeypatch, module, limit):
    rng = random.Random(0)
    coefficients = [[rng.randint(0, 10**6) for _ in range(4)] for _ in range(12)]
    costs = [[10**6 - weight for weight in of_group] for of_group in coefficients]
    scaled = programme(costs, [coefficients], [6 * 10**6]).scaled()
    assert cheapest(scaled) is not None
    monkeypatch.setattr(module, limit, 1000)
    with pytest.raises(TooManyStatesError):
        cheapest(scaled)


def test_a_real_number_of_layers_of_repeated_shapes_is_searched_with_two_constraints(programme):
    # 48 layers of four shapes with steps of their own, against the best found by exchanging pairs of options.
    rng = random.Random(7)
    bits = list(itertools.product(range(2, 7), repeat=2))
    shapes = [(4, 9), (2, 36), (1, 144), (3, 16)] * 12
    first = [[macs * weight * activation for weight, activation in bits] for macs, _ in shapes]
    second = [[weights * weight for weight, _ in bits] for _, weights in shapes]
    costs = [
        [int(2**30 * scale * (2 * 2.0**-weight + 2.0**-activation)) for weight, activation in bits]
        for scale in (rng.lognormvariate(0, 1) for _ in shapes)
    ]
    limits = [sum(map(max, first)) // 3, sum(map(max, second)) // 2]
    drawn = programme(costs, [first, second], limits)
    choice = options_of(cheapest(drawn.scaled(), time.monotonic() + 60))
    for constraint in drawn.constraints:
        assert constraint.total(choice) <= constraint.limit
    for first_group, second_group in itertools.combinations(range(len(shapes)), 2):
        for here, there in itertools.product(range(len(bits)), repeat=2):
            changed = {first_group: here, second_group: there}
            gained = sum(costs[group][option] - costs[group][choice[group]] for group, option in changed.items())
            if gained < 0:
                more = [
                    sum(
                        of.coefficients[group][o] - of.coefficients[group][choice[group]]
                        for group, o in changed.items()
                    )
                    for of in drawn.constraints
                ]
                assert any(
                    constraint.total(choice) + added > constraint.limit
                    for constraint, added in zip(drawn.constraints, more, strict=True)
                )
