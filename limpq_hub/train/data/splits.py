"""The training and validation split that the settings name, opened as the kind of data set that `--data` is."""

from __future__ import annotations

from dataclasses import replace

from limpq_hub.errors import DataError, quoted
from limpq_hub.train.data.class_folders import open_folder
from limpq_hub.train.data.shard_listing import check_listed_apart
from limpq_hub.train.data.shards import open_shards
from limpq_hub.train.data.sources import NoSplitError, Source, open_hub_data
from limpq_hub.train.data.torchvision_source import open_torch_data, torchvision_split
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
        return open_shards(_root(data), split, beside=data.val_split if training else data.train_split)
    return open_folder(_name(data), split)


def labelled_splits(data: DataSettings) -> list[Source]:
    """Return the splits that are read with their labels: the validation split, and the training split if there is one.

    Raises:
        DataError: they are missing, or cannot be read by index.
    """
    if data.data is None:
        return []
    validated = open_split(data, training=False)
    trained = None if data.unlabelled else training_split(data)
    return [validated] if trained is None else [validated, trained]


def training_split(data: DataSettings) -> Source | None:
    """Return the training split of `--data`; None where it has none, as a data set may be for validation only.

    Raises:
        DataError: the pictures cannot be read by index, or have no classes, or a split that was named is not there.
    """
    try:
        return open_split(replace(data, unlabelled=()), training=True)
    except NoSplitError:
        if data.train_split != DataSettings.train_split:
            raise
        return None


def check_apart(data: DataSettings) -> None:
    """Raise `DataError` where both splits have the same pictures: what is measured would be what was learned."""
    if data.data is None or data.unlabelled:
        return
    splits = data.train_split, data.val_split
    if _kind(data) == "wds" and splits[0] != splits[1]:
        check_listed_apart(_root(data), *splits)
    if len({torchvision_split(data.data, split) if _kind(data) == "torch" else split for split in splits}) == 1:
        raise DataError(
            f"--train-split {splits[0]} and --val-split {splits[1]} are the same pictures of --data "
            f"{quoted(data.data)}, so that what is measured would be what was learned; name two splits"
        )


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
