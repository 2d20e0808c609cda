"""A JSON file of limpq-hub that was given where another one is read: what it is, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["policy", "plan", "indicators", "config", "metrics"]
Expected = Literal["policy", "indicators", "weights"]
_WHAT: dict[Kind, str] = {
    "policy": "a policy (the bits of each layer)",
    "plan": "a plan (what limpq search --json prints)",
    "indicators": "indicators (the importance of each layer)",
    "config": "the config.json of a folder",
    "metrics": "a metrics.json (what was measured of a network)",
}
_USE: dict[Kind, str] = {
    "policy": "limpq predict, limpq export, finetune and validate take it as --policy",
    "plan": "limpq predict, limpq export, finetune and validate take it as --policy",
    "indicators": "limpq search FILE --bitops w4a4 --output policy.json makes a policy of them",
    "config": "give that folder, as local-dir:FOLDER",
    "metrics": "it stands beside the file that is meant",
}
_EXPECTED: dict[Expected, str] = {
    "indicators": "a model such as resnet18, or an indicators.json, is expected here",
    "policy": "a policy.json is expected here",
    "weights": "the safetensors file of a float network is expected here",
}


def mistaken_for(expected: Expected, content: Mapping[str, Any]) -> str | None:
    """Return what parsed JSON is and what it is for, one line; None where it may be what is expected.

    Args:
        expected: "indicators", "policy" or "weights".
        content: as it was parsed; nothing in it was checked.
    """
    kind = _kind_of(content)
    return None if kind in (None, expected) else f"this is {_WHAT[kind]}, and {_EXPECTED[expected]}; {_USE[kind]}"


def _kind_of(content: Mapping[str, Any]) -> Kind | None:
    """Return the kind of a file by keys that no other one has, so that a damaged file is not taken for another."""
    layers = content.get("layers")
    if "policy" in content and "bound" in content:
        return "plan"
    if isinstance(layers, dict):
        if "candidates" in content and "alpha" in content:
            return "indicators"
        bits = {"weight", "activation"}
        whole = all(isinstance(layer, dict) and set(layer) == bits for layer in layers.values())
        return "policy" if layers and whole else None
    if isinstance(content.get("files"), dict):
        return "config"
    return "metrics" if "top1" in content or {"float", "joint"} <= set(content) else None
