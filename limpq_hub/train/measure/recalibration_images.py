"""How many images recalibrate BatchNorm where nothing is said."""

from __future__ import annotations

from limpq_hub.quant.policy_statistics import Statistics

_IMAGES = 1000


def recalibration_images(statistics: Statistics, typed: int | None) -> int:
    """Return how many images recalibrate an entry: as many as were typed, else 1000, or 0 if its statistics are kept.

    Args:
        statistics: of the entry; only those that were measured on images are measured anew unasked.
        typed: the option, None where it was not given.
    """
    if typed is not None:
        return typed
    return _IMAGES if statistics == "measured" else 0
