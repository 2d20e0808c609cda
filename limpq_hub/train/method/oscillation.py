"""Which layers' weights lie near a rounding boundary, where a small change flips them from level to level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from limpq_hub.quant.fake_quantization import quantization_range, spread_over
from limpq_hub.quant.layers import QuantLayer
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.train.training_settings import FIRST_SPARING_EPOCH

_EPOCHS_BETWEEN = 2
_NEAR = 0.125  # of a step


def oscillating_layers(supernet: nn.Module, share: float) -> list[str]:
    """Return the names of the `share` of switching layers with the most weights near a rounding boundary."""
    layers = {
        name: layer
        for name, layer in quantized_layers(supernet)
        if isinstance(layer, QuantLayer) and len(layer.weight_quantizer.candidates) > 1
    }
    ordered = sorted(layers, key=lambda name: -_oscillation(layers[name]))
    return ordered[: int(len(ordered) * share)]


def update_oscillating_(choice: dict[str, Any], supernet: nn.Module, share: float, epoch: int) -> Sequence[str]:
    """Return the layers that must not be drawn at their fewest weight bits now; chosen anew every other epoch.

    Args:
        choice: "oscillating", the layers of the last choice, and "chosen_in_epoch"; empty before the first, and
            changed in place at the next.
        share: of the switching layers, 0..1; with 0 none is chosen.
        epoch: epochs done before.

    Source: Tang et al., "Retraining-free Model Quantization via One-Shot Weight-Coupling Learning", CVPR 2024: from
    epoch 5 on.
    """
    next_epoch = choice["chosen_in_epoch"] + _EPOCHS_BETWEEN if choice else FIRST_SPARING_EPOCH
    if share and epoch >= next_epoch:
        choice |= {"chosen_in_epoch": epoch, "oscillating": oscillating_layers(supernet, share)}
    return choice.get("oscillating", ())


@torch.no_grad()
def _oscillation(layer: QuantLayer) -> float:
    """Return the share of weights near a boundary, each bit-width counting by its inverse."""
    oscillation, quantizer, weight = 0.0, layer.weight_quantizer, layer.effective_weight()
    for bits in quantizer.candidates:
        low, high = quantization_range(bits, signed=True)
        scaled = weight / spread_over(weight, quantizer.step_of(bits), quantizer.channel_dim)
        to_boundary = (scaled - scaled.floor() - 0.5).abs()
        near = (to_boundary < _NEAR) & (scaled > low) & (scaled < high)
        oscillation += float(near.float().mean()) / bits
    return oscillation
