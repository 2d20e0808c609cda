"""What the end of a joint training measured before it was cut off: kept until the entry is complete, to go on from."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from limpq_hub.zoo.tensors import own_state, tensors_to_bytes

_FOLDER = ".measured"


def kept_measurements(
    output: Path, supernet: nn.Module, network: nn.Module, images: Sequence[Tensor], statistics: str
) -> Path:
    """Return the folder of what was measured of exactly these networks on these images; what is of others is removed.

    Args:
        output: folder of the run.
        network: the float network that the supernet is compared with.
        statistics: where the BatchNorm statistics of a policy come from.
    """
    digest = hashlib.sha256(statistics.encode())
    for measured in (supernet, network):
        digest.update(tensors_to_bytes(own_state(measured)))
    for batch in images:
        digest.update(tensors_to_bytes({"images": batch}))
    folder = output / _FOLDER / digest.hexdigest()[:16]
    for other in folder.parent.glob("*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forget_measurements(output: Path) -> None:
    """Remove what was kept, of a run whose entry is complete."""
    shutil.rmtree(output / _FOLDER, ignore_errors=True)
