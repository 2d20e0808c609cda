"""Whether a figure that an artifact states can be one: percent, counts, and how right a network is. No torch."""

from __future__ import annotations

from typing import Any

from limpq_hub.errors import ArtifactFormatError, quoted
from limpq_hub.plan.jsonfile import check_shape

_MOST = 2**63 - 1
# What tells how right a network is; of pictures without labels there is no top-1.
_ACCURACY = ("top1", "agreement", "kl")


def check_percent(value: float, where: str) -> None:
    """Raise `ArtifactFormatError` unless `value` lies in 0..100."""
    if not 0 <= value <= 100:
        raise ArtifactFormatError(f"{where} must be percent, from 0 to 100, found {quoted(value)}")


def check_count(value: int, where: str) -> None:
    """Raise `ArtifactFormatError` unless `value` lies in 0..2^63-1."""
    if not 0 <= value <= _MOST:
        raise ArtifactFormatError(f"{where} must be a whole number from 0 to 2^63-1, found {quoted(value)}")


def check_figures(figures: Any, where: str) -> None:
    """Raise `ArtifactFormatError` unless measured figures tell how right a network is: top-1, or agreement and KL.

    Args:
        where: what to call them in an error.
    """
    check_shape(figures, dict, where)
    shape = {key: float for key in _ACCURACY if key in figures}
    check_shape(figures, shape if "agreement" in shape else shape | {"top1": float}, where)
    for key in {"top1", "agreement"} & set(figures):
        check_percent(figures[key], f"{where}: {key}")
