"""Every kind of constraint: what it limits, and errors whose advice is true."""

from __future__ import annotations

import copy
import pickle
import random
import re

import pytest

from limpq_hub.errors import BudgetError, InfeasibleBudgetError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.constraints.bitops import bitops_allowed
from limpq_hub.plan.constraints.layer_table import LayerTableKind
from limpq_hub.plan.frontier_search import search_frontier
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.plan.plan import Plan

CONSTRAINTS = [kind.name for kind in KINDS]
TABLES = [kind.name for kind in KINDS if isinstance(kind, LayerTableKind)]


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


def test_the_kinds_are_told_apart_and_stand_in_the_order_in_which_they_break_ties():
    assert CONSTRAINTS[:5] == ["bitops", "size", "compression", "activation_memory", "latency"]
    assert len(set(CONSTRAINTS)) == len(CONSTRAINTS)


@pytest.mark.parametrize("constraint", TABLES)
def test_the_entries_of_a_table_are_told_in_its_own_words(network, constraint):
    (kind,) = (kind for kind in KINDS if kind.name == constraint)
    indicators, entry, some = network({"a": {2: 0.4}}), kind.entry.column, kind.entry.with_article
    with pytest.raises(BudgetError, match=f"^the {constraint} table has no {entry} for layer 'a' at 2 weight and 2 "):
        search(indicators, limited(constraint, 1, {"a": {(4, 4): 1.0}}))
    with pytest.raises(BudgetError, match=rf"^{constraint} of layer 'a' at bits \(2, 2\) is -1: {some} is a finite "):
        limited(constraint, 1, {"a": {(2, 2): -1}})
    with pytest.raises(
        InfeasibleBudgetError, match=rf'^{constraint}=\(table, "1"\) cannot be met: toynet at 32x32 needs at least 2 '
    ):
        search(indicators, limited(constraint, 1, {"a": {(2, 2): 2}}))


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


def test_a_network_of_products_of_activations_alone_is_searched_and_has_no_compression_to_limit(network):
    indicators = network({name: {2: 0.8, 4: 0.2} for name in ("qk", "av")}, weights=0)
    plan = search(indicators, Budget(bitops=8 * 1000 + 16 * 1000))
    assert (plan.size_bytes, plan.compression, plan.bitops) == (0, 1.0, 24_000)
    assert Plan.from_json(plan.to_json()) == plan
    assert search(indicators, Budget(size=1)).bitops == 32_000
    assert [plan.bitops for plan in search_frontier(indicators, 2)] == [8000, 32_000]
    message = (
        "compression= limits weights, and toynet at 32x32 has none: its layers are products of activations; use bitops="
    )
    with pytest.raises(BudgetError, match=f"^{re.escape(message)}$"):
        search(indicators, Budget(compression=4))


@pytest.mark.parametrize("round_trip", [lambda plan: pickle.loads(pickle.dumps(plan)), copy.deepcopy])
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_a_plan_of_every_kind_of_limit_is_pickled_and_copied_with_its_proof(random_network, constraint, round_trip):
    rng = random.Random(constraint)
    indicators = random_network(rng, largest=1000)
    table = layer_table(rng, indicators, 0.1)
    limit = {"compression": 7, "bitops": "w4a4"}.get(constraint, 10**5)
    plan = search(indicators, limited(constraint, limit, table))
    copied = round_trip(plan)
    assert copied == plan
    problem, of_copy = plan.certify.args[0], copied.certify.args[0]
    for was, now in zip(problem.programme.constraints, of_copy.programme.constraints, strict=True):
        assert (now.span, now.limit, now.coefficients) == (was.span, was.limit, was.coefficients)
    assert copied.certificate == plan.certificate


def test_compression_is_met_exactly(network):
    indicators = network({"a": {2: 0.4, 3: 0.3, 4: 0.2}}, weights={"a": 30, "head": 10}, fixed={"head": (8, 8)})
    for ratio, bits in [("6.4x", 4), (6.4, 4), ("6.41x", 3), ("7.52x", 3), ("7.53x", 2), ("9.14x", 2)]:
        assert bits_of(search(indicators, Budget(compression=ratio)))["a"] == (bits, 4)
    with pytest.raises(
        InfeasibleBudgetError, match=r'toynet at 32x32 allows at most 9.14x .* use compression="9.14x" or less'
    ):
        search(indicators, Budget(compression="9.15x"))


def test_only_a_search_without_any_limit_on_activations_says_that_they_went_to_the_most_bits(equal_layers):
    said = "every activation went to its most bits"
    assert said in " ".join(search(equal_layers, Budget(size="1MB")).notes)
    assert said in " ".join(search(equal_layers, Budget(compression=2)).notes)
    assert said not in " ".join(search(equal_layers, Budget(size="1MB", bitops="1G")).notes)
    assert said not in " ".join(search(equal_layers, Budget(size="1MB", activation_memory=64)).notes)
    assert said not in " ".join(search(equal_layers, Budget(activation_memory=64)).notes)


@pytest.mark.parametrize("choice", [{"pin": {"*": (2, 3)}}, {"candidates": [4]}])
def test_activations_without_a_choice_did_not_go_to_their_most_bits(equal_layers, choice):
    assert search(equal_layers, Budget(size="1MB"), **choice).notes == ()


@pytest.mark.parametrize(
    ("limits", "clauses"),
    [
        # At the most bits of both: 10 x 4 x 4 + 64 BitOps, (30 x 4 + 10 x 8) / 8 bytes, 40 x 32 bits beside these.
        ({"bitops": 224}, ["bitops= is no less than the 224 that the most bits take, so nothing is traded"]),
        ({"bitops": "w8a8"}, ["bitops= is no less than the 224 that the most bits take, so nothing is traded"]),
        ({"bitops": 223}, []),
        ({"size": 25}, ["size= is no less than the 25B that the most bits take, so nothing is traded"]),
        ({"size": 24}, []),
        (
            {"compression": 6.4},
            ["compression= is no more than the 6.40x that the most bits give, so nothing is traded"],
        ),
        ({"compression": 6.5}, []),
        (
            {"activation_memory": 50},
            ["activation_memory= is no less than the 50B that the most bits take, so nothing is traded"],
        ),
        ({"activation_memory": 49}, []),
        ({"bitops": 200, "size": 25}, ["size= is no less than the 25B that the most bits take, so it limits nothing"]),
        (
            {"bitops": 200, "activation_memory": 50},
            ["activation_memory= is no less than the 50B that the most bits take, so it limits nothing"],
        ),
        (
            {"bitops": 224, "compression": 2},
            [
                "bitops= is no less than the 224 that the most bits take, so nothing is traded",
                "compression= is no more than the 6.40x that the most bits give, so nothing is traded",
            ],
        ),
    ],
    ids=str,
)
def test_a_limit_that_every_choice_meets_is_told_with_what_the_most_bits_take(network, limits, clauses):
    steps = {"a": {2: 0.4, 4: 0.2}}
    counts = {"macs": {"a": 10, "head": 1}, "weights": {"a": 30, "head": 10}, "inputs": {"a": 100, "head": 1}}
    indicators = network(steps, **counts, fixed={"head": (8, 8)})
    notes = search(indicators, Budget(**limits)).notes
    assert [note for note in notes if not note.startswith("only the weights")] == clauses


@pytest.mark.parametrize("constraint", TABLES)
def test_a_limit_on_a_table_that_every_choice_meets_is_told_with_the_most_of_any_bits(network, constraint):
    indicators, table = network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.1}}), {"a": {(2, 4): 3.0, (4, 4): 1.0}}
    said = f"{constraint}= is no less than the 3 that any bits take, so nothing is traded"
    assert search(indicators, limited(constraint, 3, table)).notes == (said,)
    assert search(indicators, limited(constraint, 2.5, table)).notes == ()


def test_without_a_choice_no_limit_is_told_to_limit_nothing(network):
    indicators = network({"a": {4: 0.2}}, fixed={"head": (8, 8)})
    assert search(indicators, Budget(bitops="1T", activation_memory="1GB")).notes == ()


def test_a_frontier_tells_of_its_other_limits_alone_that_they_limit_nothing(equal_layers):
    assert search_frontier(equal_layers, 3)[0].notes == ()
    (plan, *_) = search_frontier(equal_layers, 3, budget=Budget(size="1GB"))
    assert [note.rpartition(", ")[2] for note in plan.notes] == ["so it limits nothing"]
    (plan, *_) = search_frontier(equal_layers, 3, budget=Budget(bitops="2e30"))
    assert plan.without_effect == ("bitops",)


@pytest.mark.parametrize("bitops", [10**10, 10**30, "2e30", 1e300])
def test_bitops_however_many_that_every_choice_meets_are_told_to_limit_nothing(equal_layers, bitops):
    plan = search(equal_layers, Budget(bitops=bitops))
    assert (plan.without_effect, len(plan.notes)) == (("bitops",), 1)


def test_a_limit_on_bitops_allows_itself_or_what_the_uniform_policy_takes_that_it_names(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, macs=10, macs_limpq={"a": 11, "head": 10}, fixed={"head": (8, 8)})
    assert bitops_allowed(123, indicators) == 123
    assert bitops_allowed(LayerBits(2, 4), indicators) == 10 * 8 + 10 * 64
    assert bitops_allowed(LayerBits(2, 4), indicators, "limpq") == 11 * 8 + 10 * 64


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
    stated = re.search(rf'use {constraint}=(?:\(table, )?"([^"]*)"\)? or (more|less)', str(caught.value))[1]
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


@pytest.mark.parametrize("seed", range(40))
def test_the_compression_of_a_plan_and_the_most_that_is_possible_work_when_fed_back(random_network, seed):
    rng = random.Random(seed)
    indicators = random_network(rng, layers=3, candidates=(2, 4), largest=10 ** (seed % 8 + 1))
    smallest = search(indicators, Budget(bitops="1e30"), candidates=[2])
    assert search(indicators, Budget(compression=smallest.compression)).compression == smallest.compression
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(compression=1000))
    assert search(indicators, Budget(compression=caught.value.maximum)).compression == caught.value.maximum


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
    quoted, stated = re.findall(rf'{constraint}=(?:\(table, )?"([0-9.]+)[A-Za-z]*"', str(caught.value))
    assert quoted != stated
    assert float(quoted) == pytest.approx(limit, rel=1e-5) or constraint in ("size", "bitops")


def test_a_latency_that_is_stated_as_the_minimum_is_close_to_what_is_needed(network):
    indicators = network({"a": {2: 0.4}})
    for time in (0.00012, 0.21, 1234.567, 1234567.1, 98765432.1):
        with pytest.raises(InfeasibleBudgetError, match=r"^latency=.* cannot be met") as caught:
            search(indicators, Budget(latency=({"a": {(2, 2): time}}, time * 0.9)))
        stated = re.search(r'use latency=\(table, "([^"]*)"\) or more', str(caught.value))[1]
        assert time <= float(stated) <= 1.01 * time


def test_constraints_that_only_exclude_each_other_state_what_the_first_needs_given_the_other(
    random_network, every_policy
):
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


def test_two_later_constraints_that_exclude_each_other_are_an_infeasible_budget_too(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.1}}, weights=8)
    fast_at_four = {"a": {(2, 4): 9, (4, 4): 1}}
    with pytest.raises(InfeasibleBudgetError, match=r"^size=.* cannot be met together with latency"):
        search(indicators, Budget(size=2, latency=(fast_at_four, 1)))
    with pytest.raises(InfeasibleBudgetError, match=r"^size=.* cannot be met together with latency"):
        search(indicators, Budget(bitops="1G", size=2, latency=(fast_at_four, 1)))


def test_the_reason_in_an_infeasible_budget_is_not_claimed_where_pins_are_the_reason(equal_layers):
    with pytest.raises(InfeasibleBudgetError, match="cannot be met") as caught:
        search(equal_layers, Budget(bitops="100K"), exclude=["*"])
    assert "every searched layer at its fewest bits" not in str(caught.value)


def test_a_uniform_policy_as_budget_is_met_by_at_least_that_policy(random_network):
    for seed in range(5):
        indicators = random_network(random.Random(seed))
        plan = search(indicators, Budget(bitops="w3a3"))
        uniform = [indicators.importance(name, LayerBits(3, 3), plan.alpha) for name in indicators.weight_steps]
        assert plan.objective <= sum(uniform) + 1e-12
        assert plan.bitops <= sum(cost.macs * (64 if cost.fixed else 9) for cost in indicators.costs.values())


@pytest.mark.parametrize("asked", [0.1 * 3, 1 / 3, "0.3"])
def test_a_least_latency_is_enough_when_it_is_given_as_a_limit_however_the_first_was_computed(network, asked):
    steps = {2: 0.4, 4: 0.2}
    indicators = network({"a": steps, "b": steps})
    table = {"a": {(2, 2): 1.25, (4, 4): 2.5}, "b": {(2, 2): 0.5, (4, 4): 1.0}}
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(latency=(table, asked)), apart=0)
    assert (caught.value.minimum, caught.value.maximum) == (1.75, 3.5)
    plan = search(indicators, Budget(latency=(table, caught.value.minimum)), apart=0)
    assert bits_of(plan) == {"a": (2, 2), "b": (2, 2)}


def test_a_limit_that_was_computed_is_what_it_was_meant_to_be(network):
    steps = {2: 0.4, 4: 0.2}
    indicators, table = network({"a": steps}), {"a": {(2, 2): 0.1, (4, 4): 0.3}}
    for limit in (0.1 * 3, 0.3, 0.1 + 0.1 + 0.1, 0.9 - 0.6):  # the last one is 0.30000000000000004 less 1e-16
        assert bits_of(search(indicators, Budget(latency=(table, limit)), apart=0)) == {"a": (4, 4)}


@pytest.mark.parametrize("limit", [1e6, 1e12, 1e20])
def test_a_limit_far_above_a_computed_table_leaves_what_it_adds_up_to_readable(network, limit):
    steps = {2: 0.4, 4: 0.2}
    table = {"a": {(w, a): 0.1 * w * a for w in (2, 4) for a in (2, 4)}}
    [note] = search(network({"a": steps}), Budget(latency=(table, limit))).notes
    assert note == "latency= is no less than the 1.6 that any bits take, so nothing is traded"


def test_a_least_latency_of_more_digits_than_a_sum_has_is_enough_as_well(network):
    indicators = network({"a": {2: 0.4}, "b": {2: 0.4}})
    table = {"a": {(2, 2): 10.0000000000001}, "b": {(2, 2): 0.0123456789012345}}
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(latency=(table, 1)))
    assert caught.value.minimum == pytest.approx(10.0123456789013, abs=1e-12)
    search(indicators, Budget(latency=(table, caught.value.minimum)))
