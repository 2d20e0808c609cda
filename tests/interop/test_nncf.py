"""Tests of the configurations of NNCF: scopes that find their operation in NNCF's own names."""

import re

import pytest

from limpq_hub.interop import write_policy_as

# What NNCF 2.19 calls the operations of timm's resnet18.
OPERATIONS = {
    "conv1": "ResNet/NNCFConv2d[conv1]/conv2d_0",
    "layer1.0.conv1": "ResNet/Sequential[layer1]/BasicBlock[0]/NNCFConv2d[conv1]/conv2d_0",
    "layer1.0.conv2": "ResNet/Sequential[layer1]/BasicBlock[0]/NNCFConv2d[conv2]/conv2d_0",
    "layer2.0.conv1": "ResNet/Sequential[layer2]/BasicBlock[0]/NNCFConv2d[conv1]/conv2d_0",
    "layer2.0.conv2": "ResNet/Sequential[layer2]/BasicBlock[0]/NNCFConv2d[conv2]/conv2d_0",
    "layer2.0.downsample.0": "ResNet/Sequential[layer2]/BasicBlock[0]/Sequential[downsample]/NNCFConv2d[0]/conv2d_0",
    "fc": "ResNet/NNCFLinear[fc]/linear_0",
}
OTHERS = (
    "ResNet/ReLU[act1]/relu__0",
    "ResNet/Sequential[layer1]/BasicBlock[0]/NNCFBatchNorm2d[bn2]/batch_norm_0",
    "ResNet/Sequential[layer1]/BasicBlock[10]/NNCFConv2d[conv1]/conv2d_0",
    "ResNet/Sequential[layer11]/BasicBlock[0]/NNCFConv2d[conv1]/conv2d_0",
    "ResNet/Sequential[layer2]/BasicBlock[0]/Sequential[downsample]/NNCFBatchNorm2d[1]/batch_norm_0",
    "ResNet/NNCFConv2d[conv1]/ModuleDict[pre_ops]/UpdateWeight[0]/SymmetricQuantizer[op]/symmetric_quantize_0",
    "/nncf_model_input_0",
)


def matching(overrides, operation):
    """The overrides of one operation, found as NNCF finds them: `{re}` marks a pattern to search."""
    return [
        override
        for scope, override in overrides.items()
        if (re.search(scope.replace("{re}", ""), operation) if "{re}" in scope else scope == operation)
    ]


@pytest.mark.parametrize(("group", "place"), [("weights", 0), ("activations", 1)])
def test_each_operation_finds_the_bits_of_its_layer_and_no_others(policy, small_resnet, group, place):
    content, _ = write_policy_as(policy("resnet18", small_resnet), "nncf")
    overrides = content["compression"]["scope_overrides"][group]
    for layer, operation in OPERATIONS.items():
        assert matching(overrides, operation) == [{"bits": small_resnet[layer][place]}]
    assert [operation for operation in OTHERS if matching(overrides, operation)] == []


def test_the_rest_of_the_file_is_what_nncf_needs(policy, small_resnet):
    content, _ = write_policy_as(policy("resnet18", small_resnet, 64), "nncf")
    assert content["input_info"] == {"sample_size": [1, 3, 64, 64]}
    assert content["target_device"] == "TRIAL"
    assert content["compression"]["algorithm"] == "quantization"
    assert "input_info" not in write_policy_as(policy("resnet18", small_resnet), "nncf")[0]


def test_activations_that_differ_are_noted(policy, small_resnet):
    _, notes = write_policy_as(policy("resnet18", small_resnet), "nncf")
    assert notes == (
        "activations of 3, 4, 5, 6, 7, 8 bits are written for each layer, but NNCF 2.19 gives the inputs of all "
        "convolutions the same bits: set num_bits of its activation quantizers afterwards, or name them under "
        '"initializer", "precision", "bitwidth_per_scope"',
    )
    assert write_policy_as(policy("resnet18", {"conv1": (2, 4), "fc": (8, 4)}), "nncf")[1] == ()
