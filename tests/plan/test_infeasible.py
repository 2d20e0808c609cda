"""Budgets that cannot be met: what the error advises works, and a little less fails."""

from __future__ import annotations

import random
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from limpq_hub.errors import InfeasibleBudgetError, SearchError
from limpq_hub.plan import infeasible, optimum
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.constraints.activation_memory import ActivationMemory
from limpq_hub.plan.infeasible import conflict
from limpq_hub.plan.optimum import search
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver import solving

ADVICE = re.compile(r'use (\w+)=(?:\(table, )?"([^"]*)"')


def budget_of(limits, table):
    """Return the budget of the given limits, the latency by `table`."""
    return Budget(**{name: (table, limit) if name == "latency" else limit for name, limit in limits.items()})


def checked_advice(indicators, limits, table, one_less):
    """Assert that each change that the error advises works, one less fails; return the constraints it names."""
    with pytest.raises(InfeasibleBudgetError, match=r" cannot be met together with ") as caught:
        search(indicators, budget_of(limits, table))
    advised = ADVICE.findall(str(caught.value))
    for name, text in advised:
        search(indicators, budget_of(limits | {name: text}, table))
        worse = one_less(text, by=-1 if name == "compression" else 1)
        with pytest.raises(InfeasibleBudgetError, match="cannot be met"):
            search(indicators, budget_of(limits | {name: worse}, table))
    return [name for name, _ in advised]


@pytest.fixture
def torn(random_network):
    """Return a function that draws a network, and times that fall where the bits rise."""

    def draw(rng, largest):
        indicators = random_network(rng, layers=3, candidates=(2, 4), largest=largest)
        pairs = [(weight, activation) for weight in (2, 4) for activation in (2, 4)]
        table = {
            name: {(w, a): 100 - rng.randint(1, 12) * w - rng.randint(1, 12) * a for w, a in pairs}
            for name in indicators.weight_steps
        }
        return indicators, table

    return draw


def limits_that_conflict(rng, indicators, table, outcomes, names):
    """Return limits, each of which some policy meets but none meets all, or None where these can be met together."""
    size = -(-outcomes.size_bits // 8)
    values = {"bitops": outcomes.bitops, "size": size, "compression": size, "latency": outcomes.latency}
    limits = {name: int(rng.choice(values[name])) for name in names}
    if np.logical_and.reduce([values[name] <= limit for name, limit in limits.items()]).any():
        return None
    if "compression" in limits:
        # In thousandths, rounded down: the size still meets it.
        ratio = 32 * sum(cost.weights for cost in indicators.costs.values()) * 1000 // (8 * limits["compression"])
        limits["compression"] = f"{ratio / 1000:.3f}x"
    return limits


@pytest.mark.parametrize("other", ["bitops", "size", "compression"])
@pytest.mark.parametrize("largest", [10**3, 10**6, 10**9])
def test_of_two_constraints_that_conflict_either_can_be_changed_as_advised_and_by_no_less(
    torn, every_policy, one_less, other, largest
):
    checked = 0
    for seed in range(400):
        rng = random.Random(seed)
        indicators, table = torn(rng, largest)
        limits = limits_that_conflict(rng, indicators, table, every_policy(indicators, table), (other, "latency"))
        if limits:
            assert checked_advice(indicators, limits, table, one_less) == [other, "latency"]
            checked += 1
    assert checked >= 15


def test_of_three_constraints_the_one_that_takes_no_part_is_not_named(torn, every_policy, one_less):
    checked = 0
    for seed in range(70):
        rng = random.Random(seed)
        indicators, table = torn(rng, 10**6)
        names = ("bitops", "latency")
        limits = limits_that_conflict(rng, indicators, table, every_policy(indicators, table), names)
        if limits:
            enough = sum(cost.weights for cost in indicators.costs.values())  # a byte for each weight
            with pytest.raises(InfeasibleBudgetError, match="cannot be met together with latency") as caught:
                search(indicators, budget_of(limits | {"size": enough}, table))
            assert "size" not in str(caught.value)
            assert checked_advice(indicators, limits | {"size": enough}, table, one_less) == ["bitops", "latency"]
            checked += 1
    assert checked >= 10


def test_of_three_constraints_that_conflict_in_two_ways_only_a_change_that_works_is_advised(
    torn, every_policy, one_less
):
    advised = []
    for seed in range(80):
        rng = random.Random(seed)
        indicators, table = torn(rng, 10**3)
        names = ("bitops", "size", "latency")
        limits = limits_that_conflict(rng, indicators, table, every_policy(indicators, table), names)
        if limits:
            advised.append(checked_advice(indicators, limits, table, one_less))
    assert len(advised) >= 10
    assert all(advised)


def test_where_only_one_of_three_constraints_can_give_way_only_that_one_is_advised(network):
    # "a" is fast with 4 weight bits only, which the size forbids; "b" with 4 activation bits, which the BitOps forbid.
    indicators = network(
        {"a": {2: 0.4, 4: 0.2}, "b": {2: 0.4, 4: 0.2}}, macs={"a": 1, "b": 100}, weights={"a": 800, "b": 8}
    )
    table = {
        "a": {(w, a): 1 if w == 4 else 9 for w in (2, 4) for a in (2, 4)},
        "b": {(w, a): 1 if a == 4 else 9 for w in (2, 4) for a in (2, 4)},
    }
    with pytest.raises(InfeasibleBudgetError, match="cannot be met") as caught:
        search(indicators, Budget(bitops=600, size=300, latency=(table, 2)))
    assert ADVICE.findall(str(caught.value)) == [("latency", "18")]
    search(indicators, Budget(bitops=600, size=300, latency=(table, 18)))


def test_two_constraints_that_conflict_solved_by_hand(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.1}}, macs=1000, weights=800)
    fast_at_four = {"a": {(2, 4): 9.5, (4, 4): 1.25}}
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(bitops="8K", latency=(fast_at_four, 2)))
    assert str(caught.value) == (
        'bitops="8K" cannot be met together with latency: toynet at 32x32 needs at least 16.00K and uses at most '
        '16.00K; use bitops="16.00K" or more, or a smaller input; or keep it, and use latency=(table, "9.5") instead '
        "(alone: 1.25 to 9.5)"
    )
    error = caught.value
    assert (error.requested, error.minimum, error.maximum, error.constraint) == (8000, 16000, 16000, "bitops")


def test_each_constraint_that_cannot_be_met_alone_is_named_with_what_it_needs(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.1}}, macs=1000, weights=800)
    because = "(every searched layer at its fewest bits)"
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(bitops="8K", size=199))
    assert str(caught.value) == (
        f'size="199B" cannot be met: toynet at 32x32 needs at least 200B {because} and uses at most 400B; '
        'use size="200B" or more'
    )
    with pytest.raises(InfeasibleBudgetError, match=r'^bitops="7.999K" .* use bitops="8.00K" ') as caught:
        search(indicators, Budget(bitops=7999, size=199))
    assert str(caught.value).endswith('; and use size="200B" as well (alone: 200B to 400B)')
    search(indicators, Budget(bitops="8.00K", size="200B"))


def test_a_conflict_of_constraints_that_can_be_met_together_is_a_fault_of_the_solver(network):
    problem = SearchProblem.of(network({"a": {2: 0.4, 4: 0.2}}), Budget(bitops="1G", size="1MB"))
    error = conflict(problem, time.monotonic() + 10)
    assert isinstance(error, SearchError)
    assert str(error) == "the solver gave two different answers for this budget; try a slightly other one"


def test_a_minimum_that_another_constraint_raises_is_told_as_one_beside_it(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.1}}, macs=1000, weights=800)
    fast_at_four = {"a": {(2, 4): 9.5, (4, 4): 1.25}}
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(bitops="7K", size=1000, latency=(fast_at_four, 2)))
    assert str(caught.value) == (
        'bitops="7K" cannot be met beside latency: toynet at 32x32 needs at least 16.00K and uses at most 16.00K; '
        'use bitops="16.00K" or more, or a smaller input; alone, bitops of 8.00K to 16.00K is possible'
    )
    search(indicators, Budget(bitops="16.00K", size=1000, latency=(fast_at_four, 2)))


def test_all_that_is_solved_for_one_answer_shares_one_time_limit(network, monkeypatch):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.1}}, macs=1000, weights=800)
    deadlines, solve = [], solving.solve

    def noted(programme, deadline, *gap):
        deadlines.append(deadline)
        return solve(programme, deadline, *gap)

    for module in (infeasible, optimum, solving):
        monkeypatch.setattr(module, "solve", noted)
    with pytest.raises(InfeasibleBudgetError):
        search(indicators, Budget(bitops="8K", latency=({"a": {(2, 4): 9.5, (4, 4): 1.25}}, 2)), time_limit_s=5)
    assert len(deadlines) > 2
    assert len(set(deadlines)) == 1
    assert 0 < deadlines[0] - time.monotonic() <= 5


def test_a_limit_of_very_many_digits_is_not_quoted_whole(network):
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(network({"a": {2: 0.4, 4: 0.2}}), Budget(compression=1e308))
    assert len(str(caught.value).partition("cannot be met")[0]) < 100


def test_a_kind_that_rules_out_options_is_told_beside_a_minimum_whatever_its_name(network, monkeypatch):
    class InputMemory(ActivationMemory):
        name = "input_memory"

    monkeypatch.setattr("limpq_hub.plan.budget.KINDS", (*KINDS, InputMemory()))
    indicators = network({"a": {2: 0.4, 4: 0.2}}, {"a": {2: 0.4, 4: 0.1}}, inputs=100)
    table = {"a": {(w, a): 9 // a for w in (2, 4) for a in (2, 4)}}
    for name, other in (("activation_memory", "input_memory"), ("input_memory", "activation_memory")):
        with pytest.raises(InfeasibleBudgetError) as caught:
            search(indicators, Budget(latency=(table, 3), **{name: 25, other: 50}))
        assert str(caught.value) == (
            f'latency=(table, "3") cannot be met beside {name}="25B": toynet at 32x32 needs at least 4 and uses at '
            f'most 4; use latency=(table, "4") or more; or raise {name}='
        )
        search(indicators, Budget(latency=(table, 4), **{name: 25, other: 50}))
        search(indicators, Budget(latency=(table, 3), **{name: 50, other: 50}))


def test_an_activation_memory_that_plays_no_part_in_a_minimum_is_not_named(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, macs=1000, inputs=100)
    only_at_two = {"a": {(2, 2): 3, (4, 2): 3}}  # the table lacks what the memory rules out, so to raise it is no way
    for limits in ({"bitops": "1K"}, {"size": 1}, {"latency": (only_at_two, 1)}):
        with pytest.raises(InfeasibleBudgetError) as caught:
            search(indicators, Budget(**limits, activation_memory=25))
        assert "activation_memory" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "fixed", "outlier", "because"),
    [
        ("ab", {}, False, "(every searched layer at its fewest bits)"),
        ("ab", {"head": (8, 8)}, False, "(every searched layer at its fewest bits, 1 fixed at 8)"),
        ("ab", {"head": (8, 4)}, False, "(every searched layer at its fewest bits, 1 fixed at other bits)"),
        ("ab", {"head": (32, 32)}, False, "(every searched layer at its fewest bits, 1 in float)"),
        ("ab", {"a": (8, 8), "c": (8, 8)}, False, "(every searched layer at its fewest bits, first and last at 8)"),
        ("ab", {}, True, "(every searched layer at its fewest bits that are no outliers)"),
        ("", {"head": (8, 8)}, False, ""),
    ],
)
def test_why_a_minimum_is_no_smaller_is_told_as_it_is(network, names, fixed, outlier, because):
    steps = {name: {2: 0.4, 3: 0.3, 4: 0.2} for name in names if name not in fixed}
    if outlier:
        steps["a"] = {2: 0.1, 3: 0.3, 4: 0.2}
    indicators = network(steps, fixed=fixed)
    order = sorted(indicators.costs)
    indicators = replace(indicators, costs={name: indicators.costs[name] for name in order})
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(bitops=1))
    needed = re.search(r" needs at least \S+ ?(.*) and uses at most ", str(caught.value))[1]
    assert needed == because


@pytest.mark.parametrize(
    ("weight_steps", "apart", "which"),
    [
        ({2: 0.4, 4: 0.2}, 0, "at its fewest bits that are equal for weights and activations"),
        ({2: 0.4, 4: 0.2}, 2, "at its fewest bits"),
        ({2: 0.1, 8: 0.2}, 2, "at its fewest bits that are no outliers and at most 2 apart"),
    ],
)
def test_bits_held_near_each_other_are_named_where_they_make_a_minimum_larger(network, weight_steps, apart, which):
    indicators = network({"a": weight_steps}, {"a": {4: 0.4, 8: 0.2}}, macs=1)
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(bitops=1), apart=apart)
    assert f" (every searched layer {which}) " in str(caught.value)


def test_what_is_needed_besides_an_activation_memory_is_told_with_it(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, macs=1000, inputs=100)
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(bitops="1K", activation_memory=24))
    assert str(caught.value) == (
        'activation_memory="24B" cannot be met: the largest layer input of toynet at 32x32 takes at least 25B; use '
        'activation_memory="25B" or more, or a smaller input; with activation_memory="25B", bitops="1K" cannot be '
        "met: toynet at 32x32 needs at least 4.00K (every searched layer at its fewest bits) and uses at most 8.00K; "
        'use bitops="4.00K" or more, or a smaller input'
    )
    error = caught.value
    assert (error.requested, error.minimum, error.constraint) == (24, 25, "activation_memory")
    search(indicators, Budget(bitops="4.00K", activation_memory="25B"))


def test_what_cannot_be_met_beside_a_conflict_is_told_with_the_first_change(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.1}}, macs=1000, weights=800)
    fast_at_four = {"a": {(2, 4): 9.5, (4, 4): 1.25}}
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(bitops="8K", size=1, latency=(fast_at_four, 2)))
    assert str(caught.value) == (
        'bitops="8K" cannot be met together with latency: toynet at 32x32 needs at least 16.00K and uses at most '
        '16.00K; use bitops="16.00K" or more, or a smaller input; or keep it, and use latency=(table, "9.5") instead '
        '(alone: 1.25 to 9.5); with bitops="16.00K", size="1B" cannot be met beside latency: toynet at 32x32 needs at '
        'least 400B and uses at most 400B; use size="400B" or more; alone, size of 200B to 400B is possible'
    )
    search(indicators, Budget(bitops="16.00K", size="400B", latency=(fast_at_four, 2)))


def test_whatever_cannot_be_met_all_that_is_advised_together_works(torn):
    followed = 0
    for seed in range(300):
        rng = random.Random(seed)
        indicators, table = torn(rng, 10**3)
        most = {"bitops": 10**5, "size": 2000, "activation_memory": 500, "latency": 200, "compression": 12}
        names = rng.sample(list(most), rng.randint(2, 5))
        limits = {name: rng.randint(1, rng.choice((3, most[name]))) for name in names}
        try:
            search(indicators, budget_of(limits, table))
        except InfeasibleBudgetError as error:
            parts = str(error).split("; with ")
            # Of changes between which one may choose, what follows goes with the first.
            advised = [advice for part in parts for advice in ADVICE.findall(part.partition("; or keep it")[0])]
            assert advised
            search(indicators, budget_of(limits | dict(advised), table))
            followed += len(parts) > 1
    assert followed >= 20
