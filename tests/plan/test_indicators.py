"""Indicators: what is valid, the outlier ban, and the file."""

from __future__ import annotations

import copy
import json

import pytest

from limpq_hub.errors import ArtifactFormatError, PolicyError
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
