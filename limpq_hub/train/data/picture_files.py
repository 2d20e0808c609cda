"""Which files below a folder are pictures, in an order that no file system and no hash decides; the others are counted.

A file is a picture by its suffix; one with an unknown suffix, or with none, by its first bytes. Names that begin with
a dot belong to programs, not to the data: `.ipynb_checkpoints`, `.DS_Store`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from PIL import Image

from limpq_hub.errors import DataError
from limpq_hub.pictures.formats import advice_for_suffix, picture_formats, picture_suffixes

# fmt: off
# They show something, and some are not read here: leaving them out would be training on a part of the data.
_OTHER_PICTURES = frozenset({
    ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".psd", ".svg", ".tga", ".exr", ".hdr",
    ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2",
})
# What stands beside pictures so often that it need not be opened.
_NO_PICTURES = frozenset({
    ".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html", ".log", ".py", ".npy", ".npz",
    ".pkl", ".db", ".ini",
})
# fmt: on
_NOT_OPENED = _OTHER_PICTURES | _NO_PICTURES


@dataclass(frozen=True)
class PictureFiles:
    """What lies below a folder.

    Attributes:
        names: paths of the pictures below the folder, with slashes, in natural order: 2.png before 10.png.
        left_out: how many files of each suffix are no pictures.
    """

    names: tuple[str, ...]
    left_out: Mapping[str, int]


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Return what timm sorts names by, numbers as numbers and in one case, and then the name: no two are equal."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def pictures_below(folder: str | Path) -> PictureFiles:
    """Return the pictures in a folder, at any depth; links are followed.

    Raises:
        DataError: there are pictures of a kind that is not read.
        OSError: a folder cannot be opened.
    """
    names, left_out, suffixes = [], Counter[str](), picture_suffixes()
    for path, name in _files_below(str(folder), ""):
        suffix = PurePath(name).suffix.lower()
        if os.path.exists(path) and not os.path.isfile(path):
            left_out["pipe or device"] += 1
        elif suffix in suffixes or (suffix not in _NOT_OPENED and _begins_as_picture(path)):
            names.append(name)
        else:
            left_out[suffix or "without a suffix"] += 1
    unread = {suffix: count for suffix, count in sorted(left_out.items()) if suffix in _OTHER_PICTURES}
    if unread:
        advice = dict.fromkeys(filter(None, map(advice_for_suffix, unread)))
        raise DataError(
            f"{folder} has pictures of kinds that are not read ({_counted(unread)}); convert them to JPEG or PNG, or "
            f"take them out{''.join(f'; {text}' for text in advice)}"
        )
    return PictureFiles(tuple(sorted(names, key=natural_order)), dict(sorted(left_out.items())))


def left_out_text(left_out: Mapping[str, int]) -> str:
    """Return in words how many files are left out because they are no pictures."""
    count = sum(left_out.values())
    files = "1 file that is no picture is" if count == 1 else f"{count} files that are no pictures are"
    return f"{files} left out ({_counted(left_out)})"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.items())


def _files_below(folder: str, prefix: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield path and name of each file below a folder, but for hidden ones; a link to a folder above is left alone."""
    status = os.stat(folder)
    itself = status.st_dev, status.st_ino
    if itself in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files_below(entry.path, f"{prefix}{entry.name}/", (*above, itself))
            else:
                yield entry.path, f"{prefix}{entry.name}"


def _begins_as_picture(path: str) -> bool:
    try:
        with Image.open(path, formats=picture_formats()):
            return True
    except (OSError, RuntimeError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return isinstance(error, Image.DecompressionBombError)
