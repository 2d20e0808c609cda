"""Where pictures come from, whatever the kind of data set: opened, labelled and named by index, checked at once."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Protocol

from PIL import Image
from timm.data import create_dataset

from limpq_hub.errors import DataError, quoted
from limpq_hub.pictures.reading import open_picture
from limpq_hub.plan.input_file import read_regular

UNLABELLED = -2
"""The label of a picture that has none."""
PICTURE_BYTES = 2**30
"""What a file of one picture may have; large scans have less."""


class NoSplitError(DataError):
    """A data set does not have the split that was asked for; it may have others."""


class Source(ABC):
    """Pictures of one split, by index 0..len - 1.

    Attributes:
        where: what a message calls the split: a folder, or the name of the data set.
        classes: id of each class, in the order of the class indices; none where the pictures have no labels.
        labels: class index of each picture, or `UNLABELLED` for all of them.
    """

    def __init__(self, where: str, classes: Sequence[str], labels: Sequence[int]) -> None:
        """Check that every picture has a class and every class a picture.

        Raises:
            DataError: there is none, or a class or a label is missing.
        """
        if not len(labels):
            raise DataError(f"{where} holds no image; is this the right folder and split?")
        self.where, self.classes, self.labels = where, tuple(classes), list(labels)
        if set(self.labels) == {UNLABELLED}:
            return
        if not classes:
            raise DataError(f"{where} has no class names; use a data set whose labels are named classes")
        for index, label in enumerate(self.labels):
            if not isinstance(label, int) or not 0 <= label < len(classes):
                raise DataError(
                    f"{self.path(index)} has the class index {quoted(label)}, outside 0..{len(classes) - 1}; use a "
                    "split with labels"
                )
        empty = [classes[label] for label in sorted(set(range(len(classes))) - set(self.labels))]
        if empty:
            raise DataError(f"{where}: no image in class {', '.join(empty[:5])}; remove the class or fill it")

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    @contextmanager
    def picture(self, index: int) -> Iterator[Image.Image]:
        """Open a picture, of any mode; its pixels may be decoded later, but inside the `with` block."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return what tells a picture from the others of this split."""

    def path(self, index: int) -> str:
        """Return what a message calls a picture."""
        return f"{self.where}/{self.name(index)}"

    def size_bytes(self, index: int) -> int | None:
        """Return the bytes of a picture as it is stored; None where that is not known without reading it."""
        return None

    def content(self, index: int) -> bytes:
        """Return a picture as it is stored; nothing where it is not a file of its own."""
        return b""

    def names(self) -> list[str]:
        """Return the name of every picture, sorted."""
        return sorted(map(self.name, range(len(self))))


class PictureReader(Protocol):
    """What the readers of timm have."""

    @property
    def class_to_idx(self) -> Mapping[str, int]:
        """The index of each class, by its id."""

    def __getitem__(self, index: int) -> tuple[BinaryIO, int]:
        """Return a picture as a file, and its class index."""

    def filename(self, index: int) -> str:
        """Return the file's path below the split."""


class FileSource(Source):
    """Pictures that a reader of timm, or one with the same methods, opens as files."""

    def __init__(self, where: str, reader: PictureReader, labels: Sequence[int]) -> None:
        self.reader = reader
        super().__init__(where, sorted(reader.class_to_idx, key=lambda name: reader.class_to_idx[name]), labels)

    @contextmanager
    def picture(self, index: int) -> Iterator[Image.Image]:
        """Open a picture; its header is read, its pixels are not."""
        file, _ = self.reader[index]
        with file:
            yield open_picture(file)

    def name(self, index: int) -> str:
        """Return the file's path below the split."""
        return self.reader.filename(index)

    def content(self, index: int) -> bytes:
        """Return a picture as it is stored."""
        file, _ = self.reader[index]
        with file:
            return file.read()


class HubSource(FileSource):
    """Pictures of the `datasets` package, which need not have file names."""

    def name(self, index: int) -> str:
        """Return the position and the class: all that tells pictures apart without reading them."""
        return f"image {index} of class {self.labels[index]}"


def open_hub_data(name: str, root: str | None, split: str) -> HubSource:
    """Return a split of a data set of the Hub, or of a local folder that `datasets` reads.

    Args:
        name: "hfds/owner/name" or "hfds//local/folder".
        root: cache folder, or None for that of `datasets`.

    Raises:
        NoSplitError: the data set does not have it.
        DataError: `datasets` is not installed, or cannot read this as images with labels.
    """
    if not name.partition("/")[2].strip("/"):
        raise DataError(f"--data {quoted(name)} names no data set; write hfds/OWNER/NAME, or hfds//FOLDER")
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"--data {quoted(name)} is read by a package that is missing here: pip install datasets"
        ) from None
    try:
        reader = create_dataset(name, root=root, split=split).reader
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        kind = NoSplitError if str(error).startswith("Unknown split") else DataError
        raise kind(
            f"--data {quoted(name)}, split {quoted(split)}: {line_of(error)}; it must have this split (--train-split, "
            "--val-split), with the columns image and label"
        ) from None
    # Where a column is missing, `datasets` gives timm an empty one without a word.
    if reader.dataset.data.column(reader.image_key).null_count == len(reader):
        others = sorted({*reader.dataset.column_names} - {reader.image_key})
        raise DataError(
            f"--data {quoted(name)} has no column image, only {', '.join(others)}; rename that of the images"
        )
    labels = list(reader.dataset[reader.label_key]) if reader.class_to_idx else [-1] * len(reader)
    return HubSource(f"{name}/{split}", reader, labels)


def size_of_file(path: str) -> int | None:
    """Return the size of the file of a picture; None if it cannot be told."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def content_of_file(path: str) -> bytes:
    """Return the bytes of the file of a picture; none if it cannot be read."""
    try:
        return read_regular(path, at_most=PICTURE_BYTES)
    except OSError:
        return b""


def line_of(error: BaseException) -> str:
    """Return the beginning of what an error of another package says, in one line."""
    return " ".join(str(error).split())[:200]
