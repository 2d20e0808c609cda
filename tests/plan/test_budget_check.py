"""Whether a policy meets a budget, beside a recount of what the policy takes."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest

from limpq_hub.errors import BudgetError, InfeasibleBudgetError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.budget_check import fits_of
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.constraints.layer_table import LayerTableKind
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy

ENOUGH = Budget(bitops="1T")
CONSTRAINTS = [kind.name for kind in KINDS]
TABLES = [kind.name for kind in KINDS if isinstance(kind, LayerTableKind)]


def limited(constraint, value, table):
    return Budget(**{constraint: (table, value) if constraint in TABLES else value})


def costs_of(indicators, policy, counting, table):
    """Return what a policy costs by the name of the constraint, in exact integers and as the README counts it."""
    of_layer = [(cost, policy.layers[name]) for name, cost in indicators.costs.items()]
    macs = [cost.macs if counting == "exact" else cost.macs_limpq for cost, _ in of_layer]
    return {
        "bitops": sum(count * bits.weight * bits.activation for count, (_, bits) in zip(macs, of_layer, strict=True)),
        "size": sum(cost.weights * bits.weight for cost, bits in of_layer) / 8,
        "activation_memory": max(-(-cost.inputs * bits.activation // 8) for cost, bits in of_layer),
    } | dict.fromkeys(
        TABLES,
        sum(table[name][bits.weight, bits.activation] for name, bits in policy.layers.items() if name in table),
    )


@pytest.fixture
def small(network):
    """A function that draws three layers and a head, small enough that whole numbers meet limits exactly."""

    def draw(seed):
        rng = random.Random(f"small {seed}")
        names = ["a", "b", "c"]

        def counts(most):
            return {name: rng.randint(1, most) for name in [*names, "head"]}

        return network(
            {name: {bits: rng.uniform(0.1, 1) for bits in (2, 3, 4)} for name in names},  # outliers among them
            {name: {bits: rng.uniform(0.1, 1) for bits in (2, 4)} for name in names},
            macs=counts(20),
            macs_limpq=counts(20),
            weights=counts(9),
            inputs=counts(100),
            fixed={"head": (8, 8)},
        )

    return draw


def policies_of(indicators):
    names = list(indicators.weight_steps)
    pairs = [LayerBits(*pair) for pair in itertools.product((2, 3, 4), (2, 4))]
    for bits in itertools.product(pairs, repeat=len(names)):
        yield Policy("toynet", dict(zip(names, bits, strict=True)) | {"head": LayerBits(8, 8)})


@pytest.mark.parametrize("counting", ["exact", "limpq"])
@pytest.mark.parametrize("seed", range(6))
def test_a_policy_fits_where_it_meets_every_limit_and_only_there_outliers_included(small, seed, counting):
    indicators, rng = small(seed), random.Random(seed)
    table = {"b": {(w, a): rng.randint(0, 5) for w in (2, 3, 4) for a in (2, 4)}}
    recounts = [(policy, costs_of(indicators, policy, counting, table)) for policy in policies_of(indicators)]
    assert len(recounts) == 6**3
    float_bytes = 4 * sum(cost.weights for cost in indicators.costs.values())
    for kind in CONSTRAINTS:
        # The costs of policies themselves, so that some policies meet the limit exactly.
        _, drawn = rng.choice(recounts)
        limit = Fraction(float_bytes) / Fraction(drawn["size"]) if kind == "compression" else drawn[kind] or 1
        if kind == "size":
            limit = -(-int(limit * 8) // 8)
        fits = fits_of(indicators, limited(kind, limit, table), counting)
        for policy, costs in recounts:
            meets = Fraction(costs["size"]) * limit <= float_bytes if kind == "compression" else costs[kind] <= limit
            assert fits(policy) == meets, (kind, limit, costs)


@pytest.mark.parametrize("seed", range(6))
def test_several_limits_hold_at_once(small, seed):
    indicators, rng = small(seed), random.Random(seed)
    table = {name: {(w, a): w + a for w in (2, 3, 4) for a in (2, 4)} for name in "ac"}
    recounts = [(policy, costs_of(indicators, policy, "exact", table)) for policy in policies_of(indicators)]
    limits = {kind: rng.choice(recounts)[1][kind] for kind in ("bitops", "activation_memory", "latency")}
    budget = Budget(
        bitops=limits["bitops"], activation_memory=limits["activation_memory"], latency=(table, limits["latency"])
    )
    fits = fits_of(indicators, budget)
    for policy, costs in recounts:
        assert fits(policy) == all(costs[kind] <= limit for kind, limit in limits.items())


@pytest.mark.parametrize("counting", ["exact", "limpq"])
def test_a_uniform_policy_fits_the_budget_that_is_named_after_it_and_nothing_dearer_does(small, counting):
    indicators = small(0)
    fits = fits_of(indicators, Budget(bitops="w3a2"), counting)
    uniform = Policy.uniform("toynet", indicators.costs, 3, 2)
    assert fits(uniform)
    for policy in policies_of(indicators):
        bitops = [costs_of(indicators, each, counting, {})["bitops"] for each in (policy, uniform)]
        assert fits(policy) == (bitops[0] <= bitops[1])


@pytest.mark.parametrize("bits", [(3, 3), (2, 3), (5, 4), (8, 8)])
def test_bits_that_were_not_learned_never_fit(small, bits):
    indicators = small(0)
    fits = fits_of(indicators, ENOUGH)
    policy = Policy.uniform("toynet", indicators.costs, 2)
    assert fits(policy)
    assert not fits(Policy("toynet", dict(policy.layers) | {"b": LayerBits(*bits)}))
    assert not fits(Policy("toynet", dict(policy.layers) | {"head": LayerBits(4, 4)}))


def test_a_memory_that_no_layer_input_fits_is_an_infeasible_budget_already(network):
    indicators = network({"a": {2: 0.2, 4: 0.1}}, inputs={"a": 65, "head": 3}, fixed={"head": (8, 8)})
    at_two, at_four = (Policy.uniform("toynet", indicators.costs, bits) for bits in (2, 4))
    fits = fits_of(indicators, Budget(activation_memory=17))  # 65 activations of 2 bits, rounded up
    assert (fits(at_two), fits(at_four)) == (True, False)
    message = r'^activation_memory="16B" cannot be met: the largest layer input of toynet at 32x32 takes at least 17B; '
    with pytest.raises(InfeasibleBudgetError, match=message):
        fits_of(indicators, Budget(activation_memory=16))


def test_bits_that_a_table_lacks_do_not_fit(network):
    indicators = network({name: {2: 0.2, 4: 0.1} for name in "ab"})
    fits = fits_of(indicators, Budget(latency=({"a": {(2, 2): 1, (4, 2): 1, (4, 4): 1}}, 1)))
    bits = {"fits": [(2, 2), (4, 2), (4, 4)], "lacks": [(2, 4)]}
    for of_a in bits["fits"] + bits["lacks"]:
        policy = Policy("toynet", {"a": LayerBits(*of_a), "b": LayerBits(2, 4)})  # no table names "b": it takes nothing
        assert fits(policy) == (of_a in bits["fits"])


def test_nothing_fits_a_table_that_lacks_all_bits_of_a_layer(network):
    indicators = network({"a": {2: 0.2, 4: 0.1}})
    fits = fits_of(indicators, Budget(latency=({"a": {(8, 8): 0.1 + 0.2}}, 1)))
    assert not any(fits(Policy.uniform("toynet", indicators.costs, bits)) for bits in (2, 4, 8))


def test_a_table_that_names_a_layer_of_another_network_is_refused(network):
    message = r"^the latency table names layer 'z', which the network does not have; remove it, or check its name$"
    with pytest.raises(BudgetError, match=message):
        fits_of(network({"a": {2: 0.2, 4: 0.1}}), Budget(latency=({"z": {(2, 2): 1}}, 1)))
