"""Put other modules in the place of some of a network, wherever it holds them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any

from torch import nn


def replace_everywhere_(network: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Put the replacement of each module wherever it is registered, under all of its names, and in what else holds it.

    What else holds it are plain attributes, and lists, tuples and values of dictionaries, of any depth. A bound method
    of a module, such as `self.run = self.norm.forward`, becomes that of its replacement.

    Args:
        replacements: by the module that gives way; none is the network itself, or a part of another.
    """
    if not replacements:
        return
    seen: set[int] = set()
    for owner in list(network.modules()):
        _replace_in_(vars(owner), replacements, seen)


def _replace_in_(held: dict[Any, Any] | list[Any], replacements: Mapping[nn.Module, nn.Module], seen: set[int]) -> None:
    """Replace modules in a dictionary or list, and in those inside; only what changes is written."""
    if id(held) in seen:
        return
    seen.add(id(held))
    for key, value in list(held.items() if isinstance(held, dict) else enumerate(held)):
        new = _replaced(value, replacements, seen)
        if new is not value:
            held[key] = new


def _replaced(value: Any, replacements: Mapping[nn.Module, nn.Module], seen: set[int]) -> Any:
    """Return what takes the place of a value: the value itself where nothing in it is replaced, or it is changed."""
    if isinstance(value, nn.Module):
        return replacements.get(value, value)
    if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module) and value.__self__ in replacements:
        return getattr(replacements[value.__self__], value.__name__, value)
    if isinstance(value, dict | list):
        _replace_in_(value, replacements, seen)
    elif isinstance(value, tuple):
        parts = [_replaced(part, replacements, seen) for part in value]
        if any(new is not old for new, old in zip(parts, value, strict=True)):
            return type(value)._make(parts) if hasattr(value, "_make") else tuple(parts)
    return value
