"""Which bits a search may choose from: pins, excluded and tied layers, candidates, and outliers."""

from __future__ import annotations

import ast
import random
import re

import pytest

from limpq_hub.errors import InfeasibleBudgetError, PolicyError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.optimum import search

ENOUGH = Budget(bitops="1T")


def bits_of(plan):
    return {name: (bits.weight, bits.activation) for name, bits in plan.policy.layers.items()}


def test_pinned_layers_have_the_bits_of_the_pin_and_the_others_are_searched(equal_layers):
    plan = search(equal_layers, ENOUGH, pin={"block.*": (2, 3), "down": (3, 2)})
    assert bits_of(plan) == {"block.conv1": (2, 3), "block.conv2": (2, 3), "down": (3, 2), "head": (8, 8)}
    assert bits_of(search(equal_layers, ENOUGH, pin={"*2": (2, 2)}))["block.conv1"] == (4, 4)


def test_a_pin_makes_the_others_pay(equal_layers):
    assert bits_of(search(equal_layers, Budget(bitops=64_000 + 24_000), pin={"down": (4, 4)})) == {
        "block.conv1": (2, 2), "block.conv2": (2, 2), "down": (4, 4), "head": (8, 8),
    }  # fmt: skip


def test_a_search_with_every_layer_pinned_has_nothing_to_choose(equal_layers):
    plan = search(equal_layers, Budget(bitops=64_000 + 3 * 6_000), pin={"*": (2, 3)})
    assert set(bits_of(plan).values()) == {(2, 3), (8, 8)}
    with pytest.raises(InfeasibleBudgetError, match=r'bitops="81.999K" cannot be met: .* needs at least 82.00K'):
        search(equal_layers, Budget(bitops=64_000 + 3 * 6_000 - 1), pin={"*": (2, 3)})


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
def test_a_pin_to_bits_that_cannot_be_is_refused(equal_layers, pin, because):
    with pytest.raises(PolicyError, match=because):
        search(equal_layers, ENOUGH, pin=pin)


def test_excluded_layers_keep_their_most_bits_under_any_budget(equal_layers):
    plan = search(equal_layers, Budget(bitops=64_000 + 16_000 + 8_000), exclude=["block.conv2"])
    assert bits_of(plan) == {"block.conv1": (2, 2), "block.conv2": (4, 4), "down": (2, 2), "head": (8, 8)}


def test_tied_layers_have_equal_bits_and_ties_that_overlap_are_one(equal_layers):
    budget = Budget(bitops=64_000 + 16_000 + 2 * 9_000)
    assert len(set(bits_of(search(equal_layers, budget)).values())) == 3  # untied, one layer gets most
    bits = bits_of(search(equal_layers, budget, tie=[["block.*"]]))
    assert bits["block.conv1"] == bits["block.conv2"]
    bits = bits_of(search(equal_layers, budget, tie=[["block.conv1", "block.conv2"], ["block.conv2", "down"]]))
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


@pytest.mark.parametrize("tie", [["block.conv1", "block.conv2"], ["block.conv2", "block.conv1"]])
@pytest.mark.parametrize("pinned", ["block.conv1", "block.conv2"])
def test_a_pin_of_one_layer_holds_for_its_tie_in_whatever_order_the_tie_names_them(equal_layers, tie, pinned):
    bits = bits_of(search(equal_layers, ENOUGH, pin={pinned: (2, 3)}, tie=[tie]))
    assert (bits["block.conv1"], bits["block.conv2"], bits["down"]) == ((2, 3), (2, 3), (4, 4))


def test_tied_layers_without_common_bits_are_refused(equal_layers):
    with pytest.raises(
        PolicyError, match=r"tied layers block.conv1, block.conv2 have no bit-widths in common; untie or unpin"
    ):
        search(equal_layers, ENOUGH, pin={"block.conv1": (2, 2), "block.conv2": (3, 3)}, tie=[["block.*"]])


@pytest.mark.parametrize("pattern", ["fc", "block", "layer*", "head", "BLOCK.*", ""])
@pytest.mark.parametrize("argument", ["pin", "exclude", "tie"])
def test_a_pattern_that_matches_no_searched_layer_is_refused_and_shows_some(equal_layers, argument, pattern):
    value = {"pin": {pattern: (4, 4)}, "exclude": [pattern], "tie": [["down", pattern]]}[argument]
    with pytest.raises(
        PolicyError, match=f"{argument} {re.escape(repr(pattern))} matches no searched layer; the layers are block"
    ):
        search(equal_layers, ENOUGH, **{argument: value})


def test_candidates_that_are_not_consecutive_are_the_only_bits_used(network):
    indicators = network({name: {2: 0.9, 3: 0.5, 5: 0.2, 8: 0.1} for name in "abcd"}, macs=1)
    for limit in (16, 80, 100, 255, 256):
        used = set(sum(bits_of(search(indicators, Budget(bitops=limit), candidates=(8, 2))).values(), ()))
        assert used <= {2, 8}
    assert set(bits_of(search(indicators, ENOUGH, candidates=[3, 5])).values()) == {(5, 5)}


@pytest.mark.parametrize("candidates", [(2, 7), (), ("2",), "234"])
def test_candidates_that_were_not_learned_are_refused(equal_layers, candidates):
    with pytest.raises(PolicyError, match=r"^candidates=.*: choose from the learned bit-widths 4, 3, 2"):
        search(equal_layers, ENOUGH, candidates=candidates)


def test_an_outlier_is_no_choice_and_is_reported(network):
    indicators = network({"a": {4: 0.3, 3: 0.01, 2: 0.5}}, {"a": {4: 0.1}}, macs=1)
    plan = search(indicators, Budget(bitops=12))
    assert bits_of(plan) == {"a": (2, 4)}  # 3 bits would fit, and look best
    assert [(outlier.layer, outlier.kind, outlier.bits) for outlier in plan.excluded] == [("a", "weight", 3)]
    message = (
        "^pin 'a': layer 'a' learned a smaller weight step at 3 bits than at more, so these are left out as an "
        "outlier; choose from 2, 4$"
    )
    with pytest.raises(PolicyError, match=message):
        search(indicators, ENOUGH, pin={"a": (3, 4)})
    with pytest.raises(PolicyError, match="learned no weight step at 5 bits; choose from 2, 3, 4"):
        search(indicators, ENOUGH, pin={"a": (5, 4)})


def test_learned_candidates_are_accepted_also_where_a_width_is_an_outlier_in_every_layer(network):
    indicators = network({"a": {4: 0.3, 3: 0.4, 2: 0.1}})
    assert bits_of(search(indicators, ENOUGH, candidates=indicators.candidates)) == {"a": (4, 4)}


def test_a_layer_whose_candidates_are_all_outliers_keeps_them_and_they_are_not_told_as_left_out(network):
    indicators = network({"a": {4: 0.3, 3: 0.1, 2: 0.2}, "b": {4: 0.3, 3: 0.4, 2: 0.1}})
    assert [outlier.bits for outlier in search(indicators, ENOUGH).excluded if outlier.kind == "weight"] == [3, 2]
    plan = search(indicators, ENOUGH, candidates=(3,))
    assert bits_of(plan) == {"a": (3, 3), "b": (3, 3)}
    assert {(outlier.layer, outlier.bits) for outlier in plan.excluded} == {("b", 2)}
    # Where there is another candidate, the outlier is no choice.
    assert bits_of(search(indicators, ENOUGH, candidates=(3, 4))) == {"a": (4, 4), "b": (4, 4)}


def test_a_layer_that_learned_none_of_the_candidates_is_named(network):
    indicators = network({"a": {4: 0.3}, "b": {4: 0.3, 3: 0.4}})
    message = (
        "layer 'a' has no bit-width left among candidates=[3]: its weight steps were learned at 4 bits; allow one of "
        "them for it too: give {'*': [3], 'a': [3, 4]} as candidates"
    )
    with pytest.raises(PolicyError, match=f"^{re.escape(message)}$"):
        search(indicators, ENOUGH, candidates=(3,))
    expected = {"a": (4, 4), "b": (3, 3)}
    assert bits_of(search(indicators, ENOUGH, candidates=advised(message))) == expected
    for given in ({"*": [3]}, {"a": [3], "*": [3]}):
        with pytest.raises(PolicyError, match="add .* at the end of candidates$") as caught:
            search(indicators, ENOUGH, candidates=given)
        added = advised(str(caught.value))
        others = {pattern: bits for pattern, bits in given.items() if pattern not in added}
        assert bits_of(search(indicators, ENOUGH, candidates=others | added)) == expected


def advised(message: str) -> dict[str, list[int]]:
    """The candidates that the message says to give, or to add."""
    return ast.literal_eval(re.search(r"too: (?:give|add) (\{.*\}) (?:as|at the end of) candidates$", message)[1])


def test_where_weights_and_activations_lack_the_candidates_one_advice_is_enough_for_both(network):
    indicators = network({"a": {4: 0.3}, "b": {3: 0.3}}, {"a": {8: 0.1, 6: 0.2}, "b": {3: 0.3}})
    with pytest.raises(PolicyError) as caught:
        search(indicators, ENOUGH, candidates=(3,))
    assert advised(str(caught.value)) == {"*": [3], "a": [3, 4, 8]}
    found = search(indicators, ENOUGH, candidates=advised(str(caught.value)))
    assert bits_of(found) == {"a": (4, 8), "b": (3, 3)}


def test_what_the_activations_of_a_layer_learned_is_told_where_they_lack_the_candidates(network):
    indicators = network({"a": {4: 0.3}}, {"a": {8: 0.1, 6: 0.2}})
    with pytest.raises(PolicyError, match="its activation steps were learned at 6, 8 bits; allow one of them for it"):
        search(indicators, ENOUGH, candidates={"a": [4]})


def test_a_pinned_layer_needs_none_of_the_candidates(network):
    indicators = network({"a": {4: 0.3}, "b": {4: 0.3, 3: 0.4}})
    assert bits_of(search(indicators, ENOUGH, candidates=[3], pin={"a": (4, 4)})) == {"a": (4, 4), "b": (3, 3)}


@pytest.mark.parametrize("arguments", [{"exclude": "a"}, {"tie": "ab"}, {"tie": ["ab"]}], ids=str)
def test_patterns_given_as_text_instead_of_a_list_are_refused(equal_layers, arguments):
    with pytest.raises(PolicyError, match=r"give a list of patterns(, not text)?$"):
        search(equal_layers, Budget(bitops="1G"), **arguments)


def test_candidates_given_as_a_number_are_refused(equal_layers):
    with pytest.raises(PolicyError, match="candidates=4: give a list of bit-widths"):
        search(equal_layers, Budget(bitops="1G"), candidates=4)
