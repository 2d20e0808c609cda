"""timm networks at any input size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from torch import nn

# What timm raises for arguments or sizes that a network cannot have; it checks few of them by itself.
BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def timm_network(
    architecture: str, *, input_size: int, config: Mapping[str, object] | None = None, **options: Any
) -> nn.Module:
    """Return a timm network that takes images of a size.

    Networks with a table of positions (vision transformers, Swin) are built for one size; others take any.

    Args:
        architecture: timm's name.
        input_size: height and width in pixels.
        config: what else its `pretrained_cfg` says, in place of timm's own.
        options: of `timm.create_model`.
    """
    known = timm.get_pretrained_cfg(architecture)
    if known is not None and known.fixed_input_size and known.input_size[-1] != input_size:
        options["img_size"] = input_size
    overlay = {"input_size": (3, input_size, input_size), **(config or {})}
    network: Any = timm.create_model(architecture, pretrained_cfg_overlay=overlay, **options)
    if not hasattr(network, "_model_args"):
        network._model_args = {name: value for name, value in options.items() if not name.startswith("pretrained")}
    return network


def arguments_of(network: nn.Module) -> Mapping[str, Any]:
    """Return what `timm.create_model` was given beside the name: its own record, or that of `timm_network`.

    timm keeps that record since 1.0.31: of a network that an older one built, only `timm_network` knows the arguments.
    """
    return getattr(network, "_model_args", {})
