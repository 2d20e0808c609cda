"""The budget that a next command carries can be met, and has an effect where any has."""

from __future__ import annotations

import random

import pytest

from limpq_hub.plan.budget import Budget
from limpq_hub.plan.first_budget import first_budget
from limpq_hub.plan.optimum import search


@pytest.mark.parametrize(
    ("candidates", "budget"),
    [
        ((6, 5, 4, 3, 2), "w4a4"),
        ((8, 6, 5, 4, 3), "w4a4"),
        ((8, 6, 5), "w6a6"),
        ((4, 3, 2), "w3a3"),
        ((8, 2), "w2a2"),
    ],
)
def test_it_is_that_of_4_bits_or_of_others_below_the_most(network, candidates, budget):
    assert first_budget(network({"a": {bits: 1 / bits for bits in candidates}})) == budget
    every = network({"a": {bits: 1 / bits for bits in (2, 3, 4, 5, 6, 8)}})
    assert first_budget(every, candidates=candidates) == budget


def test_where_there_is_no_choice_it_is_what_the_policy_takes(network):
    assert first_budget(network({"a": {8: 0.1}}, macs=1000)) == "64.00K"


def test_where_outliers_are_left_out_it_lies_above_the_fewest_bits_that_are_a_choice(network):
    indicators = network({"a": {2: 0.1, 8: 0.2}, "b": {2: 0.4, 8: 0.2}}, macs=1000)
    assert first_budget(indicators) == "98.00K"  # "a" takes 64K, "b" 4K to 64K: uniform 2 bits would take 8K


@pytest.mark.parametrize("seed", range(40))
def test_it_can_be_met_and_has_an_effect_whatever_is_chosen(random_network, seed):
    rng = random.Random(seed)
    indicators = random_network(rng, layers=4, candidates=rng.choice([(2, 8), (2, 3, 4), (3, 5, 6, 8)]))
    widths = indicators.candidates
    choices = {
        "candidates": {"*": rng.sample(widths, 2), "layer0": rng.sample(widths, 1)},
        "pin": {"layer1": (rng.choice(widths), rng.choice(widths))},
        "exclude": ["layer2"],
        "counting": rng.choice(["exact", "limpq"]),
    }
    choices = {name: choices[name] for name in rng.sample(list(choices), rng.randint(0, 4))}
    plan = search(indicators, Budget(bitops=first_budget(indicators, **choices)), **choices)
    assert not plan.without_effect
