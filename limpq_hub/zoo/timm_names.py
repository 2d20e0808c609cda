"""Names of timm's networks: the configuration of a name, or the nearest names where timm does not have it."""

from __future__ import annotations

import difflib
import os

import timm
import torchvision
from timm.models import PretrainedCfg

from limpq_hub.errors import UnknownModelError, quoted

# What torchvision names and timm names otherwise. ResNet, VGG, DenseNet and ConvNeXt have one name in both.
_OF_TORCHVISION = {
    "efficientnet_v2_s": "tf_efficientnetv2_s",
    "efficientnet_v2_m": "tf_efficientnetv2_m",
    "efficientnet_v2_l": "tf_efficientnetv2_l",
    "mnasnet0_5": "mnasnet_050",
    "mnasnet0_75": "mnasnet_075",
    "mnasnet1_0": "mnasnet_100",
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "regnet_x_400mf": "regnetx_004_tv",
    "regnet_x_800mf": "regnetx_008",
    "regnet_x_1_6gf": "regnetx_016",
    "regnet_x_3_2gf": "regnetx_032",
    "regnet_x_8gf": "regnetx_080",
    "regnet_x_16gf": "regnetx_160",
    "regnet_x_32gf": "regnetx_320",
    "regnet_y_400mf": "regnety_004",
    "regnet_y_800mf": "regnety_008_tv",
    "regnet_y_1_6gf": "regnety_016",
    "regnet_y_3_2gf": "regnety_032",
    "regnet_y_8gf": "regnety_080_tv",
    "regnet_y_16gf": "regnety_160",
    "regnet_y_32gf": "regnety_320",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_v2_t": "swinv2_tiny_window8_256",
    "swin_v2_s": "swinv2_small_window8_256",
    "swin_v2_b": "swinv2_base_window8_256",
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
    "vit_h_14": "vit_huge_patch14_224",
}


def known_config(name: str) -> PretrainedCfg | None:
    """Return what timm says of a network, None where it says nothing.

    Args:
        name: timm's, with or without a tag.

    Raises:
        UnknownModelError: timm has no network of that name, or no such tag; names the nearest ones.
    """
    place = place_of_weights(name)
    if place is not None:
        raise UnknownModelError(
            f"{quoted(name)} is where weights are: give the timm architecture, for example {architecture_of(place)}"
        )
    if not timm.is_model(name):
        raise UnknownModelError(f"timm has no network {quoted(name)}; {naming_advice(name)}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:  # the architecture is there, the tag is not
        architecture = name.partition(".")[0]
        tags = ", ".join(timm.list_pretrained(f"{architecture}.*")[:5])
        raise UnknownModelError(f"timm has no weights {quoted(name)}; give {architecture} alone, or {tags}") from None


def place_of_weights(name: str) -> str | None:
    """Return the folder or repository, with its prefix, that was given where a network of timm is expected, or None."""
    if name.startswith(("hf-hub:", "local-dir:")):
        return name
    return f"local-dir:{name}" if os.path.isdir(name) and not timm.is_model(name) else None


def naming_advice(name: str) -> str:
    """Return what to type in place of a name that is no network of timm."""
    same = _OF_TORCHVISION.get(name)
    if same:
        return f"that is torchvision's name, timm's of the same architecture is {same}"
    if name in torchvision.models.list_models():
        return "torchvision has it; quantize a network that timm has not as a module: limpq_hub.to_supernet"
    close = difflib.get_close_matches(name.lower(), timm.list_models(), n=3)
    return f"did you mean {' or '.join(close)}?" if close else "timm.list_models() names them"


def architecture_of(source: str) -> str:
    """Return the architecture that a place for weights is named by, or resnet18 where its name is none.

    Args:
        source: "hf-hub:timm/mobilenetv3_small_100.lamb_in1k" is named by one, "local-dir:out/float" by none.
    """
    name = source.partition(":")[2].partition("@")[0].rpartition("/")[2].partition(".")[0]
    return name if timm.is_model(name) else "resnet18"
