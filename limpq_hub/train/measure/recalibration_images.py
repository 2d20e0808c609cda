"""How many images recalibrate BatchNorm where nothing is said."""

from __future__ import annotations

from limpq_hub.quant.policy_statistics import Statistics

HELP = (
    "training images to recalibrate BatchNorm; 1000 if not given, and none of an entry whose joint training kept the "
    "float network's statistics"
)
_IMAGES = 1000


def recalibration_images(statistics: Statistics, typed: int | None) -> int:
    """Return what was typed; else 1000, and none where an entry has other statistics than those of images."""
    if typed is not None:
        return typed
    return _IMAGES if statistics == "measured" else 0
