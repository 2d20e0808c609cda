"""Put an entry folder together: joint training, fine-tuned policies and measured figures, verified and sealed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limpq_hub.errors import ArtifactFormatError, shown
from limpq_hub.plan.jsonfile import check_shape, write_bytes, write_json
from limpq_hub.zoo.catalog import JOINT_RECORD
from limpq_hub.zoo.entry import SUPERNET, seal_entry
from limpq_hub.zoo.folder import CONFIG, SealedFolder, open_local_folder
from limpq_hub.zoo.network import NetworkSpec

_POLICY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


def assemble_entry(
    joint: SealedFolder,
    checkpoints: Mapping[str, SealedFolder],
    target: Path,
    front: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry that holds everything of `joint` and the checkpoints as its policies.

    Args:
        joint: an entry, with or without policies; one of the same name as a checkpoint is replaced.
        checkpoints: fine-tuned policies by the name they are published under.
        target: the folder; an entry there is replaced, unless the folder holds anything else.
        front: what `training/front.py` measured of `joint`.

    Raises:
        ArtifactError: a file is damaged, `front` is of another supernet, or `target` holds something else.
    """
    for name in checkpoints:
        if not is_policy_name(name):
            raise ArtifactFormatError(f"{shown(name)} cannot name a policy: use letters, digits, dots and dashes")
    metrics = joint.read_json("metrics.json")
    if front is not None:
        check_shape(front, {"joint": [JOINT_RECORD], "supernet_sha256": str}, "front")
        if front["supernet_sha256"] != joint.config["files"][SUPERNET]["sha256"]:
            raise ArtifactFormatError(
                f"the front was measured on another supernet than that of {joint.name}; measure it with "
                f"training/front.py --model local-dir:{joint.name}"
            )
        metrics |= {"joint": front["joint"], "joint_provenance": {k: v for k, v in front.items() if k != "joint"}}
    with replaced_folder(target) as building:
        copy_verified(joint, building)
        for name, checkpoint in checkpoints.items():
            shutil.rmtree(building / "policies" / name, ignore_errors=True)
            copy_verified(checkpoint, building / "policies" / name)
        write_json(building / "metrics.json", metrics)
        seal_entry(building, NetworkSpec.from_config(joint.config, joint.name))


def is_policy_name(name: str) -> bool:
    """Return whether a policy can be published under this name: letters, digits, single dots, dashes."""
    return bool(_POLICY_NAME.fullmatch(name)) and ".." not in name


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of the entry at `target` when all went well.

    Raises:
        ArtifactError: `target` is there and not an entry, or holds something else as well, which would be lost.
    """
    target = target.resolve()
    if target.exists() and os.listdir(target):
        _check_nothing_else(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        building, before = Path(temporary) / "new", Path(temporary) / "old"
        building.mkdir()
        yield building
        if target.exists():
            target.rename(before)
        building.rename(target)


def _check_nothing_else(target: Path) -> None:
    """Raise `ArtifactFormatError` if a folder holds files that are no part of its entry, its card or its figures."""
    known = {*open_local_folder(target, "entry").files, CONFIG, "README.md"}
    there = (path.relative_to(target).as_posix() for path in sorted(target.rglob("*")) if not path.is_dir())
    for file in there:
        if file not in known and not file.startswith("figures/"):
            raise ArtifactFormatError(
                f"{target} holds {shown(file)} as well, which is no part of the entry and would be lost; "
                "choose another folder"
            )


def copy_verified(source: SealedFolder, target: Path) -> None:
    """Copy every file of a sealed folder that its `config.json` vouches for, and the `config.json`."""
    for file in source.files:
        write_bytes(target / file, source.read(file))
    write_bytes(target / CONFIG, source.fetch(CONFIG).read_bytes())
