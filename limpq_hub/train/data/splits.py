"""The training and validation split that the settings name, opened as the kind of data set that `--data` is."""

from __future__ import annotations

import os
from pathlib import Path

from limpq_hub.errors import DataError, quoted
from limpq_hub.train.data.class_folders import open_folder
from limpq_hub.train.data.shards import has_shards, open_shards
from limpq_hub.train.data.sources import Source, open_hub_data, open_torch_data
from limpq_hub.train.data.unlabelled import open_unlabelled, part_of
from limpq_hub.train.settings import DataSettings

_STREAMS = {"hfids": "hfds/", "tfds": "hfds/, wds/ or folders"}

# By torchvision hidden folders are classes, and files with an ending that it does not know are left out.
_TORCH_FOLDERS = ("torch/image_folder", "torch/folder")


def open_split(data: DataSettings, *, training: bool) -> Source:
    """Return the pictures of the training or the validation split.

    With `--unlabelled` those are the training pictures; where there is no `--data` beside them, a part is held out.

    Raises:
        DataError: they are missing, or cannot be read by index.
    """
    if data.unlabelled and (training or data.data is None):
        pictures = open_unlabelled(data.unlabelled)
        return pictures if data.data is not None else part_of(pictures, data.seed, held_out=not training)
    split, kind = data.train_split if training else data.val_split, _kind(data)
    if kind == "hfds":
        return open_hub_data(_name(data), data.data_root, split)
    if kind == "torch folder":
        # The classes in torchvision's order, n10 before n2; what is a picture is the same everywhere.
        return open_folder(_root(data), split, order=str, option="--data-root")
    if kind == "torch":
        return open_torch_data(_name(data), _root(data), split)
    if kind == "wds":
        return open_shards(_root(data), split)
    return open_folder(_name(data), split)


def labelled_splits(data: DataSettings) -> list[Source]:
    """Return the splits that are read with their labels: the validation split, and the training split if there is one.

    Raises:
        DataError: they are missing, or cannot be read by index.
    """
    if data.data is None:
        return []
    trains = has_training_split(data) and not data.unlabelled
    return [open_split(data, training=training) for training in ((False, True) if trains else (False,))]


def has_training_split(data: DataSettings) -> bool:
    """Return whether `--data` has training pictures; a data set may be for validation only."""
    kind = _kind(data)
    if kind == "wds":
        return has_shards(_root(data), data.train_split)
    if kind == "torch folder":
        return os.path.isdir(Path(_root(data), data.train_split))
    return kind != "folder" or os.path.isdir(Path(_name(data), data.train_split))


def _name(data: DataSettings) -> str:
    if data.data is None:
        raise DataError("no --data was given; give a folder with train/ and val/, or the name of a data set")
    return data.data


def _kind(data: DataSettings) -> str:
    prefix, slash, _ = _name(data).partition("/")
    kind = prefix.lower() if slash else ""
    if kind in _STREAMS:
        raise DataError(
            f"--data {quoted(_name(data))} is a stream without an index, which cannot be continued exactly; use "
            f"{_STREAMS[kind]}"
        )
    if _name(data).lower() in _TORCH_FOLDERS:
        return "torch folder"
    return kind if kind in ("torch", "wds", "hfds") else "folder"


def _root(data: DataSettings) -> str:
    if not data.data_root:
        raise DataError(f"--data {quoted(_name(data))} needs --data-root, the folder where it lies")
    return data.data_root
