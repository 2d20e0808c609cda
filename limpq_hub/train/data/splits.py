"""The training and validation split that the options name, opened as the kind of data set that `--data` is."""

from __future__ import annotations

import argparse
from pathlib import Path

from limpq_hub.errors import DataError, shown
from limpq_hub.train.data.class_folders import open_folder
from limpq_hub.train.data.shards import has_shards, open_shards
from limpq_hub.train.data.sources import Source, open_hub_data, open_torch_data

_STREAMS = {"hfids": "hfds/", "tfds": "hfds/, wds/ or folders"}


def open_split(options: argparse.Namespace, *, training: bool) -> Source:
    """Return the pictures of the training or the validation split.

    Raises:
        DataError: they are missing, or cannot be read by index.
    """
    split = options.train_split if training else options.val_split
    kind = _kind(options)
    if kind == "hfds":
        return open_hub_data(options.data, options.data_root, split)
    if kind == "torch":
        return open_torch_data(options.data, options.data_root, split)
    if kind == "wds":
        return open_shards(options.data_root, split)
    return open_folder(options.data, split)


def has_training_split(options: argparse.Namespace) -> bool:
    """Return whether there are training pictures; a data set may be for validation only."""
    kind = _kind(options)
    if kind == "wds":
        return has_shards(options.data_root, options.train_split)
    return kind != "folder" or (Path(options.data) / options.train_split).is_dir()


def _kind(options: argparse.Namespace) -> str:
    prefix, slash, _ = options.data.partition("/")
    kind = prefix.lower() if slash else ""
    if kind in _STREAMS:
        raise DataError(
            f"--data {shown(options.data)} is a stream without an index, which cannot be continued exactly; use "
            f"{_STREAMS[kind]}"
        )
    if kind in ("torch", "wds") and not options.data_root:
        raise DataError(f"--data {shown(options.data)} needs --data-root, the folder where it lies")
    return kind if kind in ("torch", "wds", "hfds") else "folder"
