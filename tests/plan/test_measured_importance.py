"""Indicators whose pairs of bits were measured: what the file holds, what is refused, and what the importance is."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import pytest

from limpq_hub.errors import ArtifactFormatError, PolicyError
from limpq_hub.plan.baseline_policies import policies_to_compare
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.explanation import explain
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.plan.plan import Plan

DIVERGENCES = {
    "a": {LayerBits(2, 2): 0.9, LayerBits(2, 4): 0.5, LayerBits(4, 2): 0.4, LayerBits(4, 4): 0.0},
    "b": {LayerBits(2, 2): 0.3, LayerBits(2, 4): 0.35, LayerBits(4, 2): 0.25, LayerBits(4, 4): 0.125},
}


@pytest.fixture
def learned(network):
    steps = {name: {2: 0.5, 4: 0.25} for name in "ab"}
    return network(
        steps,
        steps,
        macs={"a": 10, "b": 30, "head": 1},
        weights={"a": 8, "b": 8, "head": 1},
        fixed={"head": (8, 8)},
        alpha=2.0,
    )


@pytest.fixture
def measured(learned):
    return replace(learned, divergences=DIVERGENCES)


def test_the_importance_is_learned_unless_the_measured_one_is_asked_for(measured):
    bits = LayerBits(2, 4)
    assert measured.importance("a", bits, alpha=2.0) == 0.25 + 2.0 * 0.5
    using = measured.using("measured")
    assert using.importance("a", bits, alpha=2.0) == 0.5
    assert using.importances("b", [LayerBits(4, 4), LayerBits(2, 2)], alpha=2.0) == [0.125, 0.3]
    assert using.using("learned").importance("a", bits, alpha=2.0) == 1.25
    assert measured.using(None) is measured


def test_an_alpha_changes_nothing_where_pairs_are_added_up_and_it_is_said(measured):
    budget = Budget(bitops="w3a3")
    plain = search(measured, budget, importance="measured")
    found = search(measured, budget, importance="measured", alpha=400.0)
    assert (found.policy, found.objective) == (plain.policy, plain.objective)
    note = "alpha=400 changes nothing: it weighs learned steps, and pairs are added up"
    assert (plain.notes, found.notes) == ((), (note,))
    assert search(measured, budget, importance="measured", alpha=2.0).notes == ()
    assert search(measured, budget, importance="coupled", alpha=400.0).notes == ()


def test_measured_pairs_are_no_outliers_even_where_fewer_bits_diverge_less(measured):
    using = measured.using("measured")
    assert using.without_outliers == (using, ())


def test_the_file_keeps_what_was_measured_and_which_importance_is_the_default(measured):
    content = json.loads(json.dumps(measured.using("measured").to_json(), allow_nan=False))
    assert content["layers"]["a"]["divergences"] == {"2/2": 0.9, "2/4": 0.5, "4/2": 0.4, "4/4": 0.0}
    read = Indicators.from_json(content)
    assert read == measured.using("measured")
    assert "objective" not in measured.to_json()
    assert "divergences" not in measured.to_json()["layers"]["head"]


def test_a_measured_importance_that_is_not_there_is_refused_with_the_command_that_measures_it(learned):
    with pytest.raises(PolicyError, match="of toynet at 32x32 were not measured; measure them with: limpq measure"):
        learned.using("measured")
    with pytest.raises(PolicyError, match="'guessed' is not known: use one of 'learned', 'coupled', 'measured'"):
        learned.using("guessed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers["a"].pop("divergences"), "those of the searched layers, all of them; they differ in a"),
        (lambda layers: layers["a"]["divergences"].pop("2/4"), "layer 'a': no divergence at 2/4 bits"),
        (lambda layers: layers["a"].update(divergences={"2x4": 1}), "a pair of bits is like \"4/3\", found '2x4'"),
        (lambda layers: layers["a"].update(divergences=[1]), "must give a number for each pair of bits, found "),
        (
            lambda layers: layers["a"]["divergences"].update({"2/4": -1e-9}),
            "at 2/4 bits must be a number of at least 0",
        ),
        (lambda layers: layers["a"]["divergences"].update({"2/4": True}), "at 2/4 bits must be a number of at least 0"),
        (
            lambda layers: layers["a"]["divergences"].update({"2/4": "0.1"}),
            "at most 1e.38, found '0.1'",
        ),
        (lambda layers: layers["head"].update(divergences={}), "'head': 'divergences' is not known in format 2"),
    ],
)
def test_a_file_whose_measured_pairs_are_not_whole_is_refused(measured, change, message):
    content = json.loads(json.dumps(measured.to_json()))
    change(content["layers"])
    with pytest.raises(ArtifactFormatError, match=message):
        Indicators.from_json(content)


def test_a_file_with_an_unknown_objective_is_refused(measured):
    content = measured.to_json() | {"objective": ["measured"]}
    with pytest.raises(ArtifactFormatError, match='"objective" must be one of "learned", "coupled", "measured"'):
        Indicators.from_json(content)


def test_a_file_whose_objective_is_what_was_not_measured_is_refused(measured):
    without = {**json.loads(json.dumps(measured.to_json())), "objective": "measured"}
    for layer in without["layers"].values():
        layer.pop("divergences", None)
    with pytest.raises(ArtifactFormatError, match="must be those of the searched layers"):
        Indicators.from_json(without)


def by_brute_force(indicators: Indicators, most_bitops: int) -> float:
    """Return the least sum of divergences of all policies within the budget."""
    names = list(indicators.divergences)
    sums = []
    for pairs in itertools.product(*(indicators.divergences[name] for name in names)):
        macs = [indicators.costs[name].macs for name in names]
        bitops = 64 * indicators.costs["head"].macs
        bitops += sum(mac * bits.weight * bits.activation for mac, bits in zip(macs, pairs, strict=True))
        if bitops <= most_bitops:
            sums.append(sum(indicators.divergences[name][bits] for name, bits in zip(names, pairs, strict=True)))
    return min(sums)


@pytest.mark.parametrize("seed", range(20))
def test_the_search_in_measured_pairs_finds_the_least_sum_of_all_policies(network, seed):
    rng = random.Random(seed)
    steps = {name: {bits: 1.0 / bits for bits in (2, 3, 4)} for name in "abc"}
    macs = {name: rng.randint(1, 40) for name in "abc"} | {"head": 1}
    pairs = [LayerBits(weight, activation) for weight in (2, 3, 4) for activation in (2, 3, 4)]
    indicators = replace(
        network(steps, steps, macs=macs, weights=dict.fromkeys("abc", 8) | {"head": 1}, fixed={"head": (8, 8)}),
        divergences={name: {bits: rng.random() for bits in pairs} for name in "abc"},
    )
    least, most = indicators.bitops_range()
    for share in (0.1, 0.4, 0.7, 1.0):
        budget = round(least + share * (most - least))
        plan = search(indicators, Budget(bitops=budget), importance="measured")
        assert plan.objective == pytest.approx(by_brute_force(indicators, budget), rel=1e-12)
        assert (plan.optimal, plan.importance) == (True, "measured")


def test_a_plan_is_explained_in_the_importance_that_it_was_searched_in(measured):
    plan = search(measured, Budget(bitops=64 + 40 * 8), importance="measured")
    for raised in explain(measured, plan).raises:
        bits = plan.policy.layers[raised.layer]
        more = replace(bits, **{raised.kind: raised.bits})
        assert raised.gained == DIVERGENCES[raised.layer][bits] - DIVERGENCES[raised.layer][more]


def test_the_file_of_a_plan_keeps_its_importance_unless_that_is_the_learned_one(measured):
    plan = search(measured, Budget(bitops=64 + 40 * 8), importance="measured")
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    learned = search(measured, Budget(bitops=64 + 40 * 8))
    assert (learned.importance, "importance" in learned.to_json()) == ("learned", False)


def test_a_plan_of_an_unknown_importance_is_refused(measured):
    plan = search(measured, Budget(bitops=64 + 40 * 8), importance="measured")
    with pytest.raises(ArtifactFormatError, match="importance 'felt' is not known"):
        Plan.from_json(json.loads(json.dumps(plan.to_json() | {"importance": "felt"})))


def test_the_reversed_policy_is_that_of_the_learned_importance(learned, measured):
    budget = Budget(bitops=64 + 40 * 8)
    policies = [
        policies_to_compare(indicators, budget)["reversed"] for indicators in (learned, measured.using("measured"))
    ]
    assert policies[0] == policies[1]
