"""A split in folders: every folder right below it is a class, and holds its pictures itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limpq_hub.errors import DataError, quoted
from limpq_hub.train.data.folder_source import FolderReader, FolderSource
from limpq_hub.train.data.picture_files import natural_order, pictures_below
from limpq_hub.train.data.sources import NoSplitError


def open_folder(
    data: str, split: str, *, order: Callable[[str], Any] = natural_order, option: str = "--data"
) -> FolderSource:
    """Return the pictures of `data`/`split`, with the classes in natural order: n2 before n10, and A before a.

    Args:
        order: what the classes are sorted by, if not that.
        option: what names `data`, for errors.

    Raises:
        NoSplitError: `data` has no such folder.
        DataError: the folder `data` is missing, a class is empty, or it is not clear which class a picture is of.
    """
    folder = Path(data) / split
    if not os.path.isdir(data):
        raise DataError(f"{option} {quoted(data)}: there is no such folder; give one with train/ and val/")
    if not os.path.isdir(folder):
        raise NoSplitError(f"{option} {quoted(data)} has no folder {split}/; give one with train/ and val/")
    inside = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if not inside:
        raise DataError(f"{folder} has no class folders; put the pictures into one folder per class")
    files = pictures_below(folder)
    _check_places(folder, files.names)
    # A folder without a picture is no class, and the classes after it would move up by one.
    empty = sorted({*inside} - {name.partition("/")[0] for name in files.names})
    if empty:
        raise DataError(f"{folder}: no image in class {', '.join(empty[:5])}; remove the class or fill it")
    class_to_idx = {name: index for index, name in enumerate(sorted(inside, key=order))}
    labels = [class_to_idx[name.partition("/")[0]] for name in files.names]
    reader = FolderReader((str(folder),), files.names, [0] * len(labels), labels, class_to_idx)
    return FolderSource(str(folder), reader, files.left_out)


def _check_places(folder: Path, names: Sequence[str]) -> None:
    """Raise `DataError` unless every picture lies in a class folder, and no deeper."""
    for name in names:
        parts = name.split("/")
        if len(parts) == 1:
            raise DataError(f"{folder}/{name} lies in no class folder; move it into one, or remove it")
        if len(parts) > 2:
            raise DataError(
                f"{folder}: {'/'.join(parts[:-1])} lies inside the class folder {quoted(parts[0])}; put the pictures "
                "directly into one folder per class"
            )
