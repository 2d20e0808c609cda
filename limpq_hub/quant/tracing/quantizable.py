"""Which modules of a network are layers that can be quantized."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from limpq_hub.errors import UnsupportedLayerError, quoted

QuantizableLayer: TypeAlias = _ConvNd | nn.Linear
LAYER_CLASSES = (_ConvNd, nn.Linear)
# They multiply inside one operation, where no quantizer can reach.
_CLOSED_CLASSES = (nn.RNNBase, nn.RNNCellBase, nn.Bilinear)
# Plain attributes of a layer that computes them in a hook.
_COMPUTED = ("weight", "bias")


def layers_of(network: nn.Module, *, inside: bool = False) -> Iterator[tuple[str, QuantizableLayer]]:
    """Yield every convolution and linear layer that has a weight of its own, under its first name.

    Args:
        inside: whether `network` itself is left out.
    """
    for name, module in network.named_modules():
        if inside and module is network:
            continue
        if isinstance(module, LAYER_CLASSES) and "weight" in module._parameters:
            yield name, module


def check_layers(network: nn.Module, exclude: Sequence[str] = (), in_float: Collection[str] = ()) -> None:
    """Raise `UnsupportedLayerError` if the network has no layer, or one that cannot be quantized.

    Args:
        exclude: shell patterns of what stays in float.
        in_float: names of layers that stay in float, or of parameters that a module multiplies by itself.
    """
    owners = {name.rpartition(".")[0] for name in in_float}
    refused: list[tuple[str, nn.Module, str]] = []
    for name, module in network.named_modules():
        if is_excluded(name, exclude) or name in in_float:
            continue
        if isinstance(module, _CLOSED_CLASSES) and name in owners:
            continue
        if isinstance(module, _CLOSED_CLASSES):
            refused.append((name, module, "multiplies inside one operation, out of a quantizer's reach"))
        elif isinstance(module, LAYER_CLASSES) and any(True for _ in layers_of(module, inside=True)):
            refused.append((name, module, "holds layers of its own, whose weights would be taken for its own"))
        elif isinstance(module, LAYER_CLASSES) and (how := how_computed(name, module)):
            refused.append((name, module, how))
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


def how_computed(name: str, layer: nn.Module, of: Collection[str] | None = _COMPUTED) -> str | None:
    """Return how a module was made to compute its weight or bias, and how to keep it; None if it was not.

    Args:
        of: what of it may be parametrized; anything if None.
    """
    parametrized = layer.get_submodule("parametrizations").named_children() if is_parametrized(layer) else ()
    key = next((key for key, _ in parametrized if of is None or key in of), None)
    if key is not None:
        advice = f'torch.nn.utils.parametrize.remove_parametrizations(network.{name}, "{key}")'
        return f"computes its {key} anew at every call; keep it with {advice}"
    if any(isinstance(vars(layer).get(key), Tensor) for key in _COMPUTED):
        advice = "torch.nn.utils.remove_weight_norm, remove_spectral_norm or prune.remove"
        return f"computes its weight or bias in a hook; keep it with {advice}"
    return None


def is_excluded(name: str, patterns: Sequence[str], ties: Mapping[str, str] | None = None) -> bool:
    """Return whether a shell pattern names a layer or product, or a module that it is in.

    Args:
        ties: for each layer that shares the weight of another, by name, that one: its name stands for both.
    """
    names = [name, *(tied for tied, first in (ties or {}).items() if first == name)]
    return any(fnmatchcase(part, end) for part in names for pattern in patterns for end in (pattern, f"{pattern}.*"))


def check_patterns(option: str, patterns: Sequence[str], names: Iterable[str]) -> None:
    """Raise `UnsupportedLayerError` if a pattern of `option` matches none of the names."""
    names = list(names)
    if isinstance(patterns, str):
        text = quoted(patterns)
        raise UnsupportedLayerError(f"{option}={text} is one text: give a list of patterns, {option}=[{text}]")
    for pattern in patterns:
        if not any(is_excluded(name, [pattern]) for name in names):
            raise UnsupportedLayerError(f"{option}: no layer, product or module is named {quoted(pattern)}")
