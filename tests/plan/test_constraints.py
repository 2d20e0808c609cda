"""What limits a search: patterns over layers, memory and latency, and errors whose advice is true."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from limpq_hub.errors import BudgetError, InfeasibleBudgetError, PolicyError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.budget_check import fits_of
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.constraints.layer_table import LayerTableKind
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.plan.policy import Policy

ENOUGH = Budget(bitops="1T")
CONSTRAINTS = [kind.name for kind in KINDS]
TABLES = [kind.name for kind in KINDS if isinstance(kind, LayerTableKind)]


@pytest.fixture
def three(network):
    """Return three equal layers, two of one block, and a fixed head."""
    steps = {name: {2: 0.4, 3: 0.3, 4: 0.2} for name in ("block.conv1", "block.conv2", "down")}
    return network(steps, fixed={"head": (8, 8)})


def bits_of(plan):
    return {name: (bits.weight, bits.activation) for name, bits in plan.policy.layers.items()}


def limited(constraint, value, table):
    return Budget(**{constraint: (table, value) if constraint in TABLES else value})


def impossible(constraint):
    """Return a limit that no policy meets."""
    return 10**6 if constraint == "compression" else 1e-9 if constraint in TABLES else 1


def layer_table(rng, indicators, scale):
    """Return a time for every option of every searched layer, of about `scale` each."""
    return {
        name: {(weight, activation): scale * rng.uniform(1, 2) for weight in steps for activation in steps}
        for name, steps in indicators.weight_steps.items()
    }


def test_pinned_layers_have_the_bits_of_the_pin_and_the_others_are_searched(three):
    plan = search(three, ENOUGH, pin={"block.*": (2, 3), "down": (3, 2)})
    assert bits_of(plan) == {"block.conv1": (2, 3), "block.conv2": (2, 3), "down": (3, 2), "head": (8, 8)}
    assert bits_of(search(three, ENOUGH, pin={"*2": (2, 2)}))["block.conv1"] == (4, 4)


def test_a_pin_makes_the_others_pay(three):
    assert bits_of(search(three, Budget(bitops=64_000 + 24_000), pin={"down": (4, 4)})) == {
        "block.conv1": (2, 2), "block.conv2": (2, 2), "down": (4, 4), "head": (8, 8),
    }  # fmt: skip


def test_a_search_with_every_layer_pinned_has_nothing_to_choose(three):
    plan = search(three, Budget(bitops=64_000 + 3 * 6_000), pin={"*": (2, 3)})
    assert set(bits_of(plan).values()) == {(2, 3), (8, 8)}
    with pytest.raises(InfeasibleBudgetError, match=r'bitops="81.999K" cannot be met: .* needs at least 82.00K'):
        search(three, Budget(bitops=64_000 + 3 * 6_000 - 1), pin={"*": (2, 3)})


@pytest.mark.parametrize(
    ("pin", "because"),
    [
        ({"down": (5, 4)}, "pin 'down': layer 'down' learned no weight step at 5 bits; choose from 2, 3, 4"),
        ({"do*": (4, 8)}, "pin 'do\\*': layer 'down' learned no activation step at 8 bits; choose from 2, 3, 4"),
        ({"down": 4}, r"pin 'down': give \(weight bits, activation bits\), found 4"),
        ({"down": (4, 4, 4)}, r"pin 'down': give \(weight bits, activation bits\), found \(4, 4, 4\)"),
        ({"down": (4, 9)}, "pin 'down': activation bits of 9 cannot be: use a whole number from 2 to 8"),
        ({"down": ("4", "4")}, "pin 'down': weight bits of '4' cannot be: use a whole number from 2 to 8"),
    ],
)
def test_a_pin_to_bits_that_cannot_be_is_refused(three, pin, because):
    with pytest.raises(PolicyError, match=because):
        search(three, ENOUGH, pin=pin)


def test_excluded_layers_keep_their_most_bits_under_any_budget(three):
    plan = search(three, Budget(bitops=64_000 + 16_000 + 8_000), exclude=["block.conv2"])
    assert bits_of(plan) == {"block.conv1": (2, 2), "block.conv2": (4, 4), "down": (2, 2), "head": (8, 8)}


def test_tied_layers_have_equal_bits_and_ties_that_overlap_are_one(three):
    budget = Budget(bitops=64_000 + 16_000 + 2 * 9_000)
    assert len(set(bits_of(search(three, budget)).values())) == 3  # untied, one layer gets most
    bits = bits_of(search(three, budget, tie=[["block.*"]]))
    assert bits["block.conv1"] == bits["block.conv2"]
    bits = bits_of(search(three, budget, tie=[["block.conv1", "block.conv2"], ["block.conv2", "down"]]))
    assert len({bits["block.conv1"], bits["block.conv2"], bits["down"]}) == 1


def test_tied_layers_match_brute_force_over_what_they_share(random_network, every_policy):
    rng = random.Random(7)
    for _ in range(10):
        indicators = random_network(rng, layers=2)
        outcomes = every_policy(indicators)  # two layers with nine options each: a tie keeps the diagonal
        diagonal = [10 * option for option in range(9)]
        limit = int(rng.choice(outcomes.bitops[diagonal]))
        best = min(outcomes.objective[index] for index in diagonal if outcomes.bitops[index] <= limit)
        plan = search(indicators, Budget(bitops=limit), tie=[["layer*"]])
        assert plan.objective == pytest.approx(best, rel=0, abs=1e-11)


def test_tied_layers_without_common_bits_are_refused(three):
    with pytest.raises(
        PolicyError, match=r"tied layers block.conv1, block.conv2 have no bit-widths in common; untie or unpin"
    ):
        search(three, ENOUGH, pin={"block.conv1": (2, 2), "block.conv2": (3, 3)}, tie=[["block.*"]])


@pytest.mark.parametrize("pattern", ["fc", "block", "layer*", "head", "BLOCK.*", ""])
@pytest.mark.parametrize("argument", ["pin", "exclude", "tie"])
def test_a_pattern_that_matches_no_searched_layer_is_refused_and_shows_some(three, argument, pattern):
    value = {"pin": {pattern: (4, 4)}, "exclude": [pattern], "tie": [["down", pattern]]}[argument]
    with pytest.raises(
        PolicyError, match=f"{argument} {re.escape(repr(pattern))} matches no searched layer; the layers are block"
    ):
        search(three, ENOUGH, **{argument: value})


def test_candidates_that_are_not_consecutive_are_the_only_bits_used(network):
    indicators = network({name: {2: 0.9, 3: 0.5, 5: 0.2, 8: 0.1} for name in "abcd"}, macs=1)
    for limit in (16, 80, 100, 255, 256):
        used = set(sum(bits_of(search(indicators, Budget(bitops=limit), candidates=(8, 2))).values(), ()))
        assert used <= {2, 8}
    assert set(bits_of(search(indicators, ENOUGH, candidates=[3, 5])).values()) == {(5, 5)}


@pytest.mark.parametrize("candidates", [(2, 7), (), ("2",), "234"])
def test_candidates_that_were_not_learned_are_refused(three, candidates):
    with pytest.raises(PolicyError, match=r"^candidates=.*: choose from the learned bit-widths 4, 3, 2"):
        search(three, ENOUGH, candidates=candidates)


def test_an_outlier_is_no_choice_and_is_reported(network):
    indicators = network({"a": {4: 0.3, 3: 0.01, 2: 0.5}}, {"a": {4: 0.1}}, macs=1)
    plan = search(indicators, Budget(bitops=12))
    assert bits_of(plan) == {"a": (2, 4)}  # 3 bits would fit, and look best
    assert [(outlier.layer, outlier.kind, outlier.bits) for outlier in plan.excluded] == [("a", "weight", 3)]
    with pytest.raises(PolicyError, match="learned no weight step at 3 bits; choose from 2, 4"):
        search(indicators, ENOUGH, pin={"a": (3, 4)})


def test_learned_candidates_are_accepted_also_where_a_width_is_an_outlier_in_every_layer(network):
    indicators = network({"a": {4: 0.3, 3: 0.4, 2: 0.1}})
    assert bits_of(search(indicators, ENOUGH, candidates=indicators.candidates)) == {"a": (4, 4)}


def test_a_layer_whose_candidates_are_all_outliers_is_named(network):
    indicators = network({"a": {4: 0.3, 3: 0.1}, "b": {4: 0.3, 3: 0.4}})
    with pytest.raises(PolicyError, match=r"layer 'a' has no bit-width left among candidates=\(3,\); allow more"):
        search(indicators, ENOUGH, candidates=(3,))


def test_activation_memory_limits_the_largest_layer_input_only(network):
    indicators = network(
        {name: {2: 0.4, 3: 0.3, 4: 0.2} for name in ("wide", "narrow")}, inputs={"wide": 100, "narrow": 8}
    )
    for memory, wide in [(25, 2), (37, 2), (38, 3), (49, 3), (50, 4)]:  # 100 inputs at 3 bits take 37.5 bytes
        plan = search(indicators, Budget(activation_memory=memory))
        assert bits_of(plan) == {"wide": (4, wide), "narrow": (4, 4)}
        assert plan.activation_bytes == -(-100 * wide // 8)
    with pytest.raises(
        InfeasibleBudgetError,
        match=r'activation_memory="24B" cannot be met: the largest layer input of toynet at 32x32 takes at least 25B',
    ) as caught:
        search(indicators, Budget(activation_memory=24))
    assert (caught.value.requested, caught.value.minimum, caught.value.maximum) == (24, 25, 50)


def test_latency_counts_the_layers_of_the_table_only(network):
    indicators = network({name: {2: 0.4, 4: 0.2} for name in ("a", "b")}, {name: {4: 0.1} for name in ("a", "b")})
    table = {"a": {(2, 4): 0.1, (4, 4): 0.3}}
    assert bits_of(search(indicators, Budget(latency=(table, 0.3)))) == {"a": (4, 4), "b": (4, 4)}
    assert bits_of(search(indicators, Budget(latency=(table, "0.29")))) == {"a": (2, 4), "b": (4, 4)}
    # Three times 0.1 is more than 0.3 in floats, but not in decimal.
    tenths = {name: {(2, 4): 0.1, (4, 4): 0.2} for name in ("a", "b")}
    assert sorted(bits_of(search(indicators, Budget(latency=(tenths, 0.3)))).values()) == [(2, 4), (4, 4)]


@pytest.mark.parametrize(
    ("table", "because"),
    [
        (
            {"x": {(2, 2): 1.0}},
            "the latency table names layer 'x', which the network does not have; remove it, or check its name",
        ),
        ({"a": {(2, 2): 1.0}}, "the latency table has no time for layer 'a' at 2 weight and 4 activation bits; add it"),
    ],
)
def test_a_latency_table_that_does_not_fit_the_network_is_refused(network, table, because):
    with pytest.raises(BudgetError, match=because):
        search(network({"a": {2: 0.4, 4: 0.2}}), Budget(latency=(table, 5)))


def test_compression_is_met_exactly(network):
    indicators = network({"a": {2: 0.4, 3: 0.3, 4: 0.2}}, weights={"a": 30, "head": 10}, fixed={"head": (8, 8)})
    for ratio, bits in [("6.4x", 4), (6.4, 4), ("6.41x", 3), ("7.52x", 3), ("7.53x", 2), ("9.14x", 2)]:
        assert bits_of(search(indicators, Budget(compression=ratio)))["a"] == (bits, 4)
    with pytest.raises(
        InfeasibleBudgetError, match=r'toynet at 32x32 allows at most 9.14x .* use compression="9.14x" or less'
    ):
        search(indicators, Budget(compression="9.15x"))


def test_only_a_search_without_any_limit_on_activations_says_that_they_went_to_the_most_bits(three):
    said = "every activation went to its most bits"
    assert said in " ".join(search(three, Budget(size="1MB")).notes)
    assert said in " ".join(search(three, Budget(compression=2)).notes)
    assert said not in " ".join(search(three, Budget(size="1MB", bitops="1G")).notes)
    assert said not in " ".join(search(three, Budget(size="1MB", activation_memory=64)).notes)
    assert said not in " ".join(search(three, Budget(activation_memory=64)).notes)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_the_stated_minimum_works_as_text_and_one_in_its_last_place_less_fails(
    random_network, one_less, constraint, seed
):
    rng = random.Random(seed)
    indicators = random_network(rng, layers=3, candidates=(2, 4), largest=10 ** (seed + 1))
    table = layer_table(rng, indicators, 10.0 ** (seed - 3))
    with pytest.raises(InfeasibleBudgetError, match=f"^{constraint}=.* cannot be met") as caught:
        search(indicators, limited(constraint, impossible(constraint), table))
    stated = re.search(rf'use {constraint}="([^"]*)" or (more|less)', str(caught.value))[1]
    search(indicators, limited(constraint, stated, table))
    worse = one_less(stated, by=-1 if constraint == "compression" else 1)
    with pytest.raises((InfeasibleBudgetError, BudgetError), match=r"cannot be met|above 0|leaves nothing"):
        search(indicators, limited(constraint, worse, table))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_the_attributes_of_an_infeasible_budget_work_when_fed_back(random_network, constraint, seed):
    rng = random.Random(seed)
    indicators = random_network(rng, layers=3, candidates=(2, 4), largest=10 ** (seed + 1))
    table = layer_table(rng, indicators, 10.0 ** (seed - 3))
    with pytest.raises(InfeasibleBudgetError, match=f"^{constraint}=") as caught:
        search(indicators, limited(constraint, impossible(constraint), table))
    error = caught.value
    assert error.constraint == constraint
    tightest = error.maximum if constraint == "compression" else error.minimum
    loosest = error.minimum if constraint == "compression" else error.maximum
    search(indicators, limited(constraint, tightest, table))
    assert set(bits_of(search(indicators, limited(constraint, loosest, table))).values()) == {(4, 4), (8, 8)}
    with pytest.raises((InfeasibleBudgetError, BudgetError), match=r"cannot be met|leaves nothing"):
        search(indicators, limited(constraint, tightest * (1.001 if constraint == "compression" else 0.999), table))


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_the_limit_that_was_asked_for_is_quoted_and_differs_from_the_stated_minimum(random_network, constraint):
    indicators = random_network(random.Random(3), layers=3, candidates=(2, 4), largest=10**9)
    table = layer_table(random.Random(3), indicators, 1.0)
    with pytest.raises(InfeasibleBudgetError, match=f"^{constraint}=") as caught:
        search(indicators, limited(constraint, impossible(constraint), table))
    exact = caught.value.maximum if constraint == "compression" else caught.value.minimum
    step = 1.0001 if constraint == "compression" else 0.9999
    limit = exact * step if constraint in ("compression", *TABLES) else int(exact) - 1
    with pytest.raises(InfeasibleBudgetError, match=f"^{constraint}=") as caught:
        search(indicators, limited(constraint, limit, table))
    assert caught.value.requested == limit
    quoted, stated = re.findall(rf'{constraint}="([0-9.]+)[A-Za-z]*"', str(caught.value))
    assert quoted != stated
    assert float(quoted) == pytest.approx(limit, rel=1e-5) or constraint in ("size", "bitops")


def test_a_latency_that_is_stated_as_the_minimum_is_close_to_what_is_needed(network):
    indicators = network({"a": {2: 0.4}})
    for time in (0.00012, 0.21, 1234.567, 1234567.1, 98765432.1):
        with pytest.raises(InfeasibleBudgetError, match=r"^latency=.* cannot be met") as caught:
            search(indicators, Budget(latency=({"a": {(2, 2): time}}, time * 0.9)))
        stated = re.search(r'use latency="([^"]*)" or more', str(caught.value))[1]
        assert time <= float(stated) <= 1.01 * time


def test_rows_that_only_exclude_each_other_state_what_the_first_needs_given_the_other(random_network, every_policy):
    checked = 0
    for seed in range(60):
        rng = random.Random(seed)
        indicators = random_network(rng, layers=3, candidates=(2, 4), largest=10 ** rng.choice([3, 6, 9]))
        # The fastest options are the largest ones: each limit can be met, both together cannot.
        table = {
            name: {(w, a): 1000 // (w * a) + rng.randint(0, 9) for w in (2, 4) for a in (2, 4)}
            for name in indicators.weight_steps
        }
        outcomes = every_policy(indicators, table)
        latency = int(rng.choice(outcomes.latency))
        needed = int(outcomes.bitops[outcomes.latency <= latency].min())
        if needed == outcomes.bitops.min():
            continue
        checked += 1
        with pytest.raises(
            InfeasibleBudgetError, match=r"^bitops=.* cannot be met together with latency: toynet"
        ) as caught:
            search(indicators, Budget(bitops=needed - 1, latency=(table, latency)))
        assert (caught.value.requested, caught.value.minimum) == (needed - 1, needed)
        assert search(indicators, Budget(bitops=needed, latency=(table, latency))).bitops == needed
    assert checked > 20


def test_two_later_rows_that_exclude_each_other_are_an_infeasible_budget_too(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.1}}, weights=8)
    fast_at_four = {"a": {(2, 4): 9, (4, 4): 1}}
    with pytest.raises(InfeasibleBudgetError, match=r"^size=.* cannot be met together with latency"):
        search(indicators, Budget(size=2, latency=(fast_at_four, 1)))
    with pytest.raises(InfeasibleBudgetError, match=r"^size=.* cannot be met together with latency"):
        search(indicators, Budget(bitops="1G", size=2, latency=(fast_at_four, 1)))


def test_the_reason_in_an_infeasible_budget_is_not_claimed_where_pins_are_the_reason(three):
    with pytest.raises(InfeasibleBudgetError, match="cannot be met") as caught:
        search(three, Budget(bitops="100K"), exclude=["*"])
    assert "every searched layer at its fewest bits" not in str(caught.value)


def test_a_uniform_policy_as_budget_is_met_by_at_least_that_policy(random_network):
    for seed in range(5):
        indicators = random_network(random.Random(seed))
        plan = search(indicators, Budget(bitops="w3a3"))
        uniform = [indicators.importance(name, LayerBits(3, 3), plan.alpha) for name in indicators.weight_steps]
        assert plan.objective <= sum(uniform) + 1e-12
        assert plan.bitops <= sum(cost.macs * (64 if cost.fixed else 9) for cost in indicators.costs.values())


@pytest.mark.parametrize("arguments", [{"exclude": "a"}, {"tie": "ab"}, {"tie": ["ab"]}], ids=str)
def test_patterns_given_as_text_instead_of_a_list_are_refused(three, arguments):
    with pytest.raises(PolicyError, match="give a list of patterns, not text"):
        search(three, Budget(bitops="1G"), **arguments)


def test_candidates_given_as_a_number_are_refused(three):
    with pytest.raises(PolicyError, match="candidates=4: give a list of bit-widths"):
        search(three, Budget(bitops="1G"), candidates=4)


# Whether a policy fits


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
    found = [(policy, costs_of(indicators, policy, counting, table)) for policy in policies_of(indicators)]
    assert len(found) == 6**3
    float_bytes = 4 * sum(cost.weights for cost in indicators.costs.values())
    for kind in CONSTRAINTS:
        # The costs of policies themselves, so that some policies meet the limit exactly.
        _, drawn = rng.choice(found)
        limit = float_bytes / drawn["size"] if kind == "compression" else drawn[kind] or 1
        if kind == "size":
            limit = -(-int(limit * 8) // 8)
        fits = fits_of(indicators, limited(kind, limit, table), counting)
        for policy, costs in found:
            meets = costs["size"] * limit <= float_bytes if kind == "compression" else costs[kind] <= limit
            if kind == "compression" and costs["size"] == drawn["size"]:
                continue  # the quotient is rounded to a float: on either side of this very size
            assert fits(policy) == meets, (kind, limit, costs)


@pytest.mark.parametrize("seed", range(6))
def test_several_limits_hold_at_once(small, seed):
    indicators, rng = small(seed), random.Random(seed)
    table = {name: {(w, a): w + a for w in (2, 3, 4) for a in (2, 4)} for name in "ac"}
    found = [(policy, costs_of(indicators, policy, "exact", table)) for policy in policies_of(indicators)]
    limits = {kind: rng.choice(found)[1][kind] for kind in ("bitops", "activation_memory", "latency")}
    budget = Budget(
        bitops=limits["bitops"], activation_memory=limits["activation_memory"], latency=(table, limits["latency"])
    )
    fits = fits_of(indicators, budget)
    for policy, costs in found:
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


def test_a_table_without_the_time_of_a_layer_that_was_learned_is_refused(network):
    indicators = network({"a": {2: 0.2, 4: 0.1}})
    message = r"^the latency table has no time for layer 'a' at 2 weight and 4 activation bits; add it$"
    with pytest.raises(BudgetError, match=message):
        fits_of(indicators, Budget(latency=({"a": {(2, 2): 1, (4, 2): 1, (4, 4): 1}}, 1)))
