"""What the objective of a search may add up, and what tables, figures and the demo call it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from limpq_hub.errors import BudgetError
from limpq_hub.plan.layer_bits import BIT_WIDTHS

# Of each layer: both learned step sizes, the root of the sum of their squares, or the measured divergence of its pair
# of bit-widths.
Importance: TypeAlias = Literal["learned", "coupled", "measured"]
IMPORTANCE_WORDS: Mapping[Importance, str] = {
    "learned": "learned steps",
    "coupled": "coupled steps",
    "measured": "measured pairs",
}
# How far apart the weight and the activation bits of a layer can be.
APART = range(max(BIT_WIDTHS) - min(BIT_WIDTHS) + 1)
# Where the provenance of indicators says why a search adds up what it does.
OBJECTIVE_REASON = "objective_reason"


def objective_words(importance: Importance, apart: int | None) -> str:
    """Return what a search adds up, and how far apart the bits of a layer may be: None for any."""
    return ", ".join(filter(None, (IMPORTANCE_WORDS[importance], apart_words(apart))))


def added_up(importances: Iterable[float], alpha: float) -> float:
    """Return the sum of the importance of layers.

    Args:
        importances: each at least 0.
        alpha: factor of the weight importance in them.

    Raises:
        BudgetError: no float holds the sum.
    """
    try:
        total = math.fsum(importances)
    except OverflowError:
        total = math.inf
    if not math.isfinite(total):
        raise BudgetError(
            f"alpha={alpha:g} makes the importance of layers infinite; lower it, or check the learned step sizes"
        )
    return total


def is_distance(value: object) -> bool:
    """Return whether a value of a file says how far apart bits may be: None for any."""
    return value is None or (type(value) is int and value in APART)


def asked_distance(apart: int | None) -> int:
    """Return a distance as `Indicators.using` takes it, where None is the usual one and the largest of `APART` any."""
    return max(APART) if apart is None else apart


def apart_words(apart: int | None) -> str:
    """Return how far apart the weight and the activation bits of a layer may be; nothing where they may be any."""
    if apart is None:
        return ""
    return f"weight and activation bits of a layer {'equal' if apart == 0 else f'at most {apart} apart'}"
