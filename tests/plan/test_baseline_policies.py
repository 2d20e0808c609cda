"""The policies that a search is compared with: each against brute force or a table solved by hand."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from limpq_hub.errors import BudgetError, InfeasibleBudgetError, PolicyError
from limpq_hub.plan.baseline_policies import (
    policies_to_compare,
    random_policy,
    reversed_importance,
    uniform_filled,
    uniform_largest,
    uniform_splits,
)
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.plan.policy import Policy

NO_EQUAL_BITS_FIT = "^no policy of equal bits fits this budget; raise the budget$"
FEWEST_DO_NOT_FIT = "^even the fewest bits are above this budget; raise the budget$"
BUILDERS = {
    "uniform_largest": uniform_largest,
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
    for made in itertools.product((True, False), repeat=len(moves)):
        bits = {name: [weight, activation] for name in searched}
        for name, *more in itertools.compress(moves, made):
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


# Uniform


@pytest.mark.parametrize(("limit", "bits"), [(204, 2), (378, 2), (379, 3), (623, 3), (624, 4), (10**9, 4)])
def test_the_largest_uniform_policy_is_the_one_of_the_most_bits_that_fits(three_layers, limit, bits):
    policy = uniform_largest(three_layers, within(three_layers, limit))
    assert policy == Policy.uniform("toynet", three_layers.costs, bits, input_size=32)


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
    policies = uniform_splits(indicators, within(indicators, 27))
    assert sorted(map(tuple, (bits_of(policy).items() for policy in policies))) == [
        # (2, 4): the activations are at their most, "a" takes 4 more for a third weight bit: 28, one too many.
        (("a", (2, 4)), ("b", (2, 4))),
        (("a", (3, 3)), ("b", (3, 3))),
        # (4, 2): a third activation bit takes 4 in "a" and 8 in "b", none is left.
        (("a", (4, 2)), ("b", (4, 2))),
    ]
    policies = uniform_splits(indicators, within(indicators, 32))
    assert [bits_of(policy) for policy in policies] == [
        {"a": (4, 3), "b": (4, 2)},  # 12 + 16
        {"a": (3, 4), "b": (3, 3)},  # 12 + 18
        {"a": (3, 4), "b": (2, 4)},  # 12 + 16
    ]


@pytest.mark.parametrize("seed", range(30))
def test_uniform_splits_are_the_maximal_pairs_of_all_filled_up(drawn, seed):
    indicators, limit = drawn(seed)
    pairs = [pair for pair in itertools.product((2, 3, 4), repeat=2) if uniform_bitops(indicators, *pair) <= limit]
    maximal = [(w, a) for w, a in pairs if (w + 1, a) not in pairs and (w, a + 1) not in pairs]
    policies = uniform_splits(indicators, within(indicators, limit))
    assert all(bitops_of(indicators, policy) <= limit for policy in policies)
    names = list(indicators.weight_steps)
    moves = [(name, 0, 1) for name in names], [(name, 1, 0) for name in names]
    expected = [
        first_come_first_served(
            indicators, w, a, [*(moves[0] if a < 4 else []), *(moves[1] if w < 4 else [])], limit
        )
        for w, a in maximal
    ]  # fmt: skip
    assert sorted(map(str, map(bits_of, policies))) == sorted(map(str, expected))


def test_with_room_for_everything_the_only_split_is_the_most_bits(three_layers):
    (policy,) = uniform_splits(three_layers, within(three_layers, 624))
    assert set(bits_of(policy).values()) == {(4, 4)}


def test_equal_bits_are_taken_from_what_every_layer_learned(network):
    steps = {"a": {8: 0.1, 4: 0.2, 2: 0.3}, "b": {4: 0.1, 2: 0.2}}
    indicators = network(steps, macs=10)
    assert bits_of(uniform_filled(indicators, lambda _: True)) == {"a": (8, 8), "b": (4, 4)}
    (policy,) = uniform_splits(indicators, lambda _: True)
    assert bits_of(policy) == {"a": (8, 8), "b": (4, 4)}


@pytest.mark.parametrize("builder", [uniform_largest, uniform_filled, uniform_splits])
def test_layers_without_a_bit_width_in_common_have_no_uniform_policy(network, builder):
    indicators = network({"a": {8: 0.1}, "b": {4: 0.1}})
    message = "^the layers learned no bit-width in common, so no policy has equal bits; compare with a random one$"
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
        bits = bits_of(random_policy(indicators, within(indicators, limit), seed))
        assert set(itertools.chain(*bits.values())) <= {2, 4, 5}


def test_a_budget_that_only_an_outlier_would_fit_is_too_small(network):
    indicators = network({"a": {4: 0.3, 2: 0.2}}, macs=1)
    assert bits_of(random_policy(indicators, within(indicators, 16), 0)) == {"a": (4, 4)}
    with pytest.raises(PolicyError, match=FEWEST_DO_NOT_FIT):
        random_policy(indicators, within(indicators, 15), 0)


def test_bits_that_a_search_holds_near_are_drawn_and_lowered_apart(network):
    near = replace(network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.4, 8: 0.2}}, macs=1), apart=0)
    assert near.bitops_range() == (16, 16)
    assert bits_of(random_policy(near, within(near, 8), 0)) == {"a": (2, 4)}
    with pytest.raises(PolicyError, match=FEWEST_DO_NOT_FIT):
        random_policy(near, within(near, 7), 0)


# Budgets


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_a_budget_below_the_fewest_bits_is_refused_and_that_of_the_fewest_is_met(three_layers, build):
    refused = FEWEST_DO_NOT_FIT if build is BUILDERS["random_policy"] else NO_EQUAL_BITS_FIT
    with pytest.raises(PolicyError, match=refused):
        build(three_layers, within(three_layers, 203))
    built = build(three_layers, within(three_layers, 204))
    (policy,) = built if isinstance(built, list) else [built]
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

    built = build(indicators, fits)
    assert all(map(fits, built if isinstance(built, list) else [built]))


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
            sorted(sorted(of_layer.items()) for of_layer in getattr(either, f"{kind}_steps").values())
            for either in (indicators, turned)
        )
        assert before == after


def test_layers_that_learned_other_bit_widths_swap_only_among_themselves(network):
    weights = {"a": {2: 0.1}, "b": {2: 0.5, 4: 0.1}, "c": {2: 0.9}, "d": {2: 0.2, 4: 0.1}, "e": {2: 9.0, 8: 0.1}}
    activations = {name: {2: 0.1 * place} for place, name in enumerate("abcde", start=1)}
    turned = reversed_importance(network(weights, activations))
    assert turned.weight_steps == {
        "a": weights["c"], "b": weights["d"], "c": weights["a"], "d": weights["b"], "e": weights["e"]
    }  # fmt: skip
    assert turned.activation_steps == {
        name: activations[opposite] for name, opposite in zip("abcde", "edcba", strict=True)
    }


# All of them within one budget

NAMES = ["uniform", "uniform filled", "random", "reversed"]
KINDS = [
    *("bitops", "size", "compression", "activation_memory", "latency", "bitops size", "size latency"),
    *("bitops activation_memory", "compression activation_memory latency", "bitops size latency"),
]


@pytest.fixture
def limited(random_network):
    """A function from a seed and the names of constraints to a network, a budget, and an exact recount of it."""

    def draw(seed, kinds, counting="exact"):
        rng = random.Random(f"limited {seed}")
        indicators = random_network(rng, layers=4, largest=rng.choice([9, 1000]))
        costs = {name: replace(cost, macs_limpq=rng.randint(1, 1000)) for name, cost in indicators.costs.items()}
        indicators = replace(indicators, costs=costs)
        table = {
            name: {pair: pair[0] * pair[1] / 10 for pair in itertools.product((2, 3, 4), repeat=2)}
            for name in ("layer1", "layer3")
        }

        def count(policy):
            of = policy.layers
            macs = {name: cost.macs if counting == "exact" else cost.macs_limpq for name, cost in costs.items()}
            size = Fraction(sum(cost.weights * of[name].weight for name, cost in costs.items()), 8)
            return {
                "bitops": sum(macs[name] * of[name].weight * of[name].activation for name in costs),
                "size": size,
                # Turned over, so that less is better here too.
                "compression": size / sum(4 * cost.weights for cost in costs.values()),
                "activation_memory": max(
                    math.ceil(Fraction(costs[name].inputs * of[name].activation, 8)) for name in of
                ),
                "latency": sum(Fraction(of[name].weight * of[name].activation, 10) for name in table),
            }

        low, high = (count(Policy.uniform("toynet", costs, bits)) for bits in (2, 4))
        share = Fraction(rng.randint(0, 100), 100)
        limits = {kind: low[kind] + (high[kind] - low[kind]) * share for kind in kinds.split()}
        arguments = {kind: math.ceil(limit) for kind, limit in limits.items() if kind not in ("compression", "latency")}
        limits |= arguments
        if "compression" in limits:
            arguments["compression"] = float(1 / limits["compression"]) * (1 - 1e-12)
            limits["compression"] = 1 / Fraction(repr(arguments["compression"]))
        if "latency" in limits:
            arguments["latency"] = (table, f"{float(limits['latency']):.3f}")
            limits["latency"] = Fraction(arguments["latency"][1])
        return indicators, arguments, lambda policy: all(count(policy)[kind] <= limit for kind, limit in limits.items())

    return draw


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_every_policy_to_compare_is_within_the_budget_recounted_exactly(limited, seed, kinds):
    counting = ("exact", "limpq")[seed % 2]
    indicators, arguments, fits = limited(seed, kinds, counting)
    weights = {name: np.random.default_rng(seed).normal(size=20) for name in indicators.costs}
    policies = policies_to_compare(indicators, Budget(**arguments), seed=seed, counting=counting, weights=weights)
    assert list(policies) == [*NAMES, "sensitivity"]
    for name, policy in policies.items():
        assert fits(policy), name
        assert (policy.model, policy.input_size, list(policy.layers)) == ("toynet", 32, list(indicators.costs)), name
        assert policy.layers["head"] == LayerBits(8, 8), name


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_each_policy_to_compare_is_the_one_of_its_name(limited, seed, kinds):
    indicators, arguments, fits = limited(seed, kinds)
    policies = policies_to_compare(indicators, Budget(**arguments), seed=seed)
    assert list(policies) == NAMES
    uniform = [Policy.uniform("toynet", indicators.costs, bits, input_size=32) for bits in (4, 3, 2)]
    assert policies["uniform"] == next(filter(fits, uniform))
    assert policies["uniform filled"] == uniform_filled(indicators, fits)
    assert policies["random"] == random_policy(indicators, fits, seed)


@pytest.mark.parametrize("alpha", [None, 0.1])
@pytest.mark.parametrize("seed", range(10))
def test_the_reversed_policy_is_the_best_of_all_in_reversed_importance(drawn, seed, alpha):
    indicators, limit = drawn(seed)
    turned = reversed_importance(indicators)
    names, factor = list(indicators.weight_steps), indicators.alpha if alpha is None else alpha
    pairs = [LayerBits(*pair) for pair in itertools.product((2, 3, 4), repeat=2)]
    fits, best = within(indicators, limit), math.inf
    for bits in itertools.product(pairs, repeat=len(names)):
        layers = dict(zip(names, bits, strict=True)) | {"head": LayerBits(8, 8)}
        if fits(Policy("toynet", layers)):
            best = min(best, sum(turned.importance(name, layers[name], factor) for name in names))
    policy = policies_to_compare(indicators, Budget(bitops=limit), alpha=alpha)["reversed"]
    # Sums of the same six numbers, in another order.
    assert sum(turned.importance(name, policy.layers[name], factor) for name in names) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_the_sensitivity_policy_has_the_least_rounding_error_of_all_within_the_budget(drawn, seed):
    indicators, limit = drawn(seed)
    names, rng = list(indicators.weight_steps), np.random.default_rng(seed)
    weights = {name: rng.standard_t(3, size=(7, 6)) * rng.uniform(0.1, 9) for name in names}
    policy = policies_to_compare(indicators, Budget(bitops=limit), weights=weights)["sensitivity"]
    uniform = max(bits for bits in (2, 3, 4) if uniform_bitops(indicators, bits, bits) <= limit)
    errors = np.array([[relative_error(weights[name], bits) for bits in (2, 3, 4)] for name in names])
    macs = np.array([indicators.costs[name].macs for name in names])
    every = np.array(list(itertools.product((0, 1, 2), repeat=len(names))))  # places of the weight bits 2, 3, 4
    bitops = ((every + 2) * macs).sum(1) * uniform + 64 * indicators.costs["head"].macs
    total = errors[np.arange(len(names)), every].sum(1)
    chosen = [(2, 3, 4).index(policy.layers[name].weight) for name in names]
    assert {policy.layers[name].activation for name in names} == {uniform}
    # The errors are the same to the last digits of a sum of 42 squares.
    assert errors[range(len(names)), chosen].sum() == pytest.approx(total[bitops <= limit].min(), rel=1e-9)


def relative_error(weight, bits):
    """Return |w - Q(w)|^2 / |w|^2, Q the nearest of the levels that joint training starts from."""
    reach = max(abs(weight.mean() - 3 * weight.std()), abs(weight.mean() + 3 * weight.std()))
    levels = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) * (reach / 2 ** (bits - 1))
    nearest = levels[np.abs(weight.ravel()[:, None] - levels).argmin(1)]
    return np.linalg.norm(weight.ravel() - nearest) ** 2 / np.linalg.norm(weight) ** 2


def test_the_sensitivity_policy_by_hand(network):
    # At 2 activation bits, two more weight bits take 400 BitOps in "a" and 40 in "b".
    steps = {2: 0.2, 4: 0.1}
    indicators = network({"a": steps, "b": steps}, macs={"a": 100, "b": 10})
    # Their relative errors are 0.25 and 0.0156 at 2 and 4 bits, and 0.125 and 0.0078.
    weights = {"a": np.array([-1.0, 1.0]), "b": np.array([1.0, 3.0])}
    for limit, a, b in ((440, 2, 2), (479, 2, 2), (480, 2, 4), (839, 2, 4), (840, 4, 2), (879, 4, 2), (880, 4, 4)):
        policy = policies_to_compare(indicators, Budget(bitops=limit), weights=weights)["sensitivity"]
        assert bits_of(policy) == {"a": (a, 2), "b": (b, 2)}
    policy = policies_to_compare(indicators, Budget(bitops=1760), weights=weights)["sensitivity"]
    assert bits_of(policy) == {"a": (4, 4), "b": (4, 4)}


def test_another_seed_changes_the_random_policy_alone(random_network):
    indicators = random_network(random.Random(0), layers=8)
    by_seed = [policies_to_compare(indicators, Budget(bitops="w3a3"), seed=seed) for seed in (0, 0, 1)]
    assert by_seed[0] == by_seed[1]
    assert {name for name in NAMES if by_seed[0][name] != by_seed[2][name]} == {"random"}
    assert policies_to_compare(indicators, Budget(bitops="w3a3")) == by_seed[0]


def test_the_uniform_policy_may_hold_outliers_and_the_random_one_does_not(network):
    steps = {4: 0.2, 3: 0.1, 2: 0.3}  # 3 bits learned a smaller step than 4
    indicators = network({"a": steps, "b": steps}, macs=10)
    policies = policies_to_compare(indicators, Budget(bitops="w3a3"))
    assert set(bits_of(policies["uniform"]).values()) == {(3, 3)}
    assert 3 not in itertools.chain(*bits_of(policies["random"]).values(), *bits_of(policies["reversed"]).values())


def test_a_random_policy_may_have_bits_that_are_an_outlier_only_once_others_are_left_out(network):
    steps = {4: 0.8, 3: 0.5, 2: 0.6}  # 3 bits are an outlier beside 4, and 2 would be beside 4, but not beside 3
    indicators = network({"a": steps}, {"a": {4: 0.3}}, macs=10)
    policies = policies_to_compare(indicators, Budget(bitops=80))
    assert bits_of(policies["random"]) == {"a": (2, 4)} == bits_of(search(indicators, Budget(bitops=80)).policy)


def test_where_only_uneven_bits_fit_there_is_no_uniform_policy_and_nothing_that_starts_from_one(network):
    indicators = network({"a": {2: 0.2, 4: 0.1}})
    slow_where_equal = {"a": {(2, 2): 9, (4, 4): 9, (2, 4): 1, (4, 2): 1}}
    policies = policies_to_compare(indicators, Budget(latency=(slow_where_equal, 5)), weights={"a": np.arange(9.0)})
    assert list(policies) == ["reversed"]
    assert bits_of(policies["reversed"]) in ({"a": (2, 4)}, {"a": (4, 2)})


@pytest.mark.parametrize("build", [uniform_largest, uniform_filled, uniform_splits])
def test_where_only_other_bits_in_each_layer_fit_no_policy_of_equal_bits_is_said_to(network, build):
    indicators = network({"a": {2: 0.4, 4: 0.2}, "b": {4: 0.2, 8: 0.1}}, macs=1)
    limit = 2 * 2 + 4 * 4
    assert bits_of(search(indicators, Budget(bitops=limit)).policy) == {"a": (2, 2), "b": (4, 4)}
    with pytest.raises(PolicyError, match=NO_EQUAL_BITS_FIT):
        build(indicators, within(indicators, limit))


def test_a_random_policy_is_left_out_where_fewer_bits_take_longer(network):
    near = replace(network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.4, 8: 0.2}}), apart=0)
    only_one_is_fast = {"a": {(2, 4): 5, (2, 8): 5, (4, 4): 1, (4, 8): 5}}
    policies = policies_to_compare(near, Budget(latency=(only_one_is_fast, 2)), time_limit_s=10)
    assert list(policies) == ["uniform", "uniform filled", "reversed"]


def test_layers_without_a_bit_width_in_common_are_compared_with_what_there_is(network):
    indicators = network({"a": {8: 0.1, 5: 0.2}, "b": {4: 0.1, 2: 0.2}}, macs=1)
    weights = {name: np.arange(9.0) for name in "ab"}
    policies = policies_to_compare(indicators, Budget(bitops=25 + 16), weights=weights)
    assert list(policies) == ["random", "reversed"]
    assert bits_of(policies["random"]) == {"a": (5, 5), "b": (4, 4)}  # 40 would be 8 times 5 alone
    assert all(bitops_of(indicators, policy) <= 41 for policy in policies.values())


def test_a_network_without_a_choice_is_compared_with_itself(network):
    indicators = network({}, fixed={"head": (8, 8)})
    policies = policies_to_compare(indicators, Budget(bitops="1G"), weights={})
    assert {policy.digest() for policy in policies.values()} == {indicators.fewest_bits().digest()}


def test_a_memory_that_no_policy_meets_is_refused_with_the_least_that_one_does(three_layers):
    with pytest.raises(InfeasibleBudgetError, match="^activation_memory=") as caught:
        policies_to_compare(three_layers, Budget(activation_memory=1))
    for policy in policies_to_compare(three_layers, Budget(activation_memory=caught.value.minimum)).values():
        assert {activation for _, activation in bits_of(policy).values()} <= {2, 3, 4}


@pytest.mark.parametrize(("argument", "value"), [("alpha", -1), ("alpha", math.nan), ("counting", "paper")])
def test_an_alpha_or_a_counting_that_cannot_be_is_refused_as_a_search_refuses_it(three_layers, argument, value):
    with pytest.raises(BudgetError, match=f"^{argument}="):
        policies_to_compare(three_layers, Budget(bitops="1G"), **{argument: value})


@pytest.mark.parametrize("limits", [{"bitops": 203}, {"size": 1}, {"compression": 17}], ids=str)
def test_a_budget_that_no_policy_meets_is_refused_with_the_least_that_one_does(three_layers, limits):
    with pytest.raises(InfeasibleBudgetError) as caught:
        policies_to_compare(three_layers, Budget(**limits))
    (constraint,) = limits
    policies_to_compare(three_layers, Budget(**{constraint: caught.value.minimum}))


@pytest.fixture
def outlier_in_the_small_layer(network):
    """A layer of 100 MACs, and one of a single MAC whose 2 weight bits are an outlier: reversed, they change places."""
    steps = {2: 0.3, 4: 0.1}
    return network(
        {"large": steps, "small": {2: 0.05, 4: 0.06}},
        {"large": steps, "small": steps},
        macs={"large": 100, "small": 1},
    )


def test_the_least_that_is_stated_is_that_of_the_search_not_of_the_reversed_one(outlier_in_the_small_layer):
    for function in (search, policies_to_compare):
        with pytest.raises(InfeasibleBudgetError) as caught:
            function(outlier_in_the_small_layer, Budget(bitops=100))
        assert caught.value.minimum == 4 * 100 + 8 * 1  # 808 where the large layer is the one that needs 4 bits


def test_a_budget_that_a_search_meets_can_be_compared_within(outlier_in_the_small_layer):
    budget = Budget(bitops=4 * 100 + 8 * 1)
    assert bits_of(search(outlier_in_the_small_layer, budget).policy)["large"] == (2, 2)
    policies = policies_to_compare(outlier_in_the_small_layer, budget)
    assert all(bitops_of(outlier_in_the_small_layer, policy) <= 408 for policy in policies.values())


def test_a_latency_table_that_is_enough_for_a_search_is_enough_to_compare(network):
    indicators = network({"a": {2: 0.05, 4: 0.1}}, {"a": {2: 0.3, 4: 0.1}})  # 2 weight bits are an outlier
    budget = Budget(latency=({"a": {(4, 2): 1, (4, 4): 2}}, 2))
    assert bits_of(search(indicators, budget).policy) == {"a": (4, 4)}
    policies_to_compare(indicators, budget)
