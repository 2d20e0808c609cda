"""Pictures of the data sets of torchvision (`torch/`), and which of their splits a word stands for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timm.data import create_dataset

from limpq_hub.errors import DataError, quoted
from limpq_hub.pictures.reading import open_picture
from limpq_hub.plan.input_file import read_regular
from limpq_hub.train.data.sources import PICTURE_BYTES, NoSplitError, Source, content_of_file, line_of, size_of_file

_TRAIN, _VAL = "train", "val"
# As timm knows them.
_WORDS = dict.fromkeys(("train", "training"), _TRAIN) | dict.fromkeys(
    ("val", "valid", "validation", "eval", "evaluation"), _VAL
)
_INATURALIST = {"2021_train": _TRAIN, "2021_valid": _VAL}
# What timm makes of its words, by the data set; a user may name it as well.
_OWN_WORDS = {"places365": {"train-standard": _TRAIN}, "inaturalist": _INATURALIST, "inat": _INATURALIST}
# Of these timm opens the test pictures by every word but those for the training pictures.
_OF_TWO_SPLITS = {"cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist"}


class TorchSource(Source):
    """Pictures of a data set of torchvision."""

    def __init__(self, where: str, data: Any) -> None:
        # ImageNet has WordNet ids beside its names; iNaturalist has neither `classes` nor `targets`.
        classes = next((getattr(data, key) for key in ("wnids", "classes", "all_categories") if hasattr(data, key)), ())
        labels = np.asarray(data.targets if hasattr(data, "targets") else [label for label, _ in data.index])
        self.data, self.files = data, getattr(data, "samples", None)
        if hasattr(data, "loader"):
            data.loader = _picture_in  # that of torchvision drops what `limpq predict` shows
        # QMNIST: the first column is the class.
        super().__init__(where, classes, (labels[:, 0] if labels.ndim == 2 else labels).tolist())

    @contextmanager
    def picture(self, index: int) -> Iterator[Image.Image]:
        """Open a picture; of data sets in one file it is decoded."""
        with self.data[index][0] as picture:
            yield picture

    def name(self, index: int) -> str:
        """Return the file's path below the split, or position and class where there are no files."""
        if self.files is None:
            return f"image {index} of class {self.labels[index]}"
        return Path(self.files[index][0]).relative_to(self.data.root).as_posix()

    def size_bytes(self, index: int) -> int | None:
        """Return the size of the file; None where there are no files, or it cannot be told."""
        return None if self.files is None else size_of_file(self.files[index][0])

    def content(self, index: int) -> bytes:
        """Return the bytes of the file; none where there are no files, or it cannot be read."""
        return b"" if self.files is None else content_of_file(self.files[index][0])


def torchvision_split(name: str, split: str) -> str:
    """Return the split of a data set that a word stands for, one word for each; a word of its own as it is.

    Raises:
        DataError: the data set has training and test pictures alone, and the word stands for neither.
    """
    data_set = name.rpartition("/")[2].lower()
    words = _WORDS | _OWN_WORDS.get(data_set, {})
    if split in words:
        return words[split]
    if data_set not in _OF_TWO_SPLITS:
        return split
    if split != "test":
        raise DataError(
            f"--data {quoted(name)} has no split {quoted(split)}, only train and test; name one of these "
            "(--train-split, --val-split)"
        )
    return _VAL


def open_torch_data(name: str, root: str, split: str) -> TorchSource:
    """Return a split of a data set of torchvision that lies in `root`.

    Raises:
        NoSplitError: it is not there.
        DataError: it cannot be read, or it or its split is unknown.
    """
    meant = torchvision_split(name, split)
    try:
        opened = create_dataset(name, root=root, split=meant)
    except (ValueError, RuntimeError, OSError, AssertionError) as error:
        if str(error).startswith("Unknown value"):  # what torchvision says of a split that it does not know
            raise DataError(
                f"--data {quoted(name)}, split {quoted(split)}: {line_of(error)}; name one that it has (--train-split, "
                "--val-split)"
            ) from None
        # What torchvision raises where it finds no files.
        kind = NoSplitError if isinstance(error, RuntimeError | FileNotFoundError) else DataError
        raise kind(
            f"--data {quoted(name)}: {line_of(error)}; --data-root must hold it, downloaded by torchvision before"
        ) from None
    return TorchSource(f"{name}/{split}", opened)


def _picture_in(path: str) -> Image.Image:
    """Open the picture of a regular file."""
    return open_picture(io.BytesIO(read_regular(path, at_most=PICTURE_BYTES)))
