"""Folders of artifacts on their way: copied file by file, verified, and put in the place of another. No torch."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from limpq_hub.errors import ArtifactError, ArtifactFormatError, ArtifactVersionError, OutputError, quoted
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.zoo.folder import CONFIG, EXPORT_SEAL, SealedFolder, open_local_folder
from limpq_hub.zoo.network_title import title_in
from limpq_hub.zoo.seal import sealed

# What is moved into a folder last.
_SEALS = {CONFIG: 1, EXPORT_SEAL: 2}


def _check_nothing_else(target: Path) -> None:
    """Raise `ArtifactFormatError` if a folder holds files that are no part of its entry, its card or its figures."""
    try:
        own_files = {*open_local_folder(target, "entry").files, CONFIG, "README.md"}
    except ArtifactVersionError:  # it says what opens it
        raise
    except ArtifactError:
        names = sorted(os.listdir(target))
        what = "no entry, or one that was changed" if CONFIG in names else "no entry"
        raise ArtifactFormatError(
            f"{target} holds {quoted(names[0])}: it is {what}, and would be lost; choose another folder"
        ) from None
    files = (path.relative_to(target).as_posix() for path in sorted(target.rglob("*")) if not path.is_dir())
    for file in files:
        if file not in own_files and not file.startswith("figures/"):
            raise ArtifactFormatError(
                f"{target} holds {quoted(file)} as well, which is no part of the entry and would be lost; "
                "choose another folder"
            )


@contextmanager
def replaced_folder(target: Path, *, check: Callable[[Path], None] = _check_nothing_else) -> Iterator[Path]:
    """Give an empty folder that takes the place of the entry at `target` when all went well.

    Args:
        check: raises an error where a folder that is there may not be replaced.

    Raises:
        ArtifactError: `target` is there and not an entry, or holds something else as well, which would be lost.
        OutputError: `target` is a file; or it is not empty, and the current folder, one above it, or a mounted disk; or
            it was empty and is no more.
        OSError: a folder cannot be written or renamed; what was at `target` is still there.
    """
    target = target.resolve()
    check_replaceable(target, check=check)
    is_empty = _is_empty_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # An empty folder is filled, for it may be the one that a shell is in, or a disk: neither can be renamed.
    with tempfile.TemporaryDirectory(dir=target if is_empty else target.parent, prefix=f".{target.name}.") as temporary:
        building, before = Path(temporary) / "new", Path(temporary) / "old"
        building.mkdir()
        yield building
        if is_empty:
            if os.listdir(target) != [Path(temporary).name]:
                raise OutputError(f"{target} was empty, and holds files of others by now: choose another folder")
            _move_into(target, building)
            return
        # Others may have written there meanwhile.
        check_replaceable(target, check=check)
        try:
            if target.exists():
                target.rename(before)
            building.rename(target)
        finally:
            # Where the second rename fails, or Ctrl-C comes before it, the old folder is still in the temporary one,
            # which is about to be deleted.
            if before.exists() and not target.exists():
                before.rename(target)


def check_place(source: SealedFolder, target: Path) -> None:
    """Raise where a copy of an entry may not or cannot take the place of what is at `target`: before long work.

    Raises:
        ArtifactError: `target` holds something else than an entry, which would be lost, or that of another network.
        OutputError: as `replaced_folder`.
    """
    if (target / CONFIG).exists():
        there = open_local_folder(target, "entry")
        old, new = title_in(there.config, there.name), title_in(source.config, source.name)
        if old != new:
            raise ArtifactFormatError(f"{target} holds an entry of {old}, this one is of {new}; choose another")
    check_replaceable(target)


def check_replaceable(target: Path, *, check: Callable[[Path], None] = _check_nothing_else) -> None:
    """Raise as `replaced_folder` does where what is at `target` may not or cannot be replaced."""
    target = target.resolve()
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file, and a folder is to be written; name another one")
    if target.exists() and not _is_empty_folder(target):
        check(target)
        _check_can_be_renamed(target)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not os.listdir(path)


def _check_can_be_renamed(target: Path) -> None:
    """Raise `OutputError` where a folder cannot make way for another one of its name."""
    with suppress(FileNotFoundError):  # the current folder may be gone
        if Path.cwd().is_relative_to(target):
            raise OutputError(
                f"{target} is the current folder or holds it, and is not empty: go to another one, or choose another "
                "folder"
            )
    if target.is_mount():
        raise OutputError(f"{target} is a mounted disk, and not empty: choose a folder on it")


def _move_into(target: Path, building: Path) -> None:
    """Move what was built into a folder, its seal last: until that is there, nobody takes the folder for whole."""
    moved: list[Path] = []
    try:
        for path in sorted(building.iterdir(), key=lambda path: _SEALS.get(path.name, 0)):
            moved.append(path.rename(target / path.name))
    except BaseException:
        for path in moved:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        raise


def copy_verified(source: SealedFolder, target: Path) -> None:
    """Copy every file of a sealed folder that its `config.json` vouches for, and the `config.json` as it was verified.

    Raises:
        ArtifactError: a file is missing, damaged or a pickle.
    """
    for file in source.files:
        write_bytes(target / file, source.read(file))
    # The content that was verified, not a copy of the file, which may have changed since; its bytes are the same.
    write_bytes(target / CONFIG, sealed(source.config))
