"""The training and validation split that the settings name, opened as the kind of data set that `--data` is."""

from __future__ import annotations

from pathlib import Path

from limpq_hub.errors import DataError, quoted
from limpq_hub.train.data.class_folders import open_folder
from limpq_hub.train.data.shards import has_shards, open_shards
from limpq_hub.train.data.sources import Source, open_hub_data, open_torch_data
from limpq_hub.train.settings import DataSettings

_STREAMS = {"hfids": "hfds/", "tfds": "hfds/, wds/ or folders"}


def open_split(data: DataSettings, *, training: bool) -> Source:
    """Return the pictures of the training or the validation split.

    Raises:
        DataError: they are missing, or cannot be read by index.
    """
    split = data.train_split if training else data.val_split
    kind = _kind(data)
    if kind == "hfds":
        return open_hub_data(data.data, data.data_root, split)
    if kind == "torch":
        return open_torch_data(data.data, _root(data), split)
    if kind == "wds":
        return open_shards(_root(data), split)
    return open_folder(data.data, split)


def has_training_split(data: DataSettings) -> bool:
    """Return whether there are training pictures; a data set may be for validation only."""
    kind = _kind(data)
    if kind == "wds":
        return has_shards(_root(data), data.train_split)
    return kind != "folder" or (Path(data.data) / data.train_split).is_dir()


def _kind(data: DataSettings) -> str:
    prefix, slash, _ = data.data.partition("/")
    kind = prefix.lower() if slash else ""
    if kind in _STREAMS:
        raise DataError(
            f"--data {quoted(data.data)} is a stream without an index, which cannot be continued exactly; use "
            f"{_STREAMS[kind]}"
        )
    return kind if kind in ("torch", "wds", "hfds") else "folder"


def _root(data: DataSettings) -> str:
    if not data.data_root:
        raise DataError(f"--data {quoted(data.data)} needs --data-root, the folder where it lies")
    return data.data_root
