"""timm networks at any input size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from torch import nn


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
    return timm.create_model(architecture, pretrained_cfg_overlay=overlay, **options)
