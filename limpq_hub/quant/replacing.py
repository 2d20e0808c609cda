"""Put other modules in the place of some of a network, wherever it holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def replace_everywhere_(network: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Put the replacement of each module wherever it is registered, under all of its names, and in what else holds it.

    Which are plain attributes, and lists, tuples and dictionaries of any depth.

    Args:
        replacements: by the module that gives way; none is the network itself, or a part of another.
    """
    if not replacements:
        return
    for owner in list(network.modules()):
        attributes = vars(owner)
        for name, held in list(attributes.items()):
            attributes[name] = _replaced(held, replacements)


def _replaced(held: Any, replacements: Mapping[nn.Module, nn.Module]) -> Any:
    """Return what is held with the replacements in it; lists and dictionaries themselves, changed."""
    if isinstance(held, nn.Module):
        return replacements.get(held, held)
    if isinstance(held, dict):
        for key, value in list(held.items()):
            held[key] = _replaced(value, replacements)
    elif isinstance(held, list):
        held[:] = [_replaced(value, replacements) for value in held]
    elif type(held) is tuple:
        parts = tuple(_replaced(value, replacements) for value in held)
        return held if all(new is old for new, old in zip(parts, held, strict=True)) else parts
    return held
