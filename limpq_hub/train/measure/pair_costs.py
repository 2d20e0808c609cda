"""One number for each pair of bits of each layer, what a search can add up, and how JSON holds it."""

from __future__ import annotations

from collections.abc import Mapping

from limpq_hub.plan.layer_bits import LayerBits

PairCosts = dict[str, dict[LayerBits, float]]


def costs_to_text(costs: Mapping[str, Mapping[LayerBits, float]]) -> dict[str, dict[str, float]]:
    """Return costs with their bit-widths as text, "4/3": JSON has no other keys."""
    return {name: {bits.text: value for bits, value in pairs.items()} for name, pairs in costs.items()}


def costs_of_text(texts: Mapping[str, Mapping[str, float]]) -> PairCosts:
    """Return the costs that `costs_to_text` was given."""
    return {name: {LayerBits.of_text(text): value for text, value in pairs.items()} for name, pairs in texts.items()}
