"""Pictures that lie in folders, whether or not the folders are classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from limpq_hub.plan.input_file import open_regular
from limpq_hub.train.data.sources import FileSource, content_of_file, size_of_file


@dataclass(frozen=True)
class FolderReader:
    """Files of one folder or several, with the methods of timm's readers.

    Attributes:
        roots: the folders.
        names: path of each picture below its folder, with slashes.
        places: index of the folder of each picture.
        labels: class index of each picture, or `UNLABELLED`.
        class_to_idx: the index of each class, by its id.
    """

    roots: Sequence[str]
    names: Sequence[str]
    places: Sequence[int]
    labels: Sequence[int]
    class_to_idx: Mapping[str, int]

    def __getitem__(self, index: int) -> tuple[BinaryIO, int]:
        """Return a picture as a file, and its class index."""
        return open_regular(self.path(index)), self.labels[index]

    def filename(self, index: int) -> str:
        """Return what tells a picture from the others: of several folders, also which of them it lies in."""
        return self.names[index] if len(self.roots) == 1 else f"{self.places[index]}/{self.names[index]}"

    def path(self, index: int) -> str:
        """Return the whole path of a picture."""
        return f"{self.roots[self.places[index]]}/{self.names[index]}"


class FolderSource(FileSource):
    """Pictures in folders.

    Attributes:
        left_out: how many files of each suffix are no pictures.
    """

    def __init__(self, where: str, reader: FolderReader, left_out: Mapping[str, int]) -> None:
        super().__init__(where, reader, reader.labels)
        self.files, self.left_out = reader, left_out

    def path(self, index: int) -> str:
        """Return the whole path of a picture."""
        return self.files.path(index)

    def size_bytes(self, index: int) -> int | None:
        """Return the size of the file; None if it cannot be told."""
        return size_of_file(self.path(index))

    def content(self, index: int) -> bytes:
        """Return the bytes of the file; none if it cannot be read."""
        return content_of_file(self.path(index))
