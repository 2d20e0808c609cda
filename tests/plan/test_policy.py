"""Bits by layer name: `LayerBits`, `Policy` and its JSON."""

from __future__ import annotations

import json

import pytest

from limpq_hub.errors import ArtifactVersionError, PolicyError
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy

POLICY = Policy("toynet", {"conv": LayerBits(3, 5), "head": LayerBits(8, 8)}, 32)


@pytest.mark.parametrize("bits", range(2, 9))
def test_layer_bits_take_every_width_from_2_to_8(bits):
    assert (LayerBits(bits, 2).weight, LayerBits(2, bits).activation) == (bits, bits)


@pytest.mark.parametrize("bits", [1, 9, 0, -2, 4.0, "4", True, None, pytest.param(10**5000, id="huge")])
def test_layer_bits_refuse_everything_else_and_say_which_side(bits):
    with pytest.raises(PolicyError, match=r"^weight bits of .* cannot be: use a whole number from 2 to 8"):
        LayerBits(bits, 4)
    with pytest.raises(PolicyError, match=r"^activation bits of .* cannot be: use a whole number from 2 to 8"):
        LayerBits(4, bits)


@pytest.mark.parametrize(("weight", "activation"), [(32, 32.0), (32.0, 32), (32, 8), (8, 32), (32, True)])
def test_both_sides_of_a_layer_in_float_are_32_and_whole(weight, activation):
    with pytest.raises(PolicyError, match=r"^(weight|activation) bits of .* cannot be: use a whole number from 2 to 8"):
        LayerBits(weight, activation)


def test_a_uniform_policy_leaves_no_layer_in_float():
    costs = {"conv": LayerCost(1, 1, 1, 1, signed=False)}
    with pytest.raises(PolicyError, match="^no policy leaves every layer in float: use whole numbers of bits from 2"):
        Policy.uniform("toynet", costs, 32)


def test_a_uniform_policy_leaves_fixed_layers_alone():
    costs = {
        "stem": LayerCost(1, 1, 1, 1, signed=True, fixed=LayerBits(8, 8)),
        "conv": LayerCost(1, 1, 1, 1, signed=False),
    }
    assert Policy.uniform("toynet", costs, 3, 4, 32) == Policy(
        "toynet", {"stem": LayerBits(8, 8), "conv": LayerBits(3, 4)}, 32
    )
    assert Policy.uniform("toynet", costs, 5).layers["conv"] == LayerBits(5, 5)


def test_a_policy_cannot_be_changed_not_even_through_the_mapping_it_was_made_from():
    layers = {"conv": LayerBits(2, 2)}
    policy = Policy("toynet", layers)
    layers["conv"] = LayerBits(8, 8)
    assert policy.layers["conv"] == LayerBits(2, 2)
    with pytest.raises(TypeError, match="does not support item assignment"):
        policy.layers["conv"] = LayerBits(8, 8)
    with pytest.raises(AttributeError, match="cannot assign to field 'model'"):
        policy.model = "other"


def test_a_policy_names_what_it_leaves_in_float_in_the_order_of_execution():
    in_float = LayerBits(32, 32)
    policy = Policy("toynet", {"table": in_float, "conv": LayerBits(8, 8), "bias": in_float})
    assert policy.in_float == ["table", "bias"]


def test_the_digest_depends_on_model_and_bits_but_not_on_the_layer_order():
    turned = Policy("toynet", dict(reversed(list(POLICY.layers.items()))))
    swapped = Policy("toynet", {"conv": LayerBits(5, 3), "head": LayerBits(8, 8)})
    other = Policy("othernet", POLICY.layers)
    assert POLICY.digest() == turned.digest()
    assert len({POLICY.digest(), swapped.digest(), other.digest()}) == 3
    assert len(POLICY.digest()) == 64


@pytest.mark.parametrize("policy", [POLICY, Policy("toynet", {"conv": LayerBits(2, 8)})])
def test_a_policy_survives_json(policy):
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_the_json_of_a_policy_is_what_other_tools_read():
    assert POLICY.to_json() == {
        "format": 1,
        "model": "toynet",
        "input_size": 32,
        "layers": {"conv": {"weight": 3, "activation": 5}, "head": {"weight": 8, "activation": 8}},
    }


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"format": "1"}, "not a policy of format 1: found format '1'"),
        ({"format": None}, "not a policy of format 1: found format None"),
        ({"format": True}, "not a policy of format 1: found format True"),
        ({"model": None}, 'a policy needs "model"'),
        ({"model": 3}, 'a policy needs "model"'),
        ({"layers": {}}, 'a policy needs "model"'),
        ({"layers": []}, 'a policy needs "model"'),
        ({"input_size": 0}, '"input_size" of a policy is pixels, a positive whole number: found 0'),
        ({"input_size": 32.0}, '"input_size" of a policy is pixels, a positive whole number: found 32.0'),
        ({"input_size": True}, '"input_size" of a policy is pixels, a positive whole number: found True'),
        ({"layers": {"conv": 4}}, 'layer \'conv\' needs exactly "weight" and "activation" bits: found 4'),
        ({"layers": {"conv": {"weight": 4}}}, "layer 'conv' needs exactly"),
        ({"layers": {"conv": {"weight": 4, "activation": 4, "bias": 4}}}, "layer 'conv' needs exactly"),
        ({"layers": {"conv": {"weight": 1, "activation": 4}}}, "layer 'conv': weight bits of 1 cannot be"),
        ({"layers": {"conv": {"weight": 4, "activation": "4"}}}, "layer 'conv': activation bits of '4' cannot be"),
    ],
)
def test_malformed_policy_json_is_refused_by_name(change, because):
    with pytest.raises(PolicyError, match=because):
        Policy.from_json({**POLICY.to_json(), **change})


@pytest.mark.parametrize("version", [0, 2, -1, 10**30])
def test_a_policy_of_another_format_is_told_with_what_to_do(version):
    with pytest.raises(ArtifactVersionError) as caught:
        Policy.from_json({**POLICY.to_json(), "format": version})
    assert str(caught.value) == f"not a policy of format 1: found format {version}; upgrade limpq-hub"


@pytest.mark.parametrize("content", [None, [], "policy", 1, 2])
def test_json_that_is_no_object_is_not_a_policy(content):
    with pytest.raises(PolicyError, match="not a policy of format 1: found format"):
        Policy.from_json(content)
