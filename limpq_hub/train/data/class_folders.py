"""A split in folders: every folder below it that holds pictures is a class."""

from __future__ import annotations

from pathlib import Path, PurePath

from timm.data.readers.reader_image_folder import ReaderImageFolder

from limpq_hub.errors import DataError, quoted
from limpq_hub.train.data.sources import FileSource


def open_folder(data: str, split: str) -> FileSource:
    """Return the pictures of `data`/`split`, with the classes in timm's order: n2 before n10.

    Raises:
        DataError: the folder is missing, a class is empty, or it is not clear which class a picture is of.
    """
    folder = Path(data) / split
    if not Path(data).is_dir():
        raise DataError(f"--data {quoted(data)}: there is no such folder; give one with train/ and val/")
    if not folder.is_dir():
        raise DataError(f"--data {quoted(data)} has no folder {split}/; give one with train/ and val/")
    inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not inside:
        raise DataError(f"{folder} has no class folders; put the pictures into one folder per class")
    try:
        reader = ReaderImageFolder(str(folder))
    except RuntimeError:  # timm found nothing at all
        raise DataError(f"{folder}: no image in class {', '.join(inside[:5])}; remove the class or fill it") from None
    paths = [PurePath(name) for name in reader.filenames()]
    # timm names a class after the innermost folder: a/images and b/images would be one class.
    folder_of: dict[str, PurePath] = {}
    for path in paths:
        if not path.parent.name:
            raise DataError(f"{folder}/{path} lies in no class folder; move it into one, or remove it")
        first = folder_of.setdefault(path.parent.name, path.parent)
        if first != path.parent:
            raise DataError(
                f"{folder}: {first} and {path.parent} are both called class {quoted(path.parent.name)}; put the "
                "pictures directly into one folder per class"
            )
    # A folder without a picture is no class for timm, and the classes after it would move up by one.
    empty = sorted(set(inside) - {path.parts[0] for path in paths})
    if empty:
        raise DataError(f"{folder}: no image in class {', '.join(empty[:5])}; remove the class or fill it")
    return FileSource(str(folder), reader, [label for _, label in reader.samples])
