"""Indicators: what is valid, the outlier ban, and the file."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest

from limpq_hub.errors import ArtifactFormatError, PolicyError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.ilp import search
from limpq_hub.plan.indicators import Indicators, Outlier
from limpq_hub.plan.policy import LayerBits


@pytest.fixture
def indicators(network):
    return network(
        {"conv": {2: 0.4, 3: 0.3, 4: 0.1}},
        {"conv": {2: 0.5, 3: 0.2, 4: 0.05}},
        macs={"conv": 1000, "head": 50},
        macs_limpq={"conv": 1010, "head": 50},
        fixed={"head": (8, 8)},
        alpha=1.5,
    )


def test_importance_is_activation_step_plus_alpha_times_weight_step(indicators):
    assert indicators.importance("conv", LayerBits(3, 4), 2.0) == pytest.approx(0.05 + 2 * 0.3)
    assert indicators.importance("conv", LayerBits(3, 4), 0.0) == 0.05


@pytest.mark.parametrize(
    ("bits", "because"),
    [
        (LayerBits(6, 4), "layer 'conv' learned no weight step at 6 bits; choose from 2, 3, 4"),
        (LayerBits(4, 5), "layer 'conv' learned no activation step at 5 bits; choose from 2, 3, 4"),
    ],
)
def test_importance_of_bits_that_were_not_learned_is_refused(indicators, bits, because):
    with pytest.raises(PolicyError, match=because):
        indicators.importance("conv", bits, 2.0)


def test_candidates_are_all_learned_bit_widths_most_bits_first(network):
    steps = {"a": {8: 0.1, 2: 0.3}, "b": {4: 0.1, 2: 0.2}}
    assert network(steps).candidates == (8, 4, 2)


def test_indicators_cannot_be_changed_not_even_through_the_mappings_they_were_made_from(network):
    steps = {"conv": {2: 0.4}}
    indicators = network(steps)
    steps["conv"][2] = 9.0
    assert indicators.weight_steps["conv"][2] == 0.4
    for mapping in (indicators.costs, indicators.weight_steps, indicators.weight_steps["conv"], indicators.provenance):
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["conv"] = 1


@pytest.mark.parametrize(
    ("steps", "banned"),
    [
        ({4: 0.1, 3: 0.2, 2: 0.3}, []),
        ({4: 0.1, 3: 0.1, 2: 0.1}, []),
        ({4: 0.3, 3: 0.2, 2: 0.4}, [(3, 0.2, 0.3)]),
        ({2: 0.2, 3: 0.3, 4: 0.1}, [(2, 0.2, 0.3)]),
        # The comparison is with the original value next above, also where that one is banned itself.
        ({4: 0.3, 3: 0.2, 2: 0.25}, [(3, 0.2, 0.3)]),
        ({4: 0.3, 3: 0.2, 2: 0.1}, [(3, 0.2, 0.3), (2, 0.1, 0.2)]),
        ({8: 0.3, 4: 0.2, 2: 0.5}, [(4, 0.2, 0.3)]),
        ({4: 0.3}, []),
    ],
)
@pytest.mark.parametrize("kind", ["weight", "activation"])
def test_fewer_bits_with_a_smaller_step_than_the_next_more_bits_are_banned(network, kind, steps, banned):
    other = {8: 0.1, 2: 0.2}
    indicators = network({"conv": steps if kind == "weight" else other}, {"conv": other if kind == "weight" else steps})
    kept, outliers = indicators.without_outliers()
    assert outliers == tuple(Outlier("conv", kind, *entry) for entry in banned)
    left = {bits: step for bits, step in steps.items() if bits not in {entry[0] for entry in banned}}
    assert getattr(kept, f"{kind}_steps") == {"conv": left}
    assert getattr(indicators, f"{kind}_steps") == {"conv": steps}


def test_outliers_of_every_layer_are_reported(network):
    steps = {name: {4: 0.3, 3: 0.2, 2: 0.4} for name in ("a", "b")}
    _, outliers = network(steps).without_outliers()
    assert {(outlier.layer, outlier.kind) for outlier in outliers} == {
        ("a", "weight"), ("b", "weight"), ("a", "activation"), ("b", "activation"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("weight_steps", "activation_steps", "because"),
    [
        (
            {"conv": {}},
            {"conv": {2: 0.1}},
            "weight steps of layer 'conv': none given, at least one bit-width is needed",
        ),
        (
            {"conv": {2: 0.1}},
            {"conv": {1: 0.1}},
            "activation steps of layer 'conv': a bit-width is a whole number from 2",
        ),
        ({"conv": {"2": 0.1}}, {"conv": {2: 0.1}}, "a bit-width is a whole number from 2 to 8, found '2'"),
        ({"conv": {2: 0}}, {"conv": {2: 0.1}}, "the step at 2 bits must be a number above 0, found 0"),
        ({"conv": {2: -0.1}}, {"conv": {2: 0.1}}, "must be a number above 0, found -0.1"),
        ({"conv": {2: float("nan")}}, {"conv": {2: 0.1}}, "must be a number above 0, found nan"),
        ({"conv": {2: float("inf")}}, {"conv": {2: 0.1}}, "must be a number above 0, found inf"),
        pytest.param({"conv": {2: 10**400}}, {"conv": {2: 0.1}}, "must be a number above 0, found 1000", id="huge"),
        ({"conv": {2: True}}, {"conv": {2: 0.1}}, "must be a number above 0, found True"),
        ({"conv": {2: "0.1"}}, {"conv": {2: 0.1}}, "must be a number above 0, found '0.1'"),
        ({"conv": {2: 0.1}}, {}, "layer 'conv' has no activation steps; train them with training/indicators.py"),
        (
            {"conv": {2: 0.1}},
            {"conv": {2: 0.1}, "x": {2: 0.1}},
            "activation steps for layer 'x', which is not a searched",
        ),
        (
            {"head": {2: 0.1}},
            {"head": {2: 0.1}},
            "weight steps for layer 'head', which is not a searched layer; remove it",
        ),
    ],
)
def test_steps_that_cannot_be_are_refused_with_layer_and_bit_width(network, weight_steps, activation_steps, because):
    with pytest.raises(ArtifactFormatError, match=because):
        network(weight_steps, activation_steps, fixed={"head": (8, 8)})


def test_indicators_survive_their_file(indicators, tmp_path):
    indicators.save(tmp_path / "indicators.json")
    assert Indicators.load(tmp_path / "indicators.json") == indicators


def test_the_file_says_per_layer_what_it_costs_and_what_was_learned(indicators):
    content = json.loads(json.dumps(indicators.to_json()))
    assert {key: content[key] for key in content if key != "layers"} == {
        "format": 1, "model": "toynet", "input_size": 32, "num_classes": 10, "candidates": [4, 3, 2], "alpha": 1.5,
        "provenance": {},
    }  # fmt: skip
    assert content["layers"] == {
        "conv": {
            "macs": 1000, "macs_limpq": 1010, "weights": 100, "inputs": 64, "signed": False, "fixed": None,
            "weight_steps": {"2": 0.4, "3": 0.3, "4": 0.1}, "activation_steps": {"2": 0.5, "3": 0.2, "4": 0.05},
        },
        "head": {
            "macs": 50, "macs_limpq": 50, "weights": 100, "inputs": 64, "signed": False,
            "fixed": {"weight": 8, "activation": 8},
        },
    }  # fmt: skip


MISSING = object()


@pytest.mark.parametrize(
    ("where", "value", "because"),
    [
        ("format", 2, "format 2 is not the format 1 that this version of limpq-hub reads"),
        ("format", True, "format True is not the format 1"),
        ("format", MISSING, "format None is not the format 1"),
        ("model", MISSING, 'indicators: "model" is missing'),
        ("model", "", "\"model\" must be the name of a timm architecture, found ''"),
        ("model", 5, '"model" must be the name of a timm architecture, found 5'),
        ("extra", 1, "indicators: 'extra' is not known in format 1"),
        ("input_size", 0, '"input_size" must be a whole number of at least 1, found 0'),
        ("input_size", "64", '"input_size" must be a whole number of at least 1'),
        ("num_classes", True, '"num_classes" must be a whole number of at least 1, found True'),
        ("provenance", None, '"provenance" must be a JSON object, found None'),
        ("alpha", -1, '"alpha" must be a number of at least 0, found -1'),
        ("alpha", "2", '"alpha" must be a number of at least 0'),
        pytest.param("alpha", 10**400, '"alpha" must be a number of at least 0, found 1000', id="huge alpha"),
        ("candidates", [], '"candidates" must list different bit-widths, found \\[\\]'),
        ("candidates", [4, 3, 2, 2], '"candidates" must list different bit-widths'),
        ("candidates", {"2": 1}, '"candidates" must list different bit-widths'),
        ("candidates", [4, 3, 2, 5], "layer 'conv', weight steps: no step at 5 bits, which is a candidate"),
        ("candidates", [4, 3], "layer 'conv', weight steps: a step at '2' bits, which is not a candidate"),
        ("candidates", [4.0, 3, 2], "layer 'conv', weight steps: no step at 4.0 bits"),
        ("layers", {}, '"layers" must list at least one layer by name'),
        ("layers", [], '"layers" must list at least one layer by name'),
        ("layers/conv", 3, "layer 'conv': must be a JSON object, found 3"),
        ("layers/conv/macs", 0, "layer 'conv': \"macs\" must be a whole number of at least 1, found 0"),
        ("layers/conv/macs_limpq", 1.5, "layer 'conv': \"macs_limpq\" must be a whole number"),
        ("layers/conv/weights", -1, "layer 'conv': \"weights\" must be a whole number"),
        ("layers/conv/inputs", None, "layer 'conv': \"inputs\" must be a whole number of at least 1, found None"),
        ("layers/conv/signed", 0, "layer 'conv': \"signed\" must be true or false, found 0"),
        ("layers/conv/fixed", MISSING, "layer 'conv': \"fixed\" is missing"),
        ("layers/conv/fixed", {"weight": 8, "activation": 8}, "layer 'conv': '(weight|activation)_steps' is not known"),
        ("layers/conv/weight_steps", MISSING, "layer 'conv': \"weight_steps\" is missing"),
        ("layers/conv/weight_steps", [1], "layer 'conv', weight steps: must give a step for each bit-width"),
        (
            "layers/conv/activation_steps/3",
            MISSING,
            "layer 'conv', activation steps: no step at 3 bits, which is a cand",
        ),
        (
            "layers/conv/activation_steps/03",
            1.0,
            "layer 'conv', activation steps: a step at '03' bits, which is not a ca",
        ),
        ("layers/conv/activation_steps/3", 0, "activation steps of layer 'conv': the step at 3 bits must be a number"),
        (
            "layers/conv/activation_steps/3",
            None,
            "activation steps of layer 'conv': the step at 3 bits must be a number",
        ),
        ("layers/head/fixed", None, "layer 'head': \"(weight|activation)_steps\" is missing"),
        ("layers/head/fixed", 8, 'layer \'head\': "fixed" needs "weight" and "activation" bits, found 8'),
        ("layers/head/fixed/weight", 9, "layer 'head': \"fixed\": weight bits of 9 cannot be"),
        ("layers/head/stride", 1, "layer 'head': 'stride' is not known in format 1"),
    ],
)
def test_a_fault_in_the_file_is_refused_with_the_file_and_the_place(indicators, where, value, because):
    content = copy.deepcopy(indicators.to_json())
    *path, key = where.split("/")
    parent = content
    for part in path:
        parent = parent[part]
    if value is MISSING:
        del parent[key]
    else:
        parent[key] = value
    with pytest.raises(ArtifactFormatError, match=f"^out/indicators.json: .*{because}"):
        Indicators.from_json(content, "out/indicators.json")


@pytest.mark.parametrize("content", [None, [], 1, "indicators"])
def test_json_that_is_no_object_is_not_indicators(content):
    with pytest.raises(ArtifactFormatError, match=r"^indicators.json: indicators are a JSON object, found"):
        Indicators.from_json(content)


def test_a_file_that_is_not_json_is_refused_with_its_path(tmp_path):
    path = tmp_path / "indicators.pkl"
    path.write_bytes(b"\x80\x04\x95")
    with pytest.raises(ArtifactFormatError, match=r"indicators.pkl is not JSON: .*is this the right file"):
        Indicators.load(path)


# Magnitudes


@pytest.fixture
def measured(indicators):
    return replace(indicators, weight_magnitudes={"conv": 0.5}, activation_magnitudes={"conv": 0.1})


@pytest.fixture
def draw_measured(random_network):
    """A function from a seed to a network of four layers with magnitudes from 0.01 to 100."""

    def draw(seed):
        rng = random.Random(seed)
        indicators = random_network(rng)
        drawn = [{name: 10 ** rng.uniform(-2, 2) for name in indicators.weight_steps} for _ in range(2)]
        return replace(indicators, weight_magnitudes=drawn[0], activation_magnitudes=drawn[1])

    return draw


def test_importance_with_magnitudes_is_the_squared_relative_step_of_each_part_by_hand(measured):
    # Activations: (0.05 / 0.1)^2 = 0.25; weights: (0.3 / 0.5)^2 = 0.36.
    assert measured.importance("conv", LayerBits(3, 4), 2.0) == pytest.approx(0.25 + 2 * 0.36)
    assert measured.importance("conv", LayerBits(3, 4), 0.0) == pytest.approx(0.25)
    assert measured.importance("conv", LayerBits(2, 2), 1.0) == pytest.approx(25 + 0.64)
    with pytest.raises(PolicyError, match=r"^layer 'conv' learned no weight step at 6 bits; choose from 2, 3, 4$"):
        measured.importance("conv", LayerBits(6, 4), 2.0)


def test_indicators_with_magnitudes_survive_their_file(measured, tmp_path):
    measured.save(tmp_path / "indicators.json")
    again = Indicators.load(tmp_path / "indicators.json")
    assert again == measured
    assert (again.weight_magnitudes, again.activation_magnitudes) == ({"conv": 0.5}, {"conv": 0.1})


def test_the_file_holds_magnitudes_of_searched_layers_and_only_where_they_were_measured(indicators, measured):
    plain, content = indicators.to_json(), measured.to_json()
    assert content["layers"]["conv"].pop("weight_magnitude") == 0.5
    assert content["layers"]["conv"].pop("activation_magnitude") == 0.1
    assert content == plain


def test_a_file_from_before_magnitudes_is_read_and_means_the_bare_steps(indicators):
    content = json.loads(json.dumps(indicators.to_json()))
    assert "magnitude" not in json.dumps(content)
    again = Indicators.from_json(content)
    assert (again.weight_magnitudes, again.activation_magnitudes) == ({}, {})
    assert again.importance("conv", LayerBits(3, 4), 2.0) == pytest.approx(0.05 + 2 * 0.3)


@pytest.mark.parametrize(
    ("weights", "activations", "kind"),
    [
        ({"a": 0.1}, {"a": 0.1, "b": 0.1}, "weight"),
        ({"a": 0.1, "b": 0.1}, {"b": 0.1}, "activation"),
        ({"a": 0.1, "b": 0.1}, {}, "activation"),
        ({}, {"a": 0.1, "b": 0.1}, "weight"),
        ({"a": 0.1, "b": 0.1, "head": 0.1}, {"a": 0.1, "b": 0.1}, "weight"),
        ({"a": 0.1, "b": 0.1}, {"a": 0.1, "c": 0.1}, "activation"),
    ],
)
def test_magnitudes_of_some_layers_only_are_refused(network, weights, activations, kind):
    indicators = network({"a": {2: 0.1}, "b": {2: 0.1}}, fixed={"head": (8, 8)})
    message = f"{kind} magnitudes must be given for every searched layer and no other, or for none"
    with pytest.raises(ArtifactFormatError, match=f"^{message}$"):
        replace(indicators, weight_magnitudes=weights, activation_magnitudes=activations)
    content = indicators.to_json()
    for key, given in (("weight_magnitude", weights), ("activation_magnitude", activations)):
        for name, magnitude in given.items():
            if name in ("a", "b"):
                content["layers"][name][key] = magnitude
    if set(weights) <= {"a", "b"} >= set(activations):
        with pytest.raises(ArtifactFormatError, match=f"^out/indicators.json: {message}$"):
            Indicators.from_json(content, "out/indicators.json")


def test_a_magnitude_of_a_fixed_layer_is_not_known_to_the_file(measured):
    content = measured.to_json()
    content["layers"]["head"]["weight_magnitude"] = 0.1
    message = "^x.json: layer 'head': 'weight_magnitude' is not known in format 1$"
    with pytest.raises(ArtifactFormatError, match=message):
        Indicators.from_json(content, "x.json")


@pytest.mark.parametrize("kind", ["weight", "activation"])
@pytest.mark.parametrize(
    "magnitude",
    [0, 0.0, -0.1, True, math.nan, math.inf, "0.1", None, [0.1], pytest.param(10**400, id="huge")],
)
def test_a_magnitude_that_is_no_number_above_zero_is_refused_with_the_layer(measured, kind, magnitude):
    message = f"layer 'conv': the {kind} magnitude must be a number above 0, found "
    found = re.escape(repr(magnitude)[:4])
    with pytest.raises(ArtifactFormatError, match=f"^{message}{found}"):
        replace(measured, **{f"{kind}_magnitudes": {"conv": magnitude}})
    content = measured.to_json()
    content["layers"]["conv"][f"{kind}_magnitude"] = magnitude
    with pytest.raises(ArtifactFormatError, match=f"^out/indicators.json: {message}{found}"):
        Indicators.from_json(content, "out/indicators.json")


def test_magnitudes_cannot_be_changed(measured):
    with pytest.raises(TypeError, match="does not support item assignment"):
        measured.weight_magnitudes["conv"] = 1.0


def test_leaving_outliers_out_keeps_the_magnitudes_and_judges_by_the_steps(network):
    indicators = network({"conv": {4: 0.3, 3: 0.2, 2: 0.4}}, {"conv": {4: 0.1}})
    indicators = replace(indicators, weight_magnitudes={"conv": 7.0}, activation_magnitudes={"conv": 3.0})
    kept, outliers = indicators.without_outliers()
    assert outliers == (Outlier("conv", "weight", 3, 0.2, 0.3),)
    assert (kept.weight_magnitudes, kept.activation_magnitudes) == ({"conv": 7.0}, {"conv": 3.0})


@pytest.mark.parametrize("seed", range(20))
def test_a_search_with_magnitudes_matches_brute_force(draw_measured, every_policy, seed):
    indicators = draw_measured(seed)
    # The same network as one without magnitudes, whose "steps" are the importances themselves.
    relative = {
        f"{kind}_steps": {
            name: {bits: step * step / magnitudes[name] / magnitudes[name] for bits, step in of_layer.items()}
            for name, of_layer in steps.items()
        }
        for kind, steps, magnitudes in (
            ("weight", indicators.weight_steps, indicators.weight_magnitudes),
            ("activation", indicators.activation_steps, indicators.activation_magnitudes),
        )
    }
    outcomes = every_policy(replace(indicators, **relative, weight_magnitudes={}, activation_magnitudes={}))
    rng = random.Random(f"budgets {seed}")
    for bitops in (int(outcomes.bitops[rng.randrange(len(outcomes.bitops))]) for _ in range(3)):
        plan = search(indicators, Budget(bitops=bitops))
        best = outcomes.objective[outcomes.bitops <= bitops].min()
        assert plan.objective == pytest.approx(best, rel=1e-9)
        assert np.isclose(outcomes.objective[outcomes.bitops == plan.bitops], plan.objective, rtol=1e-9).any()


@pytest.mark.parametrize("seed", range(10))
def test_the_scale_of_a_tensor_changes_no_policy_where_its_magnitude_was_measured(draw_measured, seed):
    indicators = draw_measured(seed)
    rng = random.Random(f"scale {seed}")
    scales = {name: 2.0 ** rng.randint(-8, 8) for name in indicators.activation_steps}
    scaled_steps = {
        name: {bits: step * scales[name] for bits, step in of_layer.items()}
        for name, of_layer in indicators.activation_steps.items()
    }
    scaled_magnitudes = {name: value * scales[name] for name, value in indicators.activation_magnitudes.items()}
    scaled = replace(indicators, activation_steps=scaled_steps, activation_magnitudes=scaled_magnitudes)
    bare = replace(indicators, activation_steps=scaled_steps, weight_magnitudes={}, activation_magnitudes={})
    for budget in map(Budget, ("w2a3", "w3a3", "w3a4", "w4a3")):
        expected, found = search(indicators, budget), search(scaled, budget)
        assert (found.policy, found.objective) == (expected.policy, expected.objective)
    assert bare.importance("layer0", LayerBits(2, 2), 1.0) != scaled.importance("layer0", LayerBits(2, 2), 1.0)
