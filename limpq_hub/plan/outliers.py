"""Outliers: bits that learned a smaller step size than more bits did, though fewer bits lose more."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from limpq_hub.plan.layer_bits import BitsKind
from limpq_hub.plan.learned_values import Steps


@dataclass(frozen=True)
class Outlier:
    """Bits that are left out of a search: fewer, but with a smaller learned step size than the next more bits."""

    layer: str
    kind: BitsKind
    bits: int
    step: float
    step_above: float


def in_order(steps: Mapping[int, float]) -> dict[int, float]:
    """Return the steps of a layer, each raised to the largest step of more bits if that is larger; most bits first."""
    widths = sorted(steps, reverse=True)
    return dict(zip(widths, itertools.accumulate((steps[bits] for bits in widths), max), strict=True))


def outliers_of(kind: BitsKind, steps: Steps) -> Iterable[Outlier]:
    """Yield the outliers among the steps of the weights or of the activations of all layers."""
    for name, of_layer in steps.items():
        widths = sorted(of_layer, reverse=True)
        for above, bits in itertools.pairwise(widths):
            if of_layer[bits] < of_layer[above]:
                yield Outlier(name, kind, bits, of_layer[bits], of_layer[above])
