"""Tests of the bit configurations of HAWQ: its module names by hand, and shared quantizers."""

import pytest

from limpq_hub.errors import PolicyError
from limpq_hub.interop import write_policy_as

BASIC = {
    "quant_input": 8,
    "quant_init_block_convbn": 8,
    "quant_act_int32": 16,
    "stage1.unit1.quant_act": 3,
    "stage1.unit1.quant_convbn1": 2,
    "stage1.unit1.quant_act1": 4,
    "stage1.unit1.quant_convbn2": 3,
    "stage1.unit1.quant_act_int32": 16,
    "stage2.unit1.quant_act": 5,
    "stage2.unit1.quant_convbn1": 4,
    "stage2.unit1.quant_act1": 6,
    "stage2.unit1.quant_convbn2": 5,
    "stage2.unit1.quant_identity_convbn": 6,
    "stage2.unit1.quant_act_int32": 16,
    "quant_act_output": 7,
    "quant_output": 8,
}


def test_resnet18_has_the_names_of_hawq(policy, small_resnet):
    content, notes = write_policy_as(policy("resnet18", small_resnet, 224), "hawq")
    assert content == {"bit_config_resnet18_limpq": BASIC}
    assert notes == ()


def test_resnet50_is_hawqs_resnet50b_with_three_convolutions_in_a_unit(policy):
    layers = {
        "conv1": (8, 8),
        "layer3.5.conv1": (2, 3),
        "layer3.5.conv2": (3, 4),
        "layer3.5.conv3": (4, 5),
        "fc": (8, 8),
    }
    content, notes = write_policy_as(policy("resnet50", layers), "hawq")
    assert content == {
        "bit_config_resnet50b_limpq": {
            "quant_input": 8,
            "quant_init_convbn": 8,
            "quant_act_int32": 16,
            "stage3.unit6.quant_act": 3,
            "stage3.unit6.quant_convbn1": 2,
            "stage3.unit6.quant_act1": 4,
            "stage3.unit6.quant_convbn2": 3,
            "stage3.unit6.quant_act2": 5,
            "stage3.unit6.quant_convbn3": 4,
            "stage3.unit6.quant_act_int32": 16,
            "quant_act_output": 8,
            "quant_output": 8,
        }
    }
    assert notes == ()


@pytest.mark.parametrize(("first", "downsample"), [(5, 3), (3, 5)])
def test_a_shared_quantizer_gets_the_larger_bits_and_a_note(policy, small_resnet, first, downsample):
    small_resnet["layer2.0.conv1"] = (4, first)
    small_resnet["layer2.0.downsample.0"] = (6, downsample)
    content, notes = write_policy_as(policy("resnet18", small_resnet), "hawq")
    assert content == {"bit_config_resnet18_limpq": BASIC}
    assert notes == (
        f"activations of layer2.0.conv1 ({first} bits) and layer2.0.downsample.0 ({downsample} bits) "
        "share one quantizer in HAWQ: it gets 5 bits",
    )


def test_another_picture_size_is_noted(policy, small_resnet):
    _, notes = write_policy_as(policy("resnet18", small_resnet, 64), "hawq")
    assert notes == ("HAWQ's network is for pictures of 224 pixels, this policy for 64: change its final pooling",)


def test_another_network_gets_names_of_its_own_and_a_note(policy):
    content, notes = write_policy_as(
        policy("mobilenetv1_100", {"conv_stem": (8, 8), "blocks.0.0.conv_dw": (3, 4)}), "hawq"
    )
    assert content == {
        "bit_config_mobilenetv1_100_limpq": {
            "conv_stem.quant_layer": 8,
            "conv_stem.quant_act": 8,
            "blocks.0.0.conv_dw.quant_layer": 3,
            "blocks.0.0.conv_dw.quant_act": 4,
        }
    }
    assert notes == (
        "HAWQ has no network with the layers of timm's mobilenetv1_100: name the modules of yours <layer>.quant_layer "
        "and <layer>.quant_act",
    )


@pytest.mark.parametrize("layer", ["layer1.0.conv1.extra", "layer1.0.downsample.1", "head", "xlayer1.0.conv1"])
def test_a_layer_that_hawqs_network_has_not_is_named(policy, layer):
    with pytest.raises(PolicyError, match=rf"^HAWQ's resnet50b has nothing for layer '{layer}'; is the model right\?$"):
        write_policy_as(policy("resnet50", {layer: (4, 4)}), "hawq")
