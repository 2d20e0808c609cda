"""Criteria by name: what each adds up, sums on one scale, and bits that are kept near each other."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from limpq_hub.errors import TrainingError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.train.measure import criteria
from limpq_hub.train.measure.criteria import criterion, indicators_by, table

PAIRS = [LayerBits(weight, activation) for weight in (2, 3, 4) for activation in (2, 3, 4)]


@pytest.fixture
def entry() -> SimpleNamespace:
    """Two layers; the weights of the second learned a smaller step at 2 bits than at 3."""
    cost = LayerCost(macs=10, macs_limpq=10, weights=8, inputs=8, signed=False)
    weight_steps = {"a": {4: 0.1, 3: 0.2, 2: 0.4}, "b": {4: 0.1, 3: 0.3, 2: 0.2}}
    activation_steps = {"a": {4: 1.0, 3: 2.0, 2: 3.0}, "b": {4: 0.5, 3: 0.6, 2: 0.7}}
    return SimpleNamespace(
        indicators=Indicators("toynet", 8, 2, {"a": cost, "b": cost}, weight_steps, activation_steps, alpha=5.0)
    )


def test_learned_and_coupled_are_the_sum_and_the_root_of_the_sum_of_squares_of_steps_that_rise(entry):
    learned, coupled = table("learned", entry, []), table("coupled", entry, [])
    assert learned["a"][LayerBits(2, 3)] == pytest.approx(2.0 + 5 * 0.4)
    assert coupled["a"][LayerBits(2, 3)] == pytest.approx(math.sqrt(2.0**2 + (5 * 0.4) ** 2))
    assert learned["b"][LayerBits(2, 4)] == pytest.approx(0.5 + 5 * 0.3), "2 bits of weights lose no less than 3 do"
    assert {*learned["a"]} == {*coupled["b"]} == {*PAIRS}


def test_a_sum_weighs_its_parts_by_what_they_range_over(entry):
    tables = {
        "learned": {"a": dict.fromkeys(PAIRS, 1.0) | {LayerBits(2, 2): 10.0}, "b": dict.fromkeys(PAIRS, 2.0)},
        "error": {"a": dict.fromkeys(PAIRS, 0.0), "b": dict.fromkeys(PAIRS, 0.5) | {LayerBits(2, 2): 0.14}},
    }
    summed = indicators_by("learned+error", entry, tables.get).divergences
    # Above each layer's least, averaged over its nine pairs: 9 / 9 of the one, 8 * 0.36 / 9 of the other.
    assert summed["a"][LayerBits(2, 2)] == pytest.approx(10 / 1.0)
    assert summed["b"][LayerBits(2, 2)] == pytest.approx(2 / 1.0 + 0.14 / 0.32)
    assert summed["b"][LayerBits(4, 2)] == pytest.approx(2 / 1.0 + 0.5 / 0.32)


@pytest.mark.parametrize(("apart", "allowed"), [("", 2), (":near", 1), (":equal", 0)])
def test_bits_of_a_layer_are_kept_as_near_as_asked_for(entry, apart, allowed):
    # What costs least is as far apart as can be.
    costs = {name: {bits: 1.0 + abs(bits.weight * bits.activation - 8) for bits in PAIRS} for name in "ab"}
    measured = indicators_by(f"error{apart}", entry, lambda name: costs)
    assert measured.objective == "measured"
    plan = search(measured, Budget(bitops=160))
    assert max(abs(bits.weight - bits.activation) for bits in plan.policy.layers.values()) == allowed
    # 16 for each MAC in all: twice 2/4; 3/3 and 2/3; 3/3 and 2/2.
    assert plan.objective == pytest.approx({2: 1.0 + 1.0, 1: 2.0 + 3.0, 0: 2.0 + 5.0}[allowed])


@pytest.mark.parametrize("text", ["learned", "coupled:near", "kl-float", "kl-joint@3", "learned+kl-float@6:equal"])
def test_criteria_are_taken_as_they_are_written(text):
    assert criterion(text) == text


@pytest.mark.parametrize("text", ["", "kl", "kl-joint@9", "learned:far", "learned+", "learned:near:equal"])
def test_a_criterion_that_is_not_there_is_named(text):
    with pytest.raises(TrainingError, match=r"criterion '.*' is not known: use learned, coupled, kl-float, kl-joint, "):
        criterion(text)


def test_a_criterion_that_is_no_number_chooses_no_bits(entry, monkeypatch):
    costs = {"a": {LayerBits(4, 4): 1.0, LayerBits(2, 2): float("nan")}}
    monkeypatch.setattr(criteria, "Measuring", lambda *asked: SimpleNamespace(network=lambda: (None, None)))
    monkeypatch.setitem(criteria._OF_FLOAT_NETWORK, "error", lambda supernet, images: costs)
    with pytest.raises(TrainingError, match="^criterion error of a at 2/2 is nan: leave out the criterion"):
        table("error", entry, [])
