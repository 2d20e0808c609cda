"""The roles of the layers of timm's mobile networks, beside the names that timm gives them."""

from __future__ import annotations

import pytest
import timm
import torch

from limpq_hub.quant.profile import measure_costs

ROLE_OF_TIMM_NAME = {
    "conv_dw": "depthwise",
    "conv_pw": "expand",
    "conv_pwl": "project",
    "conv_reduce": "squeeze",
    "conv_expand": "excite",
}


@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_efficientnet_lite0", "efficientnet_b0"])
def test_the_layers_of_inverted_residuals_have_the_roles_that_timm_names_them_for(name):
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False)
    costs = measure_costs(network, (3, 64, 64))
    in_blocks = {layer: cost.role for layer, cost in costs.items() if layer.startswith("blocks.")}
    # The first block does not expand: its pointwise layer projects.
    expected = {layer: ROLE_OF_TIMM_NAME[layer.rpartition(".")[2]] for layer in in_blocks}
    expected |= {layer: "project" for layer in expected if layer == "blocks.0.0.conv_pw"}
    assert in_blocks == expected


def test_a_head_behind_the_pooling_is_no_excitation_and_a_projection_may_keep_the_width():
    with torch.device("meta"):
        network = timm.create_model("mobilenetv3_small_100", pretrained=False)
    costs = measure_costs(network, (3, 64, 64))
    # Behind the last block; the input of the head is pooled. The first block projects 16 channels to 16.
    usual = ROLE_OF_TIMM_NAME | {"conv": "expand", "conv_head": None, "conv_stem": None, "classifier": None}
    expected = {layer: usual[layer.rpartition(".")[2]] for layer in costs} | {"blocks.0.0.conv_pw": "project"}
    assert {layer: cost.role for layer, cost in costs.items()} == expected
    assert list(expected.values()).count("excite") == list(expected.values()).count("squeeze") == 9


def test_layers_with_a_wide_kernel_or_of_equal_width_have_no_role():
    network = timm.create_model("resnet18", pretrained=False)
    costs = measure_costs(network, (3, 64, 64))
    assert {layer: cost.role for layer, cost in costs.items() if cost.role} == {
        f"layer{stage}.0.downsample.0": "expand" for stage in (2, 3, 4)
    }
