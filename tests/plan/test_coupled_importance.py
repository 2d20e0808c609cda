"""Coupled steps, and bits of a layer that are held near each other: what the objective is, what a search may choose."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest

from limpq_hub.errors import ArtifactFormatError, PolicyError
from limpq_hub.plan.baseline_policies import reversed_importance
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.explanation import explain
from limpq_hub.plan.frontier_search import search_frontier
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.sensitivity import by_weight_errors

CANDIDATES = (2, 3, 5, 8)


def distance(bits: LayerBits) -> int:
    return abs(bits.weight - bits.activation)


def raised_over_fewer(steps: dict[int, float], width: int) -> float:
    """The largest step at these bits or more, looked for one by one."""
    return max(step for bits, step in steps.items() if bits >= width)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 3.0])
def test_coupled_steps_add_up_as_the_two_sides_of_a_right_angle(network, alpha):
    indicators = network({"a": {4: 3.0, 2: 6.0}}, {"a": {4: 4.0, 2: 8.0}}).using("coupled")
    for bits in (LayerBits(4, 4), LayerBits(2, 4), LayerBits(2, 2)):
        weight, activation = {4: 3.0, 2: 6.0}[bits.weight], {4: 4.0, 2: 8.0}[bits.activation]
        expected = math.sqrt((alpha * weight) ** 2 + activation**2)
        assert indicators.importance("a", bits, alpha) == pytest.approx(expected, rel=1e-15)
    assert indicators.importance("a", LayerBits(4, 4), 1.0) == 5.0


def test_steps_out_of_order_count_as_the_next_larger_and_are_a_choice(network):
    steps = {"a": {2: 0.5, 3: 0.1, 4: 0.3}}
    indicators = network(steps, {"a": {2: 0.2, 3: 0.4, 4: 0.4}}).using("coupled")
    assert indicators.without_outliers == (indicators, ())
    assert indicators.importance("a", LayerBits(3, 4), alpha=1.0) == math.hypot(0.3, 0.4)
    assert indicators.importance("a", LayerBits(4, 2), alpha=1.0) == math.hypot(0.3, 0.4)
    plan = search(indicators, Budget(bitops=1000 * 3 * 2))
    assert (plan.policy.layers["a"], plan.excluded) == (LayerBits(3, 2), ())
    assert search(indicators.using("learned"), Budget(bitops=1000 * 3 * 3)).excluded


@pytest.mark.parametrize("apart", [None, 0, 1, 2, 6])
@pytest.mark.parametrize("seed", range(5))
def test_a_search_by_coupled_steps_is_the_best_of_all_policies_that_are_near_enough(random_network, seed, apart):
    rng = random.Random(seed)
    learned = random_network(rng, layers=2, candidates=CANDIDATES)
    indicators = learned.using("coupled", apart)
    names = list(indicators.weight_steps)
    pairs = [LayerBits(w, a) for w in CANDIDATES for a in CANDIDATES if apart is None or abs(w - a) <= apart]
    steps = (learned.weight_steps, learned.activation_steps)
    cost = {
        (name, bits): math.hypot(
            learned.alpha * raised_over_fewer(steps[0][name], bits.weight),
            raised_over_fewer(steps[1][name], bits.activation),
        )
        for name in names
        for bits in pairs
    }
    fixed = sum(cost.macs * cost.fixed.weight * cost.fixed.activation for cost in learned.costs.values() if cost.fixed)
    totals = {
        (first, second): (
            fixed
            + sum(
                learned.costs[name].macs * bits.weight * bits.activation
                for name, bits in zip(names, (first, second), strict=True)
            ),
            cost[names[0], first] + cost[names[1], second],
        )
        for first in pairs
        for second in pairs
    }
    limit = rng.choice([bitops for bitops, _ in totals.values()])
    plan = search(indicators, Budget(bitops=limit))
    assert plan.optimal
    assert plan.objective == pytest.approx(min(both for bitops, both in totals.values() if bitops <= limit), rel=1e-12)
    assert max(distance(plan.policy.layers[name]) for name in names) <= (7 if apart is None else apart)
    assert plan.importance == "coupled"


@pytest.fixture
def four(random_network) -> Indicators:
    """Four layers at random, whose learned optimum holds bits far apart."""
    indicators = random_network(random.Random(3), layers=4, candidates=CANDIDATES)
    return replace(
        indicators, activation_steps={name: dict.fromkeys(CANDIDATES, 0.1) for name in indicators.weight_steps}
    )


def searched_layers(plan: Plan) -> list[LayerBits]:
    return list(plan.policy.layers.values())


def test_bits_are_held_near_in_any_importance_and_only_where_it_is_asked_for(four):
    budget = Budget(bitops="w3a5")
    assert max(map(distance, searched_layers(search(four, budget)))) > 2
    pairs = {LayerBits(w, a): 9.0 - w + (8 - a) / 100 for w in CANDIDATES for a in CANDIDATES}
    four = replace(four, divergences=dict.fromkeys(four.weight_steps, pairs))
    for importance in ("learned", "coupled", "measured"):
        assert max(map(distance, searched_layers(search(four, budget, importance=importance, apart=6)))) > 2
        assert max(map(distance, searched_layers(search(four, budget, importance=importance, apart=2)))) <= 2
        assert max(map(distance, searched_layers(search(four, budget, importance=importance, apart=0)))) == 0


def test_how_far_apart_bits_may_be_belongs_to_the_own_importance_of_the_indicators(four):
    near = four.using("coupled", 1)
    assert (near.objective, near.apart) == ("coupled", 1)
    assert near.using(None) is near
    assert near.using("coupled") is near
    assert (near.using("learned").objective, near.using("learned").apart) == ("learned", None)
    assert near.using("learned", 1).apart == 1
    assert near.using(None, 0).apart == 0
    assert near.using(None, 6).apart is None
    assert near.using("coupled", 1) is near
    budget = Budget(bitops="w3a5")
    assert search(near, budget).policy == search(four, budget, importance="coupled", apart=1).policy
    assert search(near, budget, importance="learned").policy == search(four, budget).policy
    assert all(max(map(distance, searched_layers(plan))) <= 1 for plan in search_frontier(near, points=5))


def test_a_layer_that_has_no_near_bits_and_one_that_is_pinned_are_not_held_near(network):
    steps = {"a": {8: 0.1, 6: 0.2}, "b": {8: 0.1, 6: 0.2, 3: 0.3, 2: 0.4}, "c": {8: 0.1, 6: 0.2, 3: 0.3, 2: 0.4}}
    activations = {"a": {3: 0.1, 2: 0.2}, "b": steps["b"], "c": steps["c"]}
    indicators = network(steps, activations).using("coupled", 1)
    layers = search(indicators, Budget(bitops=10**9), pin={"c": (8, 2)}).policy.layers
    assert layers == {"a": LayerBits(8, 3), "b": LayerBits(8, 8), "c": LayerBits(8, 2)}


@pytest.mark.parametrize("apart", [-1, 7, True, 0.5, "1", [1]])
def test_a_distance_that_cannot_be_is_refused(four, apart):
    with pytest.raises(PolicyError, match=r"^apart=.* cannot be: use a whole number from 0, equal bits, to 6"):
        search(four, Budget(bitops="w5a5"), apart=apart)
    content = json.loads(json.dumps(four.using("coupled", 1).to_json())) | {"apart": apart}
    with pytest.raises(ArtifactFormatError, match='"apart" must be a whole number of bits from 0 to 6, found'):
        Indicators.from_json(content)


def test_the_file_keeps_the_importance_and_the_distance(four):
    near = four.using("coupled", 1)
    content = json.loads(json.dumps(near.to_json()))
    assert (content["objective"], content["apart"]) == ("coupled", 1)
    assert Indicators.from_json(content) == near
    assert "apart" not in four.to_json()


@pytest.mark.parametrize("apart", [0, 1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_raises_keep_the_distance_and_take_the_other_bits_along_where_they_must(random_network, seed, apart):
    near = random_network(random.Random(seed), layers=4, candidates=(2, 3, 4, 6, 8)).using("coupled", apart)
    plan = search(near, Budget(bitops="w4a4"))
    raises = explain(near, plan).raises
    raised = {}
    for one in raises:
        bits = plan.policy.layers[one.layer]
        other = "activation" if one.kind == "weight" else "weight"
        above = replace(bits, **{one.kind: one.bits} | ({other: one.along} if one.along else {}))
        assert distance(above) <= apart
        assert one.text == f"{one.kind} to {one.bits}" + (f", {other} to {one.along}" if one.along else "")
        assert (one.along is None) == (distance(replace(bits, **{one.kind: one.bits})) <= apart)
        of_both = [near.importance(one.layer, of, near.alpha) for of in (bits, above)]
        assert one.gained == pytest.approx(of_both[0] - of_both[1])
        raised.setdefault(one.layer, []).append(above)
    for name in near.weight_steps:
        assert bool(raised.get(name)) == (plan.policy.layers[name] != LayerBits(8, 8))
        assert len(set(raised.get(name, []))) == len(raised.get(name, []))


def test_a_plan_says_how_near_its_bits_were_held_and_json_keeps_it(four):
    near = four.using("coupled", 1)
    plan = search(near, Budget(bitops="w3a3"))
    assert (plan.apart, search(four, Budget(bitops="w3a3")).apart) == (1, None)
    content = json.loads(json.dumps(plan.to_json()))
    read = Plan.from_json(content)
    assert (read.importance, read.apart, read.policy) == ("coupled", 1, plan.policy)
    assert "(coupled steps, weight and activation bits of a layer at most 1 apart)" in str(plan.table().caption)
    with pytest.raises(ArtifactFormatError, match="apart 9 is no number of bits"):
        Plan.from_json(content | {"apart": 9})


def test_policies_to_compare_with_are_held_near_only_where_they_are_of_the_same_importance(four):
    near = four.using("coupled", 1)
    assert (reversed_importance(near).objective, reversed_importance(near).apart) == ("coupled", 1)
    errors = {name: {2: 0.4, 3: 0.2, 5: 0.1, 8: 0.01} for name in near.weight_steps}
    assert by_weight_errors(near, errors, activation=3).apart is None


def test_a_reason_goes_with_the_objective_that_it_is_of(four):
    why = {"command": "training/indicators.py", "objective_reason": "Images chose it."}
    near = replace(four.using("coupled", 1), provenance=why)
    assert near.using("coupled").provenance == why
    assert near.using("learned").provenance == near.using("coupled", 0).provenance == {"command": why["command"]}


def test_the_fewest_and_the_most_bits_are_near_too(network):
    steps, fixed = {"a": {8: 0.1, 3: 0.2, 2: 0.3}}, {"head": (8, 8)}
    indicators = network(steps, {"a": {6: 0.1, 4: 0.2}}, fixed=fixed).using("coupled", 1)
    least, most = indicators.bitops_range()
    assert (least, most) == (64_000 + 12_000, 64_000 + 12_000)
    assert search(indicators, Budget(bitops=least)).bitops == least
    assert indicators.using(None, 6).bitops_range() == (64_000 + 8_000, 64_000 + 48_000)


def test_the_most_bits_are_a_choice_where_an_outlier_alone_is_near(network):
    # 2 weight bits are an outlier: without them no pair is near, and all are a choice.
    indicators = replace(network({"a": {8: 0.2, 2: 0.1}}, {"a": {3: 0.4, 2: 0.5}}, macs=1), apart=1)
    assert indicators.bitops_range() == (8 * 2, 8 * 3)
    assert search(indicators, Budget(bitops=8 * 3)).policy == indicators.most_bits()
