"""A timm network on the meta device: its shapes without its weights, built in a moment whatever its size."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from torch import nn

from limpq_hub.errors import UnknownModelError, UnsupportedLayerError, quoted
from limpq_hub.zoo.timm_network import timm_network


def network_on_meta(name: str, *, num_classes: int | None = None, input_size: int | None = None) -> nn.Module:
    """Return a timm network in eval mode, on the meta device.

    Args:
        name: timm's, with or without a tag.
        num_classes: outputs of the classifier; as timm has it if None.
        input_size: height and width in pixels; as timm has it if None.

    Raises:
        UnknownModelError: timm has no network of that name, or no such tag; names the nearest ones.
        UnsupportedLayerError: the network cannot be built for that size.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        advice = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() names them"
        raise UnknownModelError(f"timm has no network {quoted(name)}; {advice}")
    try:
        known = timm.get_pretrained_cfg(name)
    except RuntimeError:
        architecture = name.partition(".")[0]
        tags = ", ".join(timm.list_pretrained(f"{architecture}.*")[:5])
        raise UnknownModelError(f"timm has no weights {quoted(name)}; give {architecture} alone, or {tags}") from None
    size = input_size or (known.input_size[-1] if known is not None else 224)

    def build() -> nn.Module:
        return timm_network(name, input_size=size, pretrained=False, num_classes=num_classes)

    try:
        with torch.device("meta"):
            network = build()
    except (NotImplementedError, RuntimeError):  # it reads a tensor while it is built
        network = build()
    except (AssertionError, TypeError, ValueError) as error:
        raise UnsupportedLayerError(
            f"timm cannot build {name} for {size} x {size} pixels: {quoted(str(error))}; leave --input-size out"
        ) from error
    return network.to("meta").eval()


def input_shape_of(network: nn.Module) -> tuple[int, int, int]:
    """Return (channels, height, width) of one image, as timm has it."""
    config: Any = network.pretrained_cfg
    channels, height, width = config["input_size"]
    return channels, height, width
