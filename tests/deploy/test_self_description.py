"""Tests of what an exported network says of how it takes pictures."""

import re
from functools import partial

import pytest
import timm
import torch
from torch import nn

from limpq_hub import Policy, export, to_quantized
from limpq_hub.deploy.self_description import SelfDescription
from limpq_hub.errors import OutputError
from limpq_hub.quant.profile import profile_module


@pytest.mark.parametrize(
    ("crop_mode", "kind", "size"),
    [
        ("center", "BitImageProcessor", {"shortest_edge": 36}),
        ("squash", "ViTImageProcessor", {"height": 32, "width": 32}),
    ],
)
def test_a_crop_of_timm_is_said_in_the_words_of_transformers(crop_mode, kind, size):
    overlay = {"input_size": (3, 32, 32), "crop_pct": 0.875, "crop_mode": crop_mode, "interpolation": "bicubic"}
    network = timm.create_model("test_resnet", pretrained_cfg_overlay=overlay).eval()
    images = torch.randn(2, 3, 32, 32)
    policy = Policy.uniform("test_resnet", profile_module(network, images), 4)
    described = SelfDescription.of(to_quantized(network, policy, example_input=images))
    preprocessor = described.preprocessor()
    assert (preprocessor["image_processor_type"], preprocessor["size"]) == (kind, size)
    assert (preprocessor["resample"], preprocessor["do_center_crop"]) == (3, crop_mode == "center")
    assert described.config()["architecture"] == "test_resnet"
    assert described.classes == ()


def test_padding_to_a_square_has_no_words_there_and_a_network_of_ones_own_no_pictures(exact_network):
    overlay = {"input_size": (3, 32, 32), "crop_mode": "border"}
    network = timm.create_model("test_resnet", pretrained_cfg_overlay=overlay).eval()
    assert SelfDescription.of(network).preprocessor() is None
    own = SelfDescription.of(exact_network()[0])
    assert (own.preprocessor(), own.spec, own.config()) == (None, None, {"architecture": "Block"})


@pytest.mark.parametrize(
    "arguments", [{"in_chans": 1}, {"norm_layer": partial(nn.BatchNorm2d, eps=1e-3)}], ids=["channels", "layer"]
)
@pytest.mark.parametrize("is_recorded", [True, False])
def test_what_timm_built_as_no_entry_can_hold_it_is_one_of_ones_own(arguments, is_recorded):
    network = timm.create_model("resnet18", **arguments).eval()
    if not is_recorded:  # as timm does before 1.0.31
        network._model_args = {}
    described = SelfDescription.of(network)
    has_own = "in_chans" in arguments or is_recorded
    assert (described.spec is None) == has_own
    if has_own:
        assert described.config() == {"architecture": "resnet18"}
        assert described.of_pictures((1, 32, 48)) == described
        recorded = f"resnet18 was built by timm with an argument that no entry .* can hold: '{next(iter(arguments))}'"
        assert re.search(
            recorded if is_recorded else "^its first convolution takes 1 channel, not 3$", described.unsaid
        )
    else:
        assert described.unsaid == ""


def test_pictures_of_one_channel_are_exported(tmp_path):
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    network, images = timm.create_model("test_resnet", in_chans=1).eval(), torch.randn(4, 1, 32, 32)
    policy = Policy.uniform("test_resnet", profile_module(network, images), 8)
    quantized = to_quantized(network, policy, example_input=images).eval()
    assert export(quantized, tmp_path / "out", images=[images]).parity.pictures == 4
    with pytest.raises(
        OutputError, match="does not say what it takes: .*('in_chans'|takes 1 channel, not 3).*; give images="
    ):
        export(quantized, tmp_path / "out")
