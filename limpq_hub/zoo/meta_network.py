"""A timm network on the meta device: its shapes without its weights, built in a moment whatever its size."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import nn

from limpq_hub.errors import UnknownModelError, UnsupportedLayerError, quoted
from limpq_hub.zoo.model_args import ModelArgument, typed_text
from limpq_hub.zoo.timm_network import BUILD_ERRORS, timm_network


def network_on_meta(
    name: str,
    *,
    num_classes: int | None = None,
    input_size: int | None = None,
    model_args: Mapping[str, ModelArgument] | None = None,
) -> nn.Module:
    """Return a timm network in eval mode, on the meta device.

    Args:
        name: timm's, with or without a tag.
        num_classes: outputs of the classifier; as timm has it if None.
        input_size: height and width in pixels; as timm has it if None.
        model_args: of `limpq_hub.zoo.model_args`.

    Raises:
        UnknownModelError: timm has no network of that name, or no such tag; names the nearest ones.
        UnsupportedLayerError: the network cannot be built for that size, or with these arguments.
    """
    if name.startswith(("hf-hub:", "local-dir:")):
        raise UnknownModelError(
            f"{quoted(name)} is where weights are: give the timm architecture, for example resnet18"
        )
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

    arguments: dict[str, Any] = dict(model_args or {})

    def build() -> nn.Module:
        return timm_network(name, input_size=size, pretrained=False, num_classes=num_classes, **arguments)

    try:
        try:
            with torch.device("meta"):
                network = build()
        except RuntimeError:  # where a tensor is read while the network is built: on the meta device it has no values
            network = build()
    except BUILD_ERRORS as error:
        asked, option = " ".join([name, *typed_text(arguments)]), "--model-args" if arguments else "--input-size"
        raise UnsupportedLayerError(
            f"timm cannot build {asked} for {size} x {size} pixels: {quoted(str(error))}; leave {option} out"
        ) from error
    return network.to("meta").eval()


def input_shape_of(network: nn.Module) -> tuple[int, int, int]:
    """Return (channels, height, width) of one image, as timm has it."""
    config: Any = network.pretrained_cfg
    channels, height, width = config["input_size"]
    return channels, height, width
