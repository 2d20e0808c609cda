"""Which network an artifact is for, in words: what two entries have in common of which one may replace the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limpq_hub.plan.jsonfile import check_shape
from limpq_hub.zoo.model_args import ModelArgument, typed_text


def network_title(architecture: str, input_size: int, num_classes: int, model_args: Mapping[str, ModelArgument]) -> str:
    """Return the network in words; `input_size` in pixels."""
    named = " ".join([architecture, *typed_text(model_args)])
    return f"{named} at {input_size} pixels with {num_classes} classes"


def title_in(config: Mapping[str, Any], name: str) -> str:
    """Return the network in words that the `config.json` of an artifact is for.

    Args:
        name: what to call the artifact in an error.

    Raises:
        ArtifactFormatError: the content does not name one.
    """
    content = {"model_args": {}, **config}  # which came with format 3
    shape = {"architecture": str, "input_size": int, "num_classes": int, "model_args": dict}
    check_shape(content, shape, f"{name}/config.json")
    return network_title(**{key: content[key] for key in shape})
