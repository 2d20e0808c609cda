"""The frontier against brute force, and against the search at each of its budgets."""

from __future__ import annotations

import random
import re
import time
from itertools import pairwise

import numpy as np
import pytest

from limpq_hub.errors import BudgetError, SearchError
from limpq_hub.plan import frontier_search
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.frontier_search import search_frontier
from limpq_hub.plan.optimum import search
from limpq_hub.plan.solver.solution import HIGHS, Solution


@pytest.mark.parametrize("seed", range(12))
def test_each_plan_is_the_best_of_all_policies_at_its_budget_from_the_least_to_the_most(
    random_network, every_policy, seed
):
    indicators = random_network(random.Random(seed))
    outcomes = every_policy(indicators)
    plans = search_frontier(indicators, 9)
    assert (plans[0].bitops, plans[-1].bitops) == (outcomes.bitops.min(), outcomes.bitops.max())
    assert 2 <= len(plans) <= 9
    for plan in plans:
        best = outcomes.objective[outcomes.bitops <= plan.bitops].min()
        assert plan.objective == plan.bound == pytest.approx(best, rel=0, abs=1e-11)
        again = search(indicators, Budget(bitops=plan.bitops))
        assert (again.objective, again.policy) == (plan.objective, plan.policy)
    for cheaper, dearer in pairwise(plans):
        assert cheaper.bitops < dearer.bitops
        assert cheaper.objective > dearer.objective


@pytest.mark.parametrize("limits", [{"size": "3MB"}, {"activation_memory": "1GB"}, {"compression": 4}])
def test_within_limits_of_another_kind_alone_the_points_are_bitops_apart(random_network, limits):
    indicators = random_network(random.Random(3))
    both = [search_frontier(indicators, 9, budget=Budget(**limits, **bitops)) for bitops in ({}, {"bitops": 10**18})]
    assert [plan.policy for plan in both[0]] == [plan.policy for plan in both[1]]
    assert len(both[0]) > 2


@pytest.mark.parametrize("seed", range(4))
def test_with_a_point_at_every_whole_number_of_bitops_the_frontier_is_complete(random_network, every_policy, seed):
    indicators = random_network(random.Random(seed), layers=3, candidates=(2, 3), largest=3)
    outcomes = every_policy(indicators)
    order = np.lexsort((outcomes.objective, outcomes.bitops))
    frontier: list[tuple[int, float]] = []
    for bitops, objective in zip(outcomes.bitops[order].tolist(), outcomes.objective[order].tolist(), strict=True):
        if not frontier or objective < frontier[-1][1] - 1e-11:
            frontier.append((bitops, objective))
    plans = search_frontier(indicators, int(outcomes.bitops.max() - outcomes.bitops.min()) + 1)
    assert [plan.bitops for plan in plans] == [bitops for bitops, _ in frontier]
    assert [plan.objective for plan in plans] == pytest.approx([objective for _, objective in frontier], abs=1e-11)


def test_a_frontier_of_two_layers_solved_by_hand(network):
    steps = {"a": {2: 0.5, 4: 0.1}, "b": {2: 0.9, 4: 0.2}}
    indicators = network(steps, {"a": {4: 0.01}, "b": {4: 0.02}}, macs={"a": 3, "b": 1}, alpha=1.0)
    # BitOps: "a" at 2 bits 24, at 4 bits 48; "b" at 2 bits 8, at 4 bits 16. (4, 2) at 56 loses more than (2, 4) at 40.
    expected = [(32, 1.43), (40, 0.73), (64, 0.33)]
    points = [(plan.bitops, plan.objective) for plan in search_frontier(indicators, 5)]  # at 32, 40, 48, 56 and 64
    assert points == [(bitops, pytest.approx(objective)) for bitops, objective in expected]
    # Budgets at 32, 48 and 64: the plan found within 48 costs 40.
    assert [plan.bitops for plan in search_frontier(indicators, 3)] == [32, 40, 64]
    assert [plan.bitops for plan in search_frontier(indicators, 2)] == [32, 64]


def test_of_plans_within_an_allowed_gap_those_that_another_one_beats_are_left_out(network, monkeypatch):
    steps = {"a": {2: 0.5, 4: 0.1}, "b": {2: 0.9, 4: 0.2}}
    indicators = network(steps, {"a": {4: 0.01}, "b": {4: 0.02}}, macs={"a": 3, "b": 1}, alpha=1.0)

    def far_from_the_best(programme, *_):
        # 4/2 bits take 56 BitOps and lose 1.03, 2/4 bits take 40 and lose 0.73: found for a larger budget.
        for choice in ([1, 0], [0, 0], [0, 1], [1, 1]):
            yield Solution(choice, HIGHS, 0.0)

    monkeypatch.setattr(frontier_search, "solve_at_limits", far_from_the_best)
    points = [(plan.bitops, plan.objective) for plan in search_frontier(indicators, 4, allow_gap=0.9)]
    assert points == [(bitops, pytest.approx(objective)) for bitops, objective in ((32, 1.43), (40, 0.73), (64, 0.33))]


def test_bits_that_lose_nothing_cost_nothing(network):
    # Two and four bits learned the same step: four are never worth their BitOps.
    indicators = network({"a": {2: 0.1, 4: 0.1}}, {"a": {2: 0.3, 4: 0.2}}, macs=1)
    objectives = [plan.objective for plan in search_frontier(indicators, 13)]
    assert objectives == pytest.approx([0.5, 0.4])


def test_where_every_layer_has_one_choice_the_frontier_is_one_plan(network):
    (plan,) = search_frontier(network({"a": {3: 0.1}}, macs=10), 100)
    assert plan.bitops == 90


def test_outliers_are_no_choice_at_either_end(network):
    indicators = network({"a": {2: 0.2, 3: 0.4, 4: 0.3}}, {"a": {2: 0.2}}, macs=1)  # 2 weight bits learned less than 3
    assert [plan.bitops for plan in search_frontier(indicators, 5)] == [6, 8]


def test_alpha_is_passed_on_and_that_of_the_indicators_taken_otherwise(network):
    indicators = network({"a": {2: 0.3, 4: 0.1}}, {"a": {2: 0.4, 4: 0.1}}, macs=1, alpha=1.0)
    assert {plan.alpha for plan in search_frontier(indicators, 4)} == {1.0}
    # At 8 BitOps one side may have 4 bits: lost are 0.1 alpha + 0.4 or 0.3 alpha + 0.1.
    middle = {alpha: search_frontier(indicators, 4, alpha=alpha)[1] for alpha in (1.4, 1.6)}
    bits = {alpha: plan.policy.layers["a"] for alpha, plan in middle.items()}
    assert {alpha: (of.weight, of.activation) for alpha, of in bits.items()} == {1.4: (2, 4), 1.6: (4, 2)}
    assert middle[1.4].alpha == 1.4


def test_bitops_are_counted_as_published_on_demand(network):
    indicators = network({"a": {2: 0.3, 4: 0.1}}, macs={"a": 100}, macs_limpq={"a": 101})
    assert [plan.bitops for plan in search_frontier(indicators, 2)] == [400, 1600]
    plans = search_frontier(indicators, 2, counting="limpq")
    assert [(plan.bitops, plan.counting) for plan in plans] == [(404, "limpq"), (1616, "limpq")]


@pytest.mark.parametrize("points", [1, 0, -3, True, False, 2.0, "5", None])
def test_points_that_cannot_be_are_refused(network, points):
    message = f"points={points!r} cannot be: use a whole number of at least 2, for example 100"
    with pytest.raises(BudgetError, match=f"^{re.escape(message)}$"):
        search_frontier(network({"a": {2: 0.1}}), points)


@pytest.mark.parametrize("points", [10_001, 3_000_000, 10**9])
def test_more_points_than_anyone_can_look_at_are_refused(network, points):
    with pytest.raises(BudgetError, match=f"^points={points} are too many: use at most 10000, for example 100$"):
        search_frontier(network({"a": {2: 0.1}}), points)


def test_the_frontier_has_one_time_limit_for_all_of_its_plans(random_network):
    indicators = random_network(random.Random(0), layers=60, candidates=(2, 3, 4, 5, 6), largest=10**9)
    began = time.process_time()
    with pytest.raises(SearchError, match="^no proven optimum in time"):
        search_frontier(indicators, 10_000, time_limit_s=0.2)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -1}, "alpha=-1 cannot be: use a number of at least 0, for example 2.0"),
        ({"counting": "paper"}, 'counting=\'paper\' is not known: use "exact" or "limpq"'),
    ],
    ids=str,
)
def test_what_a_search_refuses_the_frontier_refuses(network, arguments, message):
    with pytest.raises(BudgetError, match=re.escape(message)):
        search_frontier(network({"a": {2: 0.1}}), 2, **arguments)
