"""From the arguments of a search to its integer programme, and from a choice back to a plan."""

from __future__ import annotations

import pytest

from limpq_hub.errors import BudgetError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver.solution import Solution


@pytest.fixture
def two(network):
    """Return two layers that are not in the order of their names, and a fixed head."""
    return network(
        {"b": {2: 0.5, 4: 0.25}, "a": {2: 0.75, 3: 0.5}},
        {"b": {4: 0.125}, "a": {2: 1.0, 3: 0.5}},
        macs={"b": 10, "a": 100, "head": 1},
        weights={"b": 8, "a": 16, "head": 24},
        fixed={"head": (8, 8)},
        alpha=2.0,
    )


def test_each_option_of_each_group_has_its_cost_and_its_coefficients(two):
    problem = SearchProblem.of(two, Budget(bitops=5000, size=30))
    assert [group.layers for group in problem.groups] == [("a",), ("b",), ("head",)]
    pairs = [[(bits.weight, bits.activation) for bits in group.options] for group in problem.groups]
    assert pairs == [[(2, 2), (2, 3), (3, 2), (3, 3)], [(2, 4), (4, 4)], [(8, 8)]]
    # Activation step + 2 x weight step; the fixed layer loses nothing.
    assert problem.programme.costs == [[2.5, 2.0, 2.0, 1.5], [1.125, 0.625], [0.0]]
    bitops, size = problem.programme.constraints
    assert (bitops.kind.name, bitops.limit, size.kind.name, size.limit) == ("bitops", 5000, "size", 240)
    assert bitops.coefficients == ((400, 600, 600, 900), (80, 160), (64,))
    assert size.coefficients == ((32, 32, 48, 48), (16, 32), (192,))


def test_the_layers_of_a_tie_are_one_group_that_loses_and_takes_what_all_of_them_do(network):
    steps = {name: {2: 0.5, 4: 0.25} for name in ("z", "a", "m")}
    indicators = network(steps, {name: {4: 0.125} for name in steps}, macs={"z": 1, "a": 10, "m": 100}, alpha=1.0)
    problem = SearchProblem.of(indicators, Budget(bitops=5000), tie=[["z", "a"]])
    # A group ranks by the first of its names.
    assert [set(group.layers) for group in problem.groups] == [{"z", "a"}, {"m"}]
    assert problem.programme.costs == [[1.25, 0.75], [0.625, 0.375]]
    assert problem.programme.constraints[0].coefficients == ((88, 176), (800, 1600))


def test_alpha_is_that_of_the_indicators_unless_it_is_given(two):
    assert SearchProblem.of(two, Budget(bitops=5000)).alpha == 2.0
    problem = SearchProblem.of(two, Budget(bitops=5000), alpha=0)
    assert (problem.alpha, problem.programme.costs[0]) == (0.0, [1.0, 0.5, 1.0, 0.5])


def test_options_that_are_outliers_or_take_too_much_memory_are_not_there(network):
    indicators = network(
        {"a": {2: 0.5, 3: 0.7, 4: 0.6}}, {"a": {2: 0.5, 4: 0.25}}, inputs={"a": 16}
    )  # 2 weight bits lose less than 3
    problem = SearchProblem.of(indicators, Budget(bitops=10**6, activation_memory=4))
    assert [(bits.weight, bits.activation) for bits in problem.groups[0].options] == [(3, 2), (4, 2)]
    assert [(outlier.layer, outlier.bits) for outlier in problem.outliers] == [("a", 2)]
    assert problem.indicators is indicators


@pytest.mark.parametrize(
    ("arguments", "restricted"),
    [
        ({}, False),
        ({"alpha": 3.0, "counting": "limpq"}, False),
        ({"candidates": [2, 3, 4]}, True),
        ({"pin": {"a": (2, 2)}}, True),
        ({"exclude": ["a"]}, True),
        ({"tie": [["a"]]}, True),
    ],
    ids=str,
)
def test_it_says_whether_choices_were_taken_away(two, arguments, restricted):
    assert SearchProblem.of(two, Budget(bitops=5000), **arguments).restricted is restricted


def test_a_choice_becomes_a_plan_with_the_layers_in_their_own_order_and_costs_counted_afresh(two):
    problem = SearchProblem.of(two, Budget(bitops=5000, size=40))
    plan = problem.plan(Solution([1, 1, 0], "enumeration"), 0.5)
    assert list(plan.policy.layers.items()) == [
        ("b", LayerBits(4, 4)),
        ("a", LayerBits(2, 3)),
        ("head", LayerBits(8, 8)),
    ]
    assert (plan.bitops, plan.size_bytes) == (160 + 600 + 64, (32 + 32 + 192) // 8)
    assert (plan.objective, plan.bound, plan.optimal) == (2.0 + 0.625, 2.0 + 0.625, True)
    assert (plan.alpha, plan.counting, plan.seconds, plan.way) == (2.0, "exact", 0.5, "enumeration")


def test_an_importance_that_no_float_holds_is_refused_whether_layers_are_tied_or_not(network):
    indicators = network({name: {2: 1.5, 4: 1.0} for name in "abc"}, alpha=1e308)
    message = r"^alpha=1e\+308 makes the importance of layers infinite; lower it, or check the learned step sizes$"
    for tie in (None, [["*"]], [["a", "b"]]):
        with pytest.raises(BudgetError, match=message):
            SearchProblem.of(indicators, Budget(bitops=10**6), tie=tie)
    with pytest.raises(BudgetError, match=message):
        Plan.of_policy(indicators, Policy("toynet", dict.fromkeys("abc", LayerBits(4, 4))))
