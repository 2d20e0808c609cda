"""The policies that a search is compared with: each against brute force or a table solved by hand."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from limpq_hub.errors import PolicyError
from limpq_hub.plan.baseline_policies import random_policy, reversed_importance, uniform_filled, uniform_splits
from limpq_hub.plan.policy import LayerBits, Policy

NONE_FITS = "^no policy fits this budget: even the fewest bits are above it; raise the budget$"
BUILDERS = {
    "uniform_filled": uniform_filled,
    "uniform_splits": uniform_splits,
    "random_policy": lambda indicators, fits: random_policy(indicators, fits, 0),
}


def bitops_of(indicators, policy):
    return sum(
        cost.macs * policy.layers[n].weight * policy.layers[n].activation for n, cost in indicators.costs.items()
    )


def within(indicators, limit):
    """Return whether a policy costs at most so many BitOps, as a function."""
    return lambda policy: bitops_of(indicators, policy) <= limit


def bits_of(policy):
    return {name: (bits.weight, bits.activation) for name, bits in policy.layers.items() if name != "head"}


def uniform_bitops(indicators, weight, activation):
    return bitops_of(indicators, Policy.uniform("toynet", indicators.costs, weight, activation))


def first_come_first_served(indicators, weight, activation, moves, limit):
    """Return the bits where as early `moves` as possible are made: all subsets tried, the first in the order wins.

    Args:
        moves: (layer, weight bits more, activation bits more).
    """
    searched, fixed = list(indicators.weight_steps), indicators.costs["head"]
    for taken in itertools.product((True, False), repeat=len(moves)):
        bits = {name: [weight, activation] for name in searched}
        for name, *more in itertools.compress(moves, taken):
            bits[name] = [have + extra for have, extra in zip(bits[name], more, strict=True)]
        highest = max(indicators.candidates)
        if max(itertools.chain(*bits.values())) > highest:
            continue
        if fixed.macs * 64 + sum(indicators.costs[name].macs * w * a for name, (w, a) in bits.items()) <= limit:
            return {name: tuple(of_layer) for name, of_layer in bits.items()}
    return None


@pytest.fixture
def three_layers(network):
    """Layers of 10, 20 and 5 MACs and a head of 64 BitOps: 204 BitOps at 2 bits, 379 at 3, 624 at 4."""
    steps = {name: {2: 0.3, 3: 0.2, 4: 0.1} for name in "abc"}
    return network(steps, macs={"a": 10, "b": 20, "c": 5, "head": 1}, fixed={"head": (8, 8)})


@pytest.fixture
def drawn(random_network):
    """A function from a seed to a network of three layers and a budget between its fewest and its most bits."""

    def draw(seed):
        rng = random.Random(seed)
        indicators = random_network(rng, layers=3, largest=rng.choice([9, 1000]))
        return indicators, rng.randint(uniform_bitops(indicators, 2, 2), uniform_bitops(indicators, 4, 4))

    return draw


# Uniform, filled


@pytest.mark.parametrize(
    ("limit", "bits"),
    [
        (204, (2, 2, 2)),
        (253, (2, 2, 3)),  # "a" would take 50 more, "c" takes 25
        (254, (3, 2, 2)),
        (279, (3, 2, 3)),  # "b" would take 100 more: it is passed over, and "c" still raised
        (353, (3, 2, 3)),
        (354, (3, 3, 2)),
        (378, (3, 3, 2)),
        (379, (3, 3, 3)),
        (623, (4, 4, 3)),
        (624, (4, 4, 4)),
        (10**9, (4, 4, 4)),
    ],
)
def test_the_largest_uniform_policy_is_filled_up_in_the_order_of_execution(three_layers, limit, bits):
    policy = uniform_filled(three_layers, within(three_layers, limit))
    assert bits_of(policy) == {name: (of_layer, of_layer) for name, of_layer in zip("abc", bits, strict=True)}
    assert policy.layers["head"] == LayerBits(8, 8)
    assert list(policy.layers) == list(three_layers.costs)
    assert (policy.model, policy.input_size) == ("toynet", 32)


def test_a_layer_is_raised_to_the_next_candidate_and_only_once(network):
    steps = {name: {2: 0.3, 5: 0.2, 8: 0.1} for name in ("tiny", "large")}
    indicators = network(steps, macs={"tiny": 1, "large": 1000})
    policy = uniform_filled(indicators, within(indicators, 4 * 1000 + 64))  # 8 bits in "tiny" would fit as well
    assert bits_of(policy) == {"tiny": (5, 5), "large": (2, 2)}


@pytest.mark.parametrize("seed", range(30))
def test_filled_uniform_policies_match_brute_force_and_nothing_more_can_be_raised(drawn, seed):
    indicators, limit = drawn(seed)
    policy = uniform_filled(indicators, within(indicators, limit))
    base = max(bits for bits in (2, 3, 4) if uniform_bitops(indicators, bits, bits) <= limit)
    moves = [(name, 1, 1) for name in indicators.weight_steps] if base < 4 else []
    assert bits_of(policy) == first_come_first_served(indicators, base, base, moves, limit)
    assert bitops_of(indicators, policy) <= limit
    for name, bits in policy.layers.items():
        if indicators.costs[name].fixed is None and bits.weight == base < 4:
            more = replace(policy, layers=dict(policy.layers) | {name: LayerBits(base + 1, base + 1)})
            assert bitops_of(indicators, more) > limit


# Uniform, weights and activations apart


def test_the_largest_pairs_are_filled_with_activations_first_by_hand(network):
    steps = {name: {2: 0.3, 3: 0.2, 4: 0.1} for name in "ab"}
    indicators = network(steps, macs={"a": 1, "b": 2})
    # BitOps of (w, a) are 3 x w x a, so within 27: (4, 2) 24, (3, 3) 27 and (2, 4) 24 are the largest pairs.
    found = uniform_splits(indicators, within(indicators, 27))
    assert sorted(map(tuple, (bits_of(policy).items() for policy in found))) == [
        # (2, 4): the activations are at their most, "a" takes 4 more for a third weight bit: 28, one too many.
        (("a", (2, 4)), ("b", (2, 4))),
        (("a", (3, 3)), ("b", (3, 3))),
        # (4, 2): a third activation bit takes 4 in "a" and 8 in "b", none is left.
        (("a", (4, 2)), ("b", (4, 2))),
    ]
    found = uniform_splits(indicators, within(indicators, 32))
    assert [bits_of(policy) for policy in found] == [
        {"a": (4, 3), "b": (4, 2)},  # 12 + 16
        {"a": (3, 4), "b": (3, 3)},  # 12 + 18
        {"a": (3, 4), "b": (2, 4)},  # 12 + 16
    ]


@pytest.mark.parametrize("seed", range(30))
def test_uniform_splits_are_the_maximal_pairs_of_all_filled_up(drawn, seed):
    indicators, limit = drawn(seed)
    pairs = [pair for pair in itertools.product((2, 3, 4), repeat=2) if uniform_bitops(indicators, *pair) <= limit]
    maximal = [(w, a) for w, a in pairs if (w + 1, a) not in pairs and (w, a + 1) not in pairs]
    found = uniform_splits(indicators, within(indicators, limit))
    assert all(bitops_of(indicators, policy) <= limit for policy in found)
    names = list(indicators.weight_steps)
    moves = [(name, 0, 1) for name in names], [(name, 1, 0) for name in names]
    expected = [
        first_come_first_served(
            indicators, w, a, [*(moves[0] if a < 4 else []), *(moves[1] if w < 4 else [])], limit
        )
        for w, a in maximal
    ]  # fmt: skip
    assert sorted(map(str, map(bits_of, found))) == sorted(map(str, expected))


def test_with_room_for_everything_the_only_split_is_the_most_bits(three_layers):
    (policy,) = uniform_splits(three_layers, within(three_layers, 624))
    assert set(bits_of(policy).values()) == {(4, 4)}


def test_equal_bits_are_taken_from_what_every_layer_learned(network):
    steps = {"a": {8: 0.1, 4: 0.2, 2: 0.3}, "b": {4: 0.1, 2: 0.2}}
    indicators = network(steps, macs=10)
    assert bits_of(uniform_filled(indicators, lambda _: True)) == {"a": (8, 8), "b": (4, 4)}
    (policy,) = uniform_splits(indicators, lambda _: True)
    assert bits_of(policy) == {"a": (8, 8), "b": (4, 4)}


@pytest.mark.parametrize("builder", [uniform_filled, uniform_splits])
def test_layers_without_a_bit_width_in_common_have_no_uniform_policy(network, builder):
    indicators = network({"a": {8: 0.1}, "b": {4: 0.1}})
    message = "^the layers learned no bit-width in common, so no policy has equal bits; use random_policy$"
    with pytest.raises(PolicyError, match=message):
        builder(indicators, lambda _: True)


# Random


@pytest.mark.parametrize("seed", range(30))
def test_a_random_policy_fits_and_nothing_more_can_be_raised(drawn, seed):
    indicators, limit = drawn(seed)
    policy = random_policy(indicators, within(indicators, limit), seed)
    assert bitops_of(indicators, policy) <= limit
    assert (policy.model, policy.input_size, list(policy.layers)) == ("toynet", 32, list(indicators.costs))
    assert policy.layers["head"] == LayerBits(8, 8)
    for name, (weight, activation) in bits_of(policy).items():
        assert {weight, activation} <= {2, 3, 4}
        for bits in ((weight + 1, activation), (weight, activation + 1)):
            if max(bits) <= 4:
                more = replace(policy, layers=dict(policy.layers) | {name: LayerBits(*bits)})
                assert bitops_of(indicators, more) > limit


def test_one_seed_gives_one_policy_and_other_seeds_give_others(random_network):
    indicators = random_network(random.Random(0), layers=8)
    fits = within(indicators, uniform_bitops(indicators, 3, 3))
    random.seed(1)
    first = [random_policy(indicators, fits, seed) for seed in range(20)]
    random.seed(2)
    assert [random_policy(indicators, fits, seed) for seed in range(20)] == first
    assert len({policy.digest() for policy in first}) == 20


def test_a_random_policy_reaches_both_ends_of_the_range(three_layers):
    for seed in range(5):
        assert set(bits_of(random_policy(three_layers, within(three_layers, 204), seed)).values()) == {(2, 2)}
        assert set(bits_of(random_policy(three_layers, within(three_layers, 624), seed)).values()) == {(4, 4)}


def test_outliers_are_never_drawn_lowered_or_raised_to(network):
    steps = {name: {5: 0.1, 4: 0.3, 3: 0.2, 2: 0.4} for name in "abc"}  # 3 bits learned less than 4 did
    indicators = network(steps, macs={"a": 10, "b": 20, "c": 5})
    rng = random.Random(0)
    for seed in range(100):
        limit = rng.randint(4 * 35, 25 * 35)
        found = bits_of(random_policy(indicators, within(indicators, limit), seed))
        assert set(itertools.chain(*found.values())) <= {2, 4, 5}


def test_a_budget_that_only_an_outlier_would_fit_is_too_small(network):
    indicators = network({"a": {4: 0.3, 2: 0.2}}, macs=1)
    assert bits_of(random_policy(indicators, within(indicators, 16), 0)) == {"a": (4, 4)}
    with pytest.raises(PolicyError, match=NONE_FITS):
        random_policy(indicators, within(indicators, 15), 0)


# Budgets


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_a_budget_below_the_fewest_bits_is_refused_and_that_of_the_fewest_is_met(three_layers, build):
    with pytest.raises(PolicyError, match=NONE_FITS):
        build(three_layers, within(three_layers, 203))
    found = build(three_layers, within(three_layers, 204))
    (policy,) = found if isinstance(found, list) else [found]
    assert set(bits_of(policy).values()) == {(2, 2)}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
@pytest.mark.parametrize("seed", range(10))
def test_any_kind_of_budget_is_kept(drawn, build, seed):
    indicators, _ = drawn(seed)
    rng = random.Random(f"budget {seed}")
    weights = {name: cost.weights for name, cost in indicators.costs.items()}
    limit = rng.uniform(2.2, 3.8) * (sum(weights.values()) - weights["head"])

    def fits(policy):
        return sum(weights[name] * weight for name, (weight, _) in bits_of(policy).items()) <= limit

    found = build(indicators, fits)
    assert all(map(fits, found if isinstance(found, list) else [found]))


# Reversed importance


def test_the_first_layer_of_the_ranking_gets_the_steps_of_the_last_by_hand(network):
    # The largest weight steps alone, and the smallest activation steps alone, would give another order.
    weights = {"a": {2: 0.4, 4: 0.3}, "b": {2: 0.9, 4: 0.3}, "c": {2: 0.5, 4: 0.1}}  # sums 0.7, 1.2, 0.6
    activations = {"a": {2: 0.5, 4: 0.05}, "b": {2: 0.15, 4: 0.1}, "c": {2: 0.3, 4: 0.1}}  # sums 0.55, 0.25, 0.4
    indicators = network(weights, activations, fixed={"head": (8, 8)}, alpha=1.5)
    turned = reversed_importance(indicators)
    assert turned.weight_steps == {"a": weights["a"], "b": weights["c"], "c": weights["b"]}
    assert turned.activation_steps == {"a": activations["b"], "b": activations["a"], "c": activations["c"]}
    assert turned.costs == indicators.costs
    assert (turned.alpha, turned.model, turned.provenance) == (1.5, "toynet", indicators.provenance)
    assert list(turned.weight_steps) == list("abc")


@pytest.mark.parametrize("seed", range(10))
def test_turning_round_twice_gives_the_original(random_network, seed):
    rng = random.Random(seed)
    indicators = random_network(rng, layers=rng.randint(1, 7))
    turned = reversed_importance(indicators)
    assert reversed_importance(turned) == indicators
    for kind in ("weight", "activation"):
        before, after = (
            sorted(sorted(of_layer.items()) for of_layer in getattr(found, f"{kind}_steps").values())
            for found in (indicators, turned)
        )
        assert before == after


def test_layers_that_learned_other_bit_widths_swap_only_among_themselves(network):
    weights = {"a": {2: 0.1}, "b": {2: 0.5, 4: 0.1}, "c": {2: 0.9}, "d": {2: 0.2, 4: 0.1}, "e": {2: 9.0, 8: 0.1}}
    activations = {name: {2: 0.1 * place} for place, name in enumerate("abcde", start=1)}
    turned = reversed_importance(network(weights, activations))
    assert turned.weight_steps == {
        "a": weights["c"], "b": weights["d"], "c": weights["a"], "d": weights["b"], "e": weights["e"]
    }  # fmt: skip
    assert turned.activation_steps == {one: activations[other] for one, other in zip("abcde", "edcba", strict=True)}
