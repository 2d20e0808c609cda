"""Which way a programme is solved, and that every way gives the optimum of an exhaustive search."""

from __future__ import annotations

import random
import re
import time

import numpy as np
import pytest

from limpq_hub.errors import SearchError
from limpq_hub.plan.solver import integer_programme, states
from limpq_hub.plan.solver import solving as solving_module
from limpq_hub.plan.solver.dynamic_programme import DynamicProgramme
from limpq_hub.plan.solver.enumeration import Cheapest
from limpq_hub.plan.solver.integer_programme import solve_with_highs
from limpq_hub.plan.solver.programme import Programme
from limpq_hub.plan.solver.solution import BOUND, DYNAMIC_PROGRAMME, ENUMERATION, HIGHS, near_enough
from limpq_hub.plan.solver.solving import least_total, solve, solve_at_limits

MUCH_LATER = time.monotonic() + 10**4


def cost_of(programme, choice):
    return sum(of_group[option] for of_group, option in zip(programme.costs, choice, strict=True))


def check_best(programme, best, solution):
    """Assert that a solution is within all limits and costs the least, or is none where there is none."""
    if best is None:
        assert solution is None, programme
        return
    assert all(constraint.total(solution.choice) <= constraint.limit for constraint in programme.constraints), programme
    assert cost_of(programme, solution.choice) == best.cost, programme


@pytest.fixture
def nearly_equal(programme):
    """Return a programme in which very many choices cost nearly the same: what they use, and a little at random."""
    rng = random.Random(0)
    tables = [[sorted(rng.randint(1, 10**6) for _ in range(25)) for _ in range(50)] for _ in range(2)]
    costs = [
        [
            (2 * 10**6 - first - second) * 1e-6 * rng.uniform(0.999, 1.001)
            for first, second in zip(*of_group, strict=True)
        ]
        for of_group in zip(*tables, strict=True)
    ]
    return programme(costs, tables, [(sum(map(min, table)) + sum(map(max, table))) // 2 for table in tables])


@pytest.mark.parametrize("constraints", [1, 2])
def test_one_and_two_constraints_are_solved_by_enumeration_by_the_rule_for_equal_costs(
    random_programme, best_choice, constraints
):
    rng = random.Random(30 + constraints)
    for _ in range(200):
        drawn = random_programme(rng, constraints)
        best, solution = best_choice(drawn), solve(drawn, MUCH_LATER)
        assert (solution and (solution.choice, solution.way)) == (best and (best.choice, ENUMERATION)), drawn


def test_three_constraints_are_solved_by_highs(random_programme, best_choice):
    rng = random.Random(33)
    ways = set()
    for _ in range(60):
        drawn = random_programme(rng, 3)
        solution = solve(drawn, MUCH_LATER)
        check_best(drawn, best_choice(drawn), solution)
        ways.add(solution and solution.way)
    assert ways == {HIGHS, None}


@pytest.mark.parametrize("constraints", [1, 2, 3])
def test_all_ways_agree(random_programme, best_choice, constraints):
    rng = random.Random(40 + constraints)
    feasible = 0
    for _ in range(60):
        drawn = random_programme(rng, constraints, largest=(1, 3, 10, 1000, 10**5))
        best = best_choice(drawn)
        feasible += best is not None
        check_best(drawn, best, solve(drawn, MUCH_LATER))
        choice = solve_with_highs(drawn.costs, drawn.constraints, time.monotonic() + 10)
        assert (choice and cost_of(drawn, choice)) == (best and best.cost), drawn
        if constraints == 1:
            (solution,) = solve_at_limits(drawn, 0, [drawn.constraints[0].limit], MUCH_LATER)
            assert (solution.choice, solution.way) == (best.choice, DYNAMIC_PROGRAMME)
    assert feasible > 30


def with_dear_options(rng, drawn, dear):
    """Return a programme in which some options cost so much more that floats beside them tell nothing else apart."""
    costs = [[cost + dear * (rng.random() < 0.3) for cost in of_group] for of_group in drawn.costs]
    return type(drawn)(costs, drawn.constraints)


@pytest.mark.parametrize("most_states", [1, states.MOST_STATES])
@pytest.mark.parametrize("dear", [10**12, 10**16, 10**30, 10**300])
@pytest.mark.parametrize("constraints", [1, 2, 3])
def test_options_that_cost_enormously_much_hide_nothing_of_the_others(
    random_programme, best_choice, monkeypatch, constraints, dear, most_states
):
    rng = random.Random(f"{constraints} {dear}")
    monkeypatch.setattr(states, "MOST_STATES", most_states)
    hidden = 0
    for _ in range(60):
        drawn = with_dear_options(rng, random_programme(rng, constraints, largest=(1, 10, 1000, 10**5)), dear)
        best = best_choice(drawn)
        if best is None or best.cost >= dear:
            continue  # within the limits there is nothing but what is dear
        hidden += max(map(max, drawn.costs)) >= dear
        (at_limit,) = solve_at_limits(drawn, 0, [drawn.constraints[0].limit], MUCH_LATER)
        for solution in (solve(drawn, MUCH_LATER), at_limit):
            check_best(drawn, best, solution)
    assert hidden > 10


def test_the_frontier_finds_what_dear_options_hide_at_every_limit(random_programme, best_choice, monkeypatch):
    rng = random.Random(80)
    for fits in (DynamicProgramme.fits, lambda _: False):
        monkeypatch.setattr(DynamicProgramme, "fits", fits)
        for _ in range(10):
            drawn = with_dear_options(rng, random_programme(rng, 1, largest=[1000]), 10**20)
            constraint = drawn.constraints[0]
            limits = sorted(rng.randint(constraint.least, constraint.most) for _ in range(8))
            everything = drawn.with_limit(0, constraint.most)
            for limit, solution in zip(limits, solve_at_limits(everything, 0, limits, MUCH_LATER), strict=True):
                best = best_choice(drawn.with_limit(0, limit))
                if best.cost < 10**20:
                    check_best(drawn.with_limit(0, limit), best, solution)


@pytest.mark.parametrize("largest", [10**15, 10**16, 10**20])
@pytest.mark.parametrize("constraints", [1, 2])
def test_numbers_that_floats_cannot_add_up_exactly_are_left_to_highs(
    random_programme, best_choice, constraints, largest
):
    rng = random.Random(largest + constraints)
    ways = set()
    for _ in range(40):
        drawn = random_programme(rng, constraints, largest=[largest])
        solution = solve(drawn, MUCH_LATER)
        check_best(drawn, best_choice(drawn), solution)
        if drawn.scaled() is None:
            ways.add(solution and solution.way)
    assert HIGHS in ways <= {HIGHS, None}


@pytest.mark.parametrize("constraints", [1, 2])
def test_where_too_many_choices_are_near_the_bound_the_other_ways_give_the_same_optimum(
    random_programme, best_choice, monkeypatch, constraints
):
    rng = random.Random(50 + constraints)
    monkeypatch.setattr(states, "MOST_STATES", 1)
    ways = []
    for _ in range(60):
        drawn = random_programme(rng, constraints)
        solution = solve(drawn, MUCH_LATER)
        check_best(drawn, best_choice(drawn), solution)
        ways.append(solution and solution.way)
    # The dynamic programme suits one constraint of small numbers; else a good choice narrows down what is enumerated.
    assert ways.count(DYNAMIC_PROGRAMME if constraints == 1 else ENUMERATION) > 10
    assert ways.count(BOUND) > 0


def test_without_constraints_each_group_takes_the_first_of_its_cheapest_options(programme):
    solution = solve(programme([[3, 1, 2], [5], [4, 2, 2]], [], []), MUCH_LATER)
    assert (solution.choice, solution.way) == ([1, 0, 1], ENUMERATION)


def test_a_limit_below_the_least_of_its_constraint_has_no_solution(programme):
    drawn = programme([[1, 0], [1, 0]], [[[2, 3], [4, 5]], [[1, 1], [1, 1]]], [5, 2])
    assert solve(drawn, MUCH_LATER) is None
    assert solve(drawn.with_limit(0, 6), MUCH_LATER).choice == [0, 0]
    assert solve(drawn.with_limit(0, 6).with_limit(1, 1), MUCH_LATER) is None


def test_a_limit_of_one_constraint_is_changed_in_a_copy(programme):
    drawn = programme([[1, 0]], [[[2, 3]], [[4, 5]]], [5, 6])
    changed = drawn.with_limit(1, 4)
    assert [constraint.limit for constraint in changed.constraints] == [5, 4]
    assert [constraint.limit for constraint in drawn.constraints] == [5, 6]
    assert changed.constraints[1].coefficients == drawn.constraints[1].coefficients
    assert [constraint.limit for constraint in changed.without(changed.constraints[0]).constraints] == [4]


@pytest.mark.parametrize(("constraints", "largest"), [(1, 1000), (1, 10**10), (2, 1000), (2, 10**16)])
def test_each_of_many_limits_of_a_constraint_has_the_solution_of_its_own_search(
    random_programme, best_choice, constraints, largest
):
    rng = random.Random(60 + constraints)
    ways = set()
    for _ in range(8):
        drawn = random_programme(rng, constraints, largest=[largest])
        index = rng.randrange(constraints)
        least, most = (sum(map(which, drawn.constraints[index].coefficients)) for which in (min, max))
        limits = sorted(rng.randint(least - 1, most) for _ in range(12))
        for limit, solution in zip(
            limits, solve_at_limits(drawn.with_limit(index, most), index, limits, MUCH_LATER), strict=True
        ):
            check_best(drawn.with_limit(index, limit), best_choice(drawn.with_limit(index, limit)), solution)
            ways.add(solution and solution.way)
    expected = {(1, 1000): DYNAMIC_PROGRAMME, (1, 10**10): ENUMERATION, (2, 1000): ENUMERATION, (2, 10**16): HIGHS}
    assert expected[constraints, largest] in ways


def test_limits_in_any_order_have_the_same_solutions(random_programme):
    rng = random.Random(70)
    for _ in range(30):
        drawn = random_programme(rng, 2)
        limits = [rng.randint(0, sum(map(max, drawn.constraints[0].coefficients))) for _ in range(8)]
        as_drawn = dict(zip(limits, solve_at_limits(drawn, 0, limits, MUCH_LATER), strict=True))
        ascending = dict(zip(sorted(limits), solve_at_limits(drawn, 0, sorted(limits), MUCH_LATER), strict=True))
        assert as_drawn == ascending


def test_the_least_sum_of_a_constraint_that_the_others_allow_is_that_of_every_choice(
    random_programme, best_choice, programme
):
    rng = random.Random(80)
    nothing = 0
    for _ in range(100):
        drawn = random_programme(rng, rng.choice((1, 2, 3)))
        for constraint in drawn.constraints:
            others = [other for other in drawn.constraints if other is not constraint]
            limits = [other.limit for other in others]
            best = best_choice(programme(constraint.coefficients, [other.coefficients for other in others], limits))
            assert least_total(drawn, constraint, MUCH_LATER) == (best and best.cost)
            nothing += best is None
    assert nothing > 0


def test_a_limit_of_the_constraint_itself_does_not_change_its_least_sum(programme):
    drawn = programme([[0, 0]], [[[3, 1]], [[1, 5]]], [0, 1])
    assert [least_total(drawn, constraint, MUCH_LATER) for constraint in drawn.constraints] == [3, None]


def test_the_total_cost_is_added_up_exactly(programme):
    drawn = programme([[0.1]] * 10, [[[1]] * 10], [10])
    solution = solve(drawn, MUCH_LATER)
    assert drawn.cost(solution.choice) == 1.0
    assert sum([0.1] * 10) != 1.0


def test_a_constraint_of_many_equal_costs_that_a_dynamic_programme_solves_is_solved_in_time(programme):
    rng = random.Random(0)
    table = [[rng.randint(0, 1000) for _ in range(4)] for _ in range(20)]
    limit = (6 * sum(map(min, table)) + 4 * sum(map(max, table))) // 10
    drawn = programme([[1000 - weight for weight in of_group] for of_group in table], [table], [limit])
    # All who use up the limit lose the same: too many for the enumeration, and HiGHS takes long.
    solution = solve(drawn, time.monotonic() + 3)
    assert (cost_of(drawn, solution.choice), solution.way) == (20 * 1000 - limit, DYNAMIC_PROGRAMME)


def test_where_no_time_is_left_there_is_an_error_and_no_solution(nearly_equal):
    with pytest.raises(SearchError, match="^no proven optimum in time; raise time_limit_s=, or use fewer candidates$"):
        solve(nearly_equal, time.monotonic())


@pytest.mark.parametrize(
    ("cost", "bound", "advice"), [(1.0, 0.02, "; allow_gap=0.98 takes it"), (1.0, 0.005, ""), (1.0, 0, "")]
)
def test_a_gap_is_advised_where_it_can_be_allowed(cost, bound, advice):
    with pytest.raises(SearchError) as caught:
        near_enough(Programme([[cost]], []), [0], bound, None, 0.0)
    assert ("allow_gap=" in str(caught.value)) == bool(advice)
    assert advice in str(caught.value)


def test_without_a_proof_in_time_the_error_names_a_gap_that_is_enough(nearly_equal):
    began = time.process_time()
    with pytest.raises(SearchError) as caught:
        solve(nearly_equal, time.monotonic() + 0.6)
    assert time.process_time() - began < 1.2  # much less than the minutes that it would take
    message = (
        r"no proven optimum in time: the best policy that was found loses at most (\S+) of its objective more than the "
        r"optimum; allow_gap=(0\.\d+) takes it, or raise time_limit_s=, or use fewer candidates"
    )
    reached, enough = re.fullmatch(message, str(caught.value)).groups()
    assert 0 < float(enough) < 0.01
    assert float(enough) == pytest.approx(float(reached), rel=0.1)
    solution = solve(nearly_equal, time.monotonic() + 2, allow_gap=float(enough))
    assert solution.bound <= cost_of(nearly_equal, solution.choice) <= solution.bound / (1 - float(enough))
    assert all(constraint.total(solution.choice) <= constraint.limit for constraint in nearly_equal.constraints)


@pytest.mark.parametrize("constraints", [1, 2])
def test_within_an_allowed_gap_the_bound_is_below_the_optimum_and_the_choice_within_the_gap(
    random_programme, best_choice, monkeypatch, constraints
):
    rng = random.Random(90 + constraints)
    monkeypatch.setattr(states, "MOST_STATES", 1)
    monkeypatch.setattr(DynamicProgramme, "fits", lambda _: False)
    unproven = 0
    for _ in range(100):
        drawn = random_programme(rng, constraints)
        best, solution = best_choice(drawn), solve(drawn, MUCH_LATER, allow_gap=0.5)
        if best is None or solution.bound is None:
            check_best(drawn, best, solution)
            continue
        unproven += 1
        assert all(constraint.total(solution.choice) <= constraint.limit for constraint in drawn.constraints)
        assert solution.bound <= best.cost <= cost_of(drawn, solution.choice) <= solution.bound / (1 - 0.5) + 1e-9
    assert unproven > 10


def correlated(programme, seed, groups, options):
    """Return a programme of three constraints whose costs fall as what is used grows: HiGHS takes long to prove."""
    rng = random.Random(seed)
    tables = [[sorted(rng.randint(1, 10**6) for _ in range(options)) for _ in range(groups)] for _ in range(3)]
    costs = [[3 * 10**6 - sum(used) for used in zip(*of_group, strict=True)] for of_group in zip(*tables, strict=True)]
    return programme(costs, tables, [(sum(map(min, table)) + sum(map(max, table))) // 2 for table in tables])


def test_within_an_allowed_gap_highs_gives_a_choice_at_most_so_far_above_the_optimum(programme, best_choice):
    unproven = 0
    for seed in range(4):
        drawn = correlated(programme, seed, 7, 5)
        best = best_choice(drawn)
        for allowed in (1e-9, 0.01, 0.5):
            solution = solve(drawn, MUCH_LATER, allow_gap=allowed)
            if solution.bound is None:
                check_best(drawn, best, solution)
                continue
            unproven += 1
            cost = cost_of(drawn, solution.choice)
            assert all(constraint.total(solution.choice) <= constraint.limit for constraint in drawn.constraints)
            assert cost * (1 - allowed) <= solution.bound <= best.cost <= cost
    assert unproven > 3


def test_highs_spends_no_time_on_a_proof_beyond_the_allowed_gap(programme):
    drawn = correlated(programme, 0, 40, 9)
    began = time.process_time()
    solution = solve(drawn, time.monotonic() + 30, allow_gap=0.2)
    assert time.process_time() - began < 10  # a second on an idle machine; without the gap all of the 30
    assert solution.bound <= cost_of(drawn, solution.choice) <= solution.bound / (1 - 0.2)


def test_choices_of_equal_cost_at_the_bound_are_one_of_the_best_at_once(programme):
    # Each choice costs what it leaves unused: the best ones use the limit up, and there are very many.
    rng = random.Random(0)
    table = [[rng.randint(0, 10**6) for _ in range(25)] for _ in range(50)]
    drawn = programme([[10**6 - weight for weight in of_group] for of_group in table], [table], [25 * 10**6])
    solution = solve(drawn, time.monotonic() + 3)
    assert (cost_of(drawn, solution.choice), solution.way) == (50 * 10**6 - 25 * 10**6, BOUND)


def test_where_a_choice_is_known_highs_does_not_say_that_there_is_none(nearly_equal, monkeypatch):
    monkeypatch.setattr(integer_programme, "solve_with_highs", lambda *_: None)
    with pytest.raises(SearchError, match="the best policy that was found loses at most"):
        solve(nearly_equal, time.monotonic() + 2)
    solution = solve(nearly_equal, time.monotonic() + 2, allow_gap=0.01)
    assert all(constraint.total(solution.choice) <= constraint.limit for constraint in nearly_equal.constraints)


def test_many_limits_have_one_deadline(nearly_equal):
    began = time.process_time()
    with pytest.raises(SearchError, match="no proven optimum in time"):
        list(solve_at_limits(nearly_equal, 0, [23 * 10**6] * 5, time.monotonic() + 0.4))
    assert time.process_time() - began < 1


@pytest.mark.parametrize("constraints", [1, 2])
def test_an_answer_over_its_limits_is_never_given(random_programme, monkeypatch, constraints):
    rng = random.Random(constraints)
    drawn = random_programme(rng, constraints)
    while solve(drawn, MUCH_LATER) is None or drawn.constraints[0].least == drawn.constraints[0].most:
        drawn = random_programme(rng, constraints)
    dearest = np.array(
        [max(range(len(of_group)), key=of_group.__getitem__) for of_group in drawn.constraints[0].coefficients]
    )
    drawn = drawn.with_limit(0, drawn.constraints[0].total(dearest) - 1)
    monkeypatch.setattr(solving_module, "cheapest", lambda *_: Cheapest(dearest, 0.0))
    message = (
        "^the enumeration returned a policy over the budget, which is a fault of limpq-hub: "
        "report it with the model and the budget$"
    )
    with pytest.raises(SearchError, match=message):
        solve(drawn, MUCH_LATER)
    monkeypatch.setattr(DynamicProgramme, "fits", lambda _: False)
    with pytest.raises(SearchError, match=message):
        list(solve_at_limits(drawn, 0, [drawn.constraints[0].limit], MUCH_LATER))


def test_a_gap_that_is_too_wide_for_the_next_limit_is_given_up_for_a_fresh_one(programme, monkeypatch):
    rng = random.Random(0)
    costs, table = ([[rng.randint(0, 10**6) for _ in range(4)] for _ in range(12)] for _ in range(2))
    drawn = programme(costs, [table], [6 * 10**6])
    monkeypatch.setattr(DynamicProgramme, "fits", lambda _: False)
    monkeypatch.setattr(states, "MOST_STATES", 2000)
    monkeypatch.setattr(solving_module, "_FIRST_GAP", 10.0**30)
    solutions = list(solve_at_limits(drawn, 0, [5 * 10**6, 6 * 10**6], MUCH_LATER))
    assert [solution.way for solution in solutions] == [ENUMERATION, ENUMERATION]
