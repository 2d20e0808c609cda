"""Which modules of a network are layers that can be quantized."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from limpq_hub.errors import UnsupportedLayerError

QuantizableLayer: TypeAlias = _ConvNd | nn.Linear
LAYER_CLASSES = (_ConvNd, nn.Linear)
# They multiply inside one operation, where no quantizer can reach.
_CLOSED_CLASSES = (nn.RNNBase, nn.RNNCellBase, nn.Bilinear)


def layers_of(network: nn.Module) -> Iterator[tuple[str, QuantizableLayer]]:
    """Yield every convolution and linear layer that has a weight of its own, under its first name."""
    for name, module in network.named_modules():
        if isinstance(module, LAYER_CLASSES) and "weight" in module._parameters:
            yield name, module


def check_layers(network: nn.Module, exclude: Sequence[str] = ()) -> None:
    """Raise `UnsupportedLayerError` if the network has no layer, or one that cannot be quantized.

    Args:
        exclude: shell patterns of what stays in float.
    """
    refused: list[tuple[str, nn.Module, str]] = []
    for name, module in network.named_modules():
        if is_excluded(name, exclude):
            continue
        if isinstance(module, _CLOSED_CLASSES):
            refused.append((name, module, "multiplies inside one operation, out of a quantizer's reach"))
        elif isinstance(module, LAYER_CLASSES) and is_parametrized(module, "weight"):
            advice = f'torch.nn.utils.parametrize.remove_parametrizations(network.{name}, "weight")'
            refused.append((name, module, f"computes its weight anew at every call; keep it with {advice}"))
    if refused:
        first, module, reason = refused[0]
        more, patterns = "", [first]
        if len(refused) > 1:
            more = f" ({len(refused)} such layers)"
            patterns = list(dict.fromkeys(f"*{name.rpartition('.')[2]}" for name, _, _ in refused))
        raise UnsupportedLayerError(
            f"{first} ({type(module).__name__}) cannot be quantized{more}: it {reason}, or leave "
            f"{'them' if more else 'it'} in float with exclude={json.dumps(patterns)}"
        )
    if not any(True for _ in layers_of(network)):
        raise UnsupportedLayerError(
            f"{type(network).__name__} has no convolution or linear layer: there is nothing to quantize"
        )


def is_excluded(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a shell pattern names a layer or product, or a module that it is in."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns)
