"""The front of an entry: what its joint weights reach along the frontier of its search.

`limpq_hub.train.front` measures it; in `metrics.json` its records are "joint", and all else of it "joint_provenance".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import check_shape
from limpq_hub.plan.search_record import search_record
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.zoo.anchors import ANCHOR_STATISTICS
from limpq_hub.zoo.entry import JOINT_RECORD
from limpq_hub.zoo.entry_tensors import SUPERNET
from limpq_hub.zoo.figure_check import check_figures
from limpq_hub.zoo.folder import SealedFolder

_FILES = {"supernet_sha256": SUPERNET, "anchors_sha256": ANCHOR_STATISTICS}
_OTHER = {
    "supernet_sha256": "on another supernet than that",
    "anchors_sha256": "with other BatchNorm statistics than those",
}


def digests_of_front(folder: SealedFolder) -> dict[str, str | None]:
    """Return the sha256 of each file of an entry that its joint weights are served from; None where it has none."""
    files = folder.config["files"]
    return {key: files[file]["sha256"] if file in files else None for key, file in _FILES.items()}


def check_front(front: Mapping[str, Any], joint: SealedFolder, trained: Indicators, published: Indicators) -> None:
    """Check that a front can be that of an entry.

    Args:
        front: what `limpq_hub.train.front` wrote; earlier versions named the supernet alone.
        joint: the entry that it was measured of.
        trained: the indicators of `joint`.
        published: as they are published with the front.

    Raises:
        ArtifactFormatError: it is malformed, or of other weights or another search.
    """
    check_shape(front, {"joint": [JOINT_RECORD]}, "front")
    for record in front["joint"]:
        check_figures(record, "front: joint")
    check_shape(front, {"supernet_sha256": str}, "front")
    for key, digest in digests_of_front(joint).items():
        if front.get(key, digest) != digest:
            command = ("accelerate", "launch", "-m", "limpq_hub.train.front", "--model", f"local-dir:{joint.name}")
            raise ArtifactFormatError(
                f"the front was measured {_OTHER[key]} of {joint.name}; measure it with: {shell_command(*command)}"
            )
    along, expected = {**search_record(trained), **front}, search_record(published)
    if any(along.get(key) != value for key, value in expected.items()):
        raise ArtifactFormatError(
            "the front lies along another search than that of the entry to be published; publish that one without a "
            "front, then measure its own"
        )


def without_front(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of an entry without those of its front."""
    return {key: value for key, value in metrics.items() if key != "joint_provenance"} | {"joint": []}


def with_recoded_front(metrics: Mapping[str, Any], before: SealedFolder, after: Path) -> dict[str, Any]:
    """Return the figures of an entry whose files were written anew, the same numbers: its front stays that of these.

    Args:
        before: the entry as it was.
        after: the folder of the files that were written.
    """
    of_front = metrics.get("joint_provenance")
    if not isinstance(of_front, dict):
        return dict(metrics)
    recoded = {
        key: hashlib.sha256((after / _FILES[key]).read_bytes()).hexdigest()
        for key, digest in digests_of_front(before).items()
        if digest is not None and of_front.get(key) == digest
    }
    return {**metrics, "joint_provenance": of_front | recoded}
