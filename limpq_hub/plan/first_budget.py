"""The budget to begin with, for a command that is advised."""

from __future__ import annotations

from collections.abc import Iterable

_USUAL_BITS = 4


def first_budget(candidates: Iterable[int]) -> str:
    """Return BitOps that a search has to trade for: those of uniform 4 bits, or of others that were learned.

    Args:
        candidates: bit-widths that some layer may take.
    """
    widths = sorted(set(candidates))
    below = widths[:-1] or widths
    bits = _USUAL_BITS if _USUAL_BITS in below else below[len(below) // 2]
    return f"w{bits}a{bits}"
