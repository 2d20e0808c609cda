"""Why a plan looks as it does: raises recounted layer by layer, and the uniform policy it is put beside."""

from __future__ import annotations

import io
import itertools
import json
import random
from dataclasses import replace

import pytest
from rich.console import Console

from limpq_hub.errors import PolicyError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.explanation import Raise, explain
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy

NONE_BESIDE = "no policy of equal bits that all layers learned is within the budget to set it beside"


@pytest.fixture
def two(network):
    """Two layers of 10 and 100 MACs, 8 and 20 weights, and a head of 64 BitOps; every step a power of two."""
    return network(
        {"a": {2: 0.5, 3: 0.25, 4: 0.125}, "b": {2: 1.0, 3: 0.5, 4: 0.25}},
        {"a": {2: 0.75, 3: 0.5, 4: 0.25}, "b": {2: 0.5, 3: 0.25, 4: 0.125}},
        macs={"a": 10, "b": 100, "head": 1},
        macs_limpq={"a": 40, "b": 100, "head": 1},
        weights={"a": 8, "b": 20, "head": 1},
        fixed={"head": (8, 8)},
        alpha=2.0,
    )


def plan_of(indicators, a, b, **counted):
    layers = {"a": LayerBits(*a), "b": LayerBits(*b), "head": LayerBits(8, 8)}
    return Plan.of_policy(indicators, Policy("toynet", layers, 32), **counted)


def with_bits(policy, name, kind, bits):
    old = policy.layers[name]
    new = LayerBits(bits, old.activation) if kind == "weight" else LayerBits(old.weight, bits)
    return Policy(policy.model, dict(policy.layers) | {name: new}, policy.input_size)


def printed(tables):
    console = Console(width=160, file=io.StringIO())
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def cells_of(text):
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


# Raises


def test_every_raise_is_the_one_computed_by_hand_most_gained_per_bitop_first(two):
    # "a" at 2/4: its weights to 3 gain 2 x 0.25 for 10 x 4 BitOps and a byte.
    # "b" at 3/3: its weights to 4 gain 2 x 0.25 for 100 x 3 BitOps and 20 bits; its activations 0.125 for 300.
    assert explain(two, plan_of(two, (2, 4), (3, 3))).raises == (
        Raise("a", "weight", 3, gained=0.5, bitops=40, size_bytes=1.0),
        Raise("b", "weight", 4, gained=0.5, bitops=300, size_bytes=2.5),
        Raise("b", "activation", 4, gained=0.125, bitops=300, size_bytes=0.0),
    )


def test_another_alpha_and_another_counting_of_macs_change_what_is_gained_and_what_it_costs(two):
    raises = explain(two, plan_of(two, (2, 4), (4, 4), alpha=0.5, counting="limpq")).raises
    assert raises == (Raise("a", "weight", 3, gained=0.125, bitops=160, size_bytes=1.0),)


def test_at_the_most_bits_nothing_can_be_raised(two):
    assert explain(two, plan_of(two, (4, 4), (4, 4))).raises == ()


@pytest.mark.parametrize("counting", ["exact", "limpq"])
@pytest.mark.parametrize("seed", range(10))
def test_every_raise_is_the_difference_of_two_plans_counted_whole(random_network, seed, counting):
    rng = random.Random(seed)
    indicators = random_network(rng, layers=5, candidates=(2, 3, 5, 8))
    alpha = rng.choice([0.0, 0.5, 3.0])
    plan = search(indicators, Budget(bitops="w3a5"), alpha=alpha, counting=counting)
    explanation = explain(indicators, plan)
    names = list(indicators.weight_steps)
    lower = {(name, kind) for name in names for kind in ("weight", "activation")}
    lower -= {(name, kind) for name, kind in lower if getattr(plan.policy.layers[name], kind) == 8}
    assert sorted((single_raise.layer, single_raise.kind) for single_raise in explanation.raises) == sorted(lower)
    for single_raise in explanation.raises:
        assert (
            single_raise.bits == {2: 3, 3: 5, 5: 8}[getattr(plan.policy.layers[single_raise.layer], single_raise.kind)]
        )
        raised = with_bits(plan.policy, single_raise.layer, single_raise.kind, single_raise.bits)
        count = (lambda cost: cost.macs) if counting == "exact" else (lambda cost: cost.macs_limpq)
        totals = [
            (
                sum(count(cost) * of[name].weight * of[name].activation for name, cost in indicators.costs.items()),
                sum(cost.weights * of[name].weight for name, cost in indicators.costs.items()),
                sum(
                    indicators.activation_steps[name][of[name].activation]
                    + alpha * indicators.weight_steps[name][of[name].weight]
                    for name in names
                ),
            )
            for of in (plan.policy.layers, raised.layers)
        ]
        (bitops, size, objective), (more_bitops, more_size, less_objective) = totals
        assert single_raise.bitops == more_bitops - bitops
        assert single_raise.size_bytes == (more_size - size) / 8
        # The objectives of the whole network are sums of ten numbers each.
        assert single_raise.gained == pytest.approx(objective - less_objective, abs=1e-12 * objective)
    per_bitop = [single_raise.gained / single_raise.bitops for single_raise in explanation.raises]
    assert per_bitop == sorted(per_bitop, reverse=True)


@pytest.mark.parametrize("seed", range(20))
def test_no_raise_of_a_searched_plan_gains_anything_within_the_budget(random_network, seed):
    rng = random.Random(seed)
    indicators = random_network(rng, layers=6, candidates=(2, 3, 4, 5, 6), largest=rng.choice([10, 10**6]))
    limit = rng.randint(*indicators.bitops_range())
    plan = search(indicators, Budget(bitops=limit))
    for single_raise in explain(indicators, plan).raises:
        assert plan.bitops + single_raise.bitops > limit or single_raise.gained <= 0


def test_an_outlier_is_stepped_over_because_no_search_may_choose_it(network):
    steps = {2: 0.5, 3: 0.125, 4: 0.25}  # 3 bits learned a smaller step than 4
    indicators = network({"a": steps}, {"a": {2: 0.5, 4: 0.25}}, macs=1)
    plan = Plan.of_policy(indicators, Policy("toynet", {"a": LayerBits(2, 2)}))
    assert explain(indicators, plan).raises == (
        Raise("a", "weight", 4, gained=0.5, bitops=4, size_bytes=25.0),
        Raise("a", "activation", 4, gained=0.25, bitops=4, size_bytes=0.0),
    )


def test_a_policy_that_holds_an_outlier_can_lose_by_a_raise(network):
    indicators = network({"a": {3: 0.125, 4: 0.25}}, {"a": {4: 0.25}}, macs=1)
    plan = Plan.of_policy(indicators, Policy("toynet", {"a": LayerBits(3, 4)}))
    assert explain(indicators, plan).raises == (Raise("a", "weight", 4, gained=-0.25, bitops=4, size_bytes=12.5),)


def test_a_raise_beside_an_outlier_is_none_because_no_search_may_choose_it_either(network):
    indicators = network({"a": {3: 0.125, 4: 0.25}}, {"a": {2: 0.5, 4: 0.25}}, macs=1)
    plan = Plan.of_policy(indicators, Policy("toynet", {"a": LayerBits(3, 2)}))
    assert [(single_raise.kind, single_raise.bits) for single_raise in explain(indicators, plan).raises] == [
        ("weight", 4)
    ]


# What the search was told to leave alone


def test_bits_that_are_no_candidates_are_stepped_over(two):
    plan = plan_of(two, (2, 4), (2, 2))
    assert explain(two, plan, candidates=[2, 4]).raises == (
        Raise("a", "weight", 4, gained=0.75, bitops=80, size_bytes=2.0),
        Raise("b", "weight", 4, gained=1.5, bitops=400, size_bytes=5.0),
        Raise("b", "activation", 4, gained=0.375, bitops=400, size_bytes=0.0),
    )


@pytest.mark.parametrize(("choice", "of_b"), [({"pin": {"b": (3, 3)}}, 900), ({"exclude": ["b"]}, 1600)], ids=str)
def test_a_layer_whose_bits_are_given_is_not_raised(two, choice, of_b):
    plan = search(two, Budget(bitops=64 + of_b + 90), **choice)
    raises = explain(two, plan, **choice).raises
    assert raises
    assert {single_raise.layer for single_raise in raises} == {"a"}
    assert raises == tuple(single_raise for single_raise in explain(two, plan).raises if single_raise.layer == "a")


def test_tied_layers_are_raised_together(two):
    # Weights to 3: 2 x (0.25 + 0.5) for (10 + 100) x 2 BitOps and 28 bits.
    plan = plan_of(two, (2, 2), (2, 2))
    assert explain(two, plan, tie=[["a", "b"]]).raises == (
        Raise("a", "weight", 3, gained=1.5, bitops=220, size_bytes=3.5, tied=("b",)),
        Raise("a", "activation", 3, gained=0.5, bitops=220, size_bytes=0.0, tied=("b",)),
    )


def test_tied_layers_are_told_in_the_table(two):
    assert "a and 1 tied" in printed(explain(two, plan_of(two, (2, 2), (2, 2)), tie=[["a", "b"]]).tables())


def test_it_stands_beside_the_largest_policy_of_equal_bits_that_fits_the_budget(two):
    plan = plan_of(two, (2, 2), (2, 2))
    uniform = Policy.uniform(two.model, two.costs, 4, input_size=two.input_size)
    assert explain(two, plan, fits=lambda policy: True).uniform == uniform
    smaller = Policy.uniform(two.model, two.costs, 3, input_size=two.input_size)
    assert explain(two, plan, fits=lambda policy: policy != uniform).uniform == smaller


def test_where_no_policy_of_equal_bits_fits_it_stands_beside_none(two):
    explanation = explain(two, plan_of(two, (2, 4), (4, 2)), fits=lambda policy: False)
    assert (explanation.uniform, explanation.differences()) == (None, {})
    assert [str(table.title) for table in explanation.tables() if "uniform" in str(table.title)] == []
    assert explanation.sentences() == [NONE_BESIDE]


def test_bits_that_a_layer_did_not_learn_are_no_uniform_policy_to_stand_beside(network):
    indicators = network({"a": {2: 0.2, 4: 0.1}, "b": {3: 0.2, 5: 0.1}})
    explanation = explain(indicators, search(indicators, Budget(bitops="1G")))
    assert explanation.uniform is None
    assert NONE_BESIDE in explanation.sentences()


def test_a_pattern_that_matches_nothing_is_refused_as_in_a_search(two):
    with pytest.raises(PolicyError, match="pin 'c' matches no searched layer"):
        explain(two, plan_of(two, (2, 2), (2, 2)), pin={"c": (2, 2)})


# Beside a uniform policy


@pytest.mark.parametrize(
    ("a", "b", "uniform"),
    [
        # Uniform policies take 110 x bits x bits BitOps and 28 x bits of weights, beside those of the head.
        ((2, 2), (2, 2), 2),
        ((4, 4), (2, 4), 2),  # 160 + 800 BitOps
        ((3, 3), (3, 3), 3),
        ((2, 4), (3, 3), 2),  # 80 + 900 BitOps, and 990 at 3 bits
        ((3, 4), (3, 3), 3),  # 120 + 900 BitOps
        ((4, 2), (3, 4), 3),  # 80 + 1200 BitOps, 92 bits of weights
        ((2, 2), (4, 3), 3),  # 40 + 1200 BitOps, 96 bits of weights
        ((2, 4), (3, 4), 2),  # 80 + 1200 BitOps, but 76 bits of weights
        ((4, 4), (4, 4), 4),
    ],
)
def test_the_uniform_policy_is_the_largest_that_takes_no_more_bitops_and_no_more_bytes(two, a, b, uniform):
    explanation = explain(two, plan_of(two, a, b))
    assert explanation.uniform == Policy.uniform("toynet", two.costs, uniform, input_size=32)
    bits = LayerBits(uniform, uniform)
    planned = {"a": LayerBits(*a), "b": LayerBits(*b)}
    assert explanation.differences() == {name: (of, bits) for name, of in planned.items() if of != bits}


def test_the_uniform_policy_is_counted_as_the_plan_is(two):
    # At 40 MACs for "a", 4/4 and 4/2 take 640 + 800, more than the 140 x 9 of 3 bits; exactly 960 are less than 990.
    exact, limpq = (explain(two, plan_of(two, (4, 4), (4, 2), counting=counting)) for counting in ("exact", "limpq"))
    assert exact.uniform.layers["a"] == LayerBits(2, 2)
    assert limpq.uniform.layers["a"] == LayerBits(3, 3)
    # 4/4 and 4/3 take 640 + 1200, less than the 140 x 16 of 4 bits; these are 1760 if counted exactly.
    limpq = explain(two, plan_of(two, (4, 4), (4, 3), counting="limpq"))
    assert limpq.uniform.layers["a"] == LayerBits(3, 3)


@pytest.mark.parametrize("seed", range(10))
def test_differences_are_what_turns_the_uniform_policy_into_the_plan(random_network, seed):
    indicators = random_network(random.Random(seed), layers=6)
    plan = search(indicators, Budget(bitops="w3a3"))
    explanation = explain(indicators, plan)
    assert explanation.plan is plan
    layers = dict(explanation.uniform.layers)
    for name, (here, there) in explanation.differences().items():
        assert here != there == layers[name]
        layers[name] = here
    assert layers == dict(plan.policy.layers)


def test_a_network_without_a_choice_has_nothing_to_explain(network):
    indicators = network({}, fixed={"head": (8, 8)})
    explanation = explain(indicators, search(indicators, Budget(bitops="1G")))
    assert (explanation.uniform, explanation.raises, explanation.differences()) == (None, (), {})
    assert explanation.to_json()["uniform"] is None
    assert explanation.tables() == []
    assert explanation.sentences() == ["every layer has the most bits that it may have: there is none to raise"]


def test_at_the_most_bits_sentences_stand_in_place_of_empty_tables(two):
    explanation = explain(two, plan_of(two, (4, 4), (4, 4)))
    assert explanation.tables() == []
    assert explanation.sentences() == [
        "every layer has the bits of the uniform policy, 4/4",
        "every layer has the most bits that it may have: there is none to raise",
    ]


def test_captions_say_how_many_layers_differ_and_how_many_raises_are_not_shown(random_network):
    indicators = random_network(random.Random(0), layers=20)
    pinned = {f"layer{index}": (2, 2) for index in range(3, 20)}
    plan = search(indicators, Budget(bitops="1T"), pin=pinned)

    def of_two_bits(policy: Policy) -> bool:
        return policy.layers["layer0"] == LayerBits(2, 2)

    beside, raises = explain(indicators, plan, fits=of_two_bits).tables()
    assert beside.caption == f"3 of {len(indicators.costs)} layers: the others have the same bits in both"
    assert raises.caption == "12 of 34 raises"
    assert explain(indicators, plan, fits=of_two_bits, pin={"layer?": (2, 2)}).tables()[1].caption == "12 of 20 raises"
    few = explain(indicators, plan, fits=of_two_bits, pin={"layer1?": (2, 2)}).tables()[1]
    assert few.caption == "12 of 14 raises"


# JSON and tables


def test_the_json_holds_the_plan_the_uniform_policy_and_every_raise(two):
    plan = search(two, Budget(bitops=64 + 80 + 900))
    explanation = explain(two, plan)
    content = json.loads(json.dumps(explanation.to_json(), allow_nan=False))
    assert set(content) == {"plan", "uniform", "raises", "roles"}
    assert Plan.from_json(content["plan"]) == plan
    assert Policy.from_json(content["uniform"]) == explanation.uniform
    assert (
        tuple(Raise(**single_raise | {"tied": tuple(single_raise["tied"])}) for single_raise in content["raises"])
        == explanation.raises
    )


def test_the_tables_show_signed_differences_and_what_a_raise_costs(two):
    text = printed(explain(two, plan_of(two, (2, 3), (4, 4))).tables())  # 60 + 1600 BitOps, 96 bits of weights
    assert "Beside uniform 3/3 bits" in text
    assert "What the next larger bit-width would cost, the most gained per BitOp first" in text
    assert cells_of(text) == [
        ["a", "2 (-1)", "3"],
        ["b", "4 (+1)", "4 (+1)"],
        ["a", "weight to 3", "0.500000", "+30", "+1B"],
        ["a", "activation to 4", "0.250000", "+20", ""],
    ]


def test_a_raise_of_activations_shows_no_weights(two):
    text = printed(explain(two, plan_of(two, (4, 4), (4, 2))).tables())
    assert cells_of(text)[-1] == ["b", "activation to 3", "0.250000", "+400", ""]


def test_the_twelve_best_raises_are_shown(random_network):
    indicators = random_network(random.Random(0), layers=20)
    explanation = explain(indicators, search(indicators, Budget(bitops="w2a2")))
    assert len(explanation.raises) == 40
    assert [cells[:2] for cells in cells_of(printed(explanation.tables()[-1:]))] == [
        [single_raise.layer, f"{single_raise.kind} to {single_raise.bits}"] for single_raise in explanation.raises[:12]
    ]


def test_the_importance_that_the_plan_was_searched_by_is_named(two):
    pairs = {
        name: dict.fromkeys(itertools.starmap(LayerBits, itertools.product((2, 3, 4), repeat=2)), 0.1) for name in "ab"
    }
    both = replace(two, divergences=pairs)
    for importance, words in (
        ("learned", "learned steps"),
        ("coupled", "coupled steps"),
        ("measured", "measured pairs"),
    ):
        plan = search(both, Budget(bitops=1000), importance=importance)
        assert f"objective ({words}) falls by" in printed(explain(both, plan).tables())
        assert f"({words}) proven optimal" in " ".join(printed([plan.table()]).split())
