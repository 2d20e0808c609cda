"""A timm network on the meta device: its shapes without its weights, built in a moment whatever its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from limpq_hub.errors import UnsupportedLayerError, quoted
from limpq_hub.zoo.model_args import ModelArgument, typed_text
from limpq_hub.zoo.timm_names import known_config
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
    known = known_config(name)
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


def number_count(network: nn.Module) -> int:
    """Return how many numbers the parameters and buffers of a network are."""
    return sum(tensor.numel() for tensors in (network.parameters(), network.buffers()) for tensor in tensors)


def input_shape_of(network: nn.Module) -> tuple[int, int, int]:
    """Return (channels, height, width) of one image, as timm has it."""
    config: Any = network.pretrained_cfg
    channels, height, width = config["input_size"]
    return channels, height, width
