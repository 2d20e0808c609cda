"""How many images recalibrate BatchNorm where nothing is said."""

from __future__ import annotations

from limpq_hub.zoo.anchors import holds_anchors
from limpq_hub.zoo.folder import SealedFolder

HELP = (
    "training images to recalibrate BatchNorm; 1000 if not given, and none of an entry whose joint training kept the "
    "float network's statistics"
)
_IMAGES = 1000


def recalibration_images(entry: SealedFolder, typed: int | None) -> int:
    """Return what was typed; else 1000, and none where joint training kept the statistics of the float network."""
    if typed is not None:
        return typed
    return _IMAGES if holds_anchors(entry) else 0
