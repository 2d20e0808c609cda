"""What was measured for an entry: kept until that is complete, so that a run that was cut off goes on from it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from limpq_hub.zoo.tensors import own_state, tensors_to_bytes

# Within the folder of a run.
MEASURED = ".measured"


def kept_measurements(
    place: Path, supernet: nn.Module, network: nn.Module, images: Sequence[Tensor], statistics: str
) -> Path:
    """Return the folder of what was measured of exactly these networks on these images; what is of others is removed.

    Args:
        place: the folder in which it lies; nothing else does.
        network: the float network that the supernet is compared with.
        statistics: where the BatchNorm statistics of a policy come from.
    """
    digest = hashlib.sha256(statistics.encode())
    for measured in (supernet, network):
        digest.update(tensors_to_bytes(own_state(measured)))
    for batch in images:
        digest.update(tensors_to_bytes({"images": batch}))
    folder = place / digest.hexdigest()[:16]
    for other in place.glob("*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forget_measurements(place: Path) -> None:
    """Remove what was kept, of a run whose entry is complete."""
    shutil.rmtree(place, ignore_errors=True)
