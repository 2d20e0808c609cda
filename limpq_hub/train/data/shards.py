"""Pictures in tar shards (`wds/`), by index: timm reads these as a stream, which cannot be continued exactly.

A sample is key.jpg (or .jpeg, .png, .webp) beside key.cls, whose text is the class index.
"""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timm.data.readers.reader import Reader

from limpq_hub.errors import DataError, quoted
from limpq_hub.plan.input_file import open_regular
from limpq_hub.train.data.shard_listing import shards_of
from limpq_hub.train.data.sources import FileSource
from limpq_hub.train.progress import tracked

_PICTURES = ("jpg", "jpeg", "png", "webp")


@dataclass(frozen=True)
class _Sample:
    """Where a picture lies in its shard, in bytes, and its class index."""

    name: str
    offset: int
    size: int
    label: int


class ShardReader(Reader):
    """The samples of several shards, with the methods of timm's readers."""

    def __init__(self, paths: Sequence[Path], classes: Sequence[str] | None) -> None:
        """Index the shards.

        Args:
            classes: id of each class; None for "class 0" up to the largest label.

        Raises:
            DataError: a shard is damaged, or a sample is not complete.
        """
        super().__init__()
        indexed = []
        for path in tracked(paths, "reading the index", "shards", len(paths)):
            status = path.stat()
            indexed.append(_index_of(path, status.st_size, status.st_mtime_ns))
        self.samples = [(path, sample) for path, samples in zip(paths, indexed, strict=True) for sample in samples]
        self.labels = [sample.label for _, sample in self.samples]
        if classes is None:
            classes = [f"class {label}" for label in range(max(self.labels, default=-1) + 1)]
        self.class_to_idx = {name: label for label, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        """Return a picture as a file, and its class index."""
        path, sample = self.samples[index]
        # Opened for each picture, which costs little beside decoding: nothing to share between threads or processes.
        with open_regular(path) as file:
            file.seek(sample.offset)
            return io.BytesIO(file.read(sample.size)), sample.label

    def _filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        path, sample = self.samples[index]
        return f"{path.parent if absolute else ''}{'/' if absolute else ''}{path.name}/{sample.name}"


class ShardSource(FileSource):
    """Pictures in shards."""

    reader: ShardReader

    def size_bytes(self, index: int) -> int | None:
        """Return the bytes that a picture has in its shard."""
        return self.reader.samples[index][1].size


def open_shards(root: str, split: str, beside: str | None = None) -> ShardSource:
    """Return the pictures of a split of the shards in the folder `root`.

    Args:
        beside: the other split, of which no shard may be by its name.

    Raises:
        DataError: a shard is missing, damaged, not local or by its name of both splits, or its samples are not pictures
            with a class index.
    """
    paths, record, classes = shards_of(root, split, beside)
    reader = ShardReader(paths, classes)
    expected = record.get("num_samples", len(reader))
    if expected != len(reader):
        raise DataError(
            f"{root}: the shards of {split} hold {len(reader)} pictures, its info file says {expected}; fetch them "
            "again"
        )
    return ShardSource(f"{root}/{split}", reader, reader.labels)


@functools.cache  # a pure function of the file: the size and time are there to notice another one
def _index_of(path: Path, size_bytes: int, modified_ns: int) -> tuple[_Sample, ...]:
    pictures: dict[str, dict[str, tarfile.TarInfo]] = {}
    labels: dict[str, int] = {}
    try:
        with open_regular(path) as opened, tarfile.open(fileobj=opened, mode="r:") as shard:
            for member in shard:
                if member.issparse():
                    raise DataError(
                        f"{path}: {quoted(member.name)} is a sparse file, which no picture is; write it anew"
                    )
                if member.offset_data + member.size > size_bytes:
                    raise tarfile.ReadError("unexpected end of data")
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                key, ending = f"{folder}/{stem}".lstrip("/"), ending.lower()
                if not member.isreg() or ending not in (*_PICTURES, "cls"):
                    continue
                if (key in labels) if ending == "cls" else (ending in pictures.get(key, {})):
                    raise DataError(f"{path}: {quoted(member.name)} stands twice; write each sample once")
                if ending == "cls":
                    file = shard.extractfile(member)
                    text = file.read(20).strip() if file else b""
                    if not text.isdigit():
                        raise DataError(f"{path}: {quoted(member.name)} holds {quoted(text)}, not a class index from 0")
                    labels[key] = int(text)
                else:
                    pictures.setdefault(key, {})[ending] = member
    except tarfile.TarError as error:
        raise DataError(f"{path} is no plain tar file, or damaged ({error}); fetch it again") from None
    incomplete = sorted(pictures.keys() ^ labels.keys())
    if incomplete:
        raise DataError(
            f"{path}: sample {quoted(incomplete[0])} lacks its picture (.{', .'.join(_PICTURES)}) or its .cls, "
            f"{len(incomplete)} in all; write both"
        )
    chosen = {key: next(files[ending] for ending in _PICTURES if ending in files) for key, files in pictures.items()}
    return tuple(_Sample(file.name, file.offset_data, file.size, labels[key]) for key, file in chosen.items())
