"""Pictures without labels: folders of them, nested or flat, and the part that is held out to measure by."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from limpq_hub.errors import DataError, quoted
from limpq_hub.train.data.folder_source import FolderReader, FolderSource
from limpq_hub.train.data.picture_files import pictures_below
from limpq_hub.train.data.sources import UNLABELLED

HELD_OUT = "held-out"
_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.05, 1000


def open_unlabelled(folders: Sequence[str]) -> FolderSource:
    """Return all pictures of the folders: one folder after the other, each in natural order of the paths below it.

    Raises:
        DataError: a folder is missing, holds no picture, or lies in another one.
    """
    names: list[str] = []
    places: list[int] = []
    left_out = Counter[str]()
    for place, folder in enumerate(folders):
        _check_folder(folder, folders[:place])
        files = pictures_below(folder)
        if not files.names:
            raise DataError(f"--unlabelled {quoted(folder)} holds no picture; is this the right folder?")
        names += files.names
        places += [place] * len(files.names)
        left_out.update(files.left_out)
    reader = FolderReader(tuple(folders), names, places, [UNLABELLED] * len(names), {})
    return FolderSource(", ".join(folders), reader, left_out)


def part_of(source: FolderSource, seed: int, *, held_out: bool) -> FolderSource:
    """Return the pictures that are held out, drawn by the seed, or those that are left for the training.

    Raises:
        DataError: there is but one picture.
    """
    count = len(source)
    if count < 2:
        raise DataError(f"--unlabelled {source.where} holds one picture; give at least one more, to measure by")
    most = max(1, min(_MOST_HELD_OUT, round(_HELD_OUT_SHARE * count)))
    drawn = set(torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].tolist())
    kept = [index for index in range(count) if (index in drawn) == held_out]
    files = source.files
    names, places = [files.names[index] for index in kept], [files.places[index] for index in kept]
    reader = FolderReader(files.roots, names, places, [UNLABELLED] * len(kept), {})
    return FolderSource(f"{source.where} ({HELD_OUT} part)" if held_out else source.where, reader, source.left_out)


def _check_folder(folder: str, before: Sequence[str]) -> None:
    path = Path(folder)
    if not os.path.isdir(path):
        raise DataError(f"--unlabelled {quoted(folder)}: there is no such folder")
    for other in map(Path, before):
        inner, outer = path.resolve(), other.resolve()
        if inner == outer or inner in outer.parents or outer in inner.parents:
            raise DataError(
                f"--unlabelled {quoted(folder)} and {quoted(str(other))} hold the same pictures; give one of them"
            )
