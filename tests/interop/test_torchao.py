"""Tests of the configurations of torchao: the tagged JSON that its reader takes, walked as it walks it."""

import pytest

from limpq_hub.interop import write_policy_as


def walk(tagged):
    """What torchao's reader makes of tagged JSON: (class, {field: value}), or a dtype as its name."""
    assert set(tagged) >= {"_type", "_data"}
    if tagged["_type"] == "torch.dtype":
        return f"torch.{tagged['_data']}"
    fields = {}
    for name, value in tagged["_data"].items():
        nested = {key: walk(inner) for key, inner in value.items()} if "_type" not in value else walk(value)
        fields[name] = nested
    return tagged["_type"], tagged["_version"], fields


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_weight_bit_width_has_its_own_type(policy, bits):
    content, _ = write_policy_as(policy("resnet18", {"conv1": (bits, 8)}), "torchao")
    weights_only = ("IntxWeightOnlyConfig", 2, {"weight_dtype": f"torch.int{bits}"})
    assert walk(content) == ("FqnToConfig", 1, {"fqn_to_config": {"conv1": weights_only}})


def test_modules_are_named_in_full_and_activations_noted(policy, small_resnet):
    content, notes = write_policy_as(policy("resnet18", small_resnet), "torchao")
    _, _, fields = walk(content)
    found = {name: config[2]["weight_dtype"] for name, config in fields["fqn_to_config"].items()}
    assert found == {name: f"torch.int{weight}" for name, (weight, _) in small_resnet.items()}
    assert notes == (
        "activations of 3, 4, 5, 6, 7, 8 bits stay in floating point, in every layer: "
        "torchao's configuration of a convolution is for its weights alone",
    )
