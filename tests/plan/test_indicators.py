"""Indicators: what is valid, the outlier ban, and the file."""

from __future__ import annotations

import json

import pytest

from limpq_hub.errors import ArtifactFormatError, ArtifactVersionError, PolicyError
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.outliers import Outlier


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
    cleaned, outliers = indicators.without_outliers
    assert outliers == tuple(Outlier("conv", kind, *entry) for entry in banned)
    left = {bits: step for bits, step in steps.items() if bits not in {entry[0] for entry in banned}}
    assert getattr(cleaned, f"{kind}_steps") == {"conv": left}
    assert getattr(indicators, f"{kind}_steps") == {"conv": steps}


def test_outliers_of_every_layer_are_reported(network):
    steps = {name: {4: 0.3, 3: 0.2, 2: 0.4} for name in ("a", "b")}
    _, outliers = network(steps).without_outliers
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
        (
            {"conv": {2: 0.1}},
            {},
            "layer 'conv' has no activation steps; train them with accelerate launch -m limpq_hub.train.indicators",
        ),
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
        "format": 2, "model": "toynet", "input_size": 32, "num_classes": 10, "candidates": [4, 3, 2], "alpha": 1.5,
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


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (None, "indicators are a JSON object, found None"),
        (
            {"format": 3},
            "format 3 is not one of the formats 1 and 2 that this version of limpq-hub reads; upgrade it, or export "
            "the indicators again",
        ),
    ],
)
def test_a_fault_in_the_file_is_refused_with_the_name_of_the_file(content, because):
    for arguments, name in (([], "indicators.json"), (["out/found.json"], "out/found.json")):
        with pytest.raises(ArtifactFormatError, match=f"^{name}: {because}$"):
            Indicators.from_json(content, *arguments)


@pytest.mark.parametrize("step", [0, None])
def test_a_step_in_the_file_that_cannot_be_is_refused_with_the_file_and_the_place(indicators, step):
    content = indicators.to_json()
    content["layers"]["conv"]["activation_steps"]["3"] = step
    message = f"activation steps of layer 'conv': the step at 3 bits must be a number above 0, found {step}"
    with pytest.raises(ArtifactFormatError, match=f"^out/indicators.json: {message}$"):
        Indicators.from_json(content, "out/indicators.json")


def test_a_file_that_is_not_json_is_refused_with_its_path(tmp_path):
    path = tmp_path / "indicators.pkl"
    path.write_bytes(b"\x80\x04\x95")
    with pytest.raises(ArtifactFormatError, match=r"indicators.pkl is not JSON: .*is this the right file"):
        Indicators.load(path)


def test_indicators_of_another_format_are_told_apart_from_damaged_ones(network):
    content = network({"a": {2: 0.4, 4: 0.2}}).to_json()
    with pytest.raises(ArtifactVersionError, match="upgrade it"):
        Indicators.from_json(content | {"format": 3})
    with pytest.raises(ArtifactFormatError) as caught:
        Indicators.from_json(content | {"layers": {}})
    assert not isinstance(caught.value, ArtifactVersionError)
