"""Tests of what an exported network says of how it takes pictures."""

import pytest
import timm
import torch

from limpq_hub import Policy, to_quantized
from limpq_hub.deploy.self_description import SelfDescription
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
