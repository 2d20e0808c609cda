"""Names of timm's networks: what timm says of one, or which are meant where it has none of that name."""

from __future__ import annotations

import difflib

import timm
from timm.models import PretrainedCfg

from limpq_hub.errors import UnknownModelError, quoted


def known_config(name: str) -> PretrainedCfg | None:
    """Return what timm says of a network, None where it says nothing.

    Args:
        name: timm's, with or without a tag.

    Raises:
        UnknownModelError: timm has no network of that name, or no such tag; names the nearest ones.
    """
    if name.startswith(("hf-hub:", "local-dir:")):
        raise UnknownModelError(
            f"{quoted(name)} is where weights are: give the timm architecture, for example resnet18"
        )
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.lower(), timm.list_models(), n=3)
        advice = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() names them"
        raise UnknownModelError(f"timm has no network {quoted(name)}; {advice}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:  # the architecture is there, the tag is not
        architecture = name.partition(".")[0]
        tags = ", ".join(timm.list_pretrained(f"{architecture}.*")[:5])
        raise UnknownModelError(f"timm has no weights {quoted(name)}; give {architecture} alone, or {tags}") from None
