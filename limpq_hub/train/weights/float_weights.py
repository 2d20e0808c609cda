"""Weights of a float network: a safetensors file in timm's names, a folder or a repository of timm's, or an entry."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from limpq_hub.errors import (
    ArtifactFormatError,
    HubNotFoundError,
    HubOfflineError,
    HubUnavailableError,
    TrainingError,
    quoted,
)
from limpq_hub.plan.input_file import read_regular
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.weights.entry_weights import bundled_advice, float_file_in, kind_of, local_entry, network_config
from limpq_hub.train.weights.mistaken_weights import mistaken_json, mistaken_tensors
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_tensors import float_tensors, with_numbers
from limpq_hub.zoo.tensors import tensors_from_bytes
from limpq_hub.zoo.timm_config import TimmConfig, parse_timm_config

_CONFIG, _TENSORS = "config.json", "model.safetensors"
_LOCAL, _HUB = "local-dir:", "hf-hub:"
# What people name the files of torch.save by.
_PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")


@dataclass(frozen=True)
class FloatWeights:
    """Where weights are, and what the `config.json` beside them says.

    Attributes:
        name: as it was given.
        config: None if there is none beside a file.
        tensors: returns the tensors by timm's names, from a file of at most so many bytes. It raises `InputFileError`
            where that is no regular file, or larger; `TrainingError` where it is no safetensors file; `HubError` where
            the Hub does not give it; of an entry `UnknownModelError` where it holds no float network, and
            `ArtifactError` where it is damaged.
    """

    name: str
    config: TimmConfig | None
    tensors: Callable[[int], Mapping[str, Tensor]]


def open_weights(name: str, option: str = "--weights") -> FloatWeights:
    """Return the weights of a name: "FILE.safetensors", "local-dir:FOLDER" or "hf-hub:OWNER/NAME", perhaps "@REVISION".

    A folder or repository is one of timm's, or an entry of this library, whose float network is meant.

    Args:
        name: of the weights.
        option: that the name was typed for, to be named in an error.

    Raises:
        TrainingError: there is no such file or folder, or its `config.json` is not one of timm's.
        ArtifactError: the entry is damaged.
        HubError: the Hub does not give it.
    """
    if name.startswith(_HUB):
        return _from_hub(name, option)
    label = f"{option} {quoted(name)}"
    entry = local_entry(name, option)
    if entry is not None:
        return _of_entry(name, entry)
    if name.startswith(_LOCAL):
        folder = Path(name.removeprefix(_LOCAL))
        for file in (_CONFIG, _TENSORS):
            if not os.path.exists(folder / file):
                inside = folder.glob("*") if os.path.isdir(folder) else ()
                pickles = sorted(path for path in inside if path.suffix in _PICKLE_SUFFIXES)
                converts = pickles and file == _TENSORS
                other = "give a folder that timm saved, or an entry"
                advice = _conversion(pickles[0], folder / file) if converts else other
                raise TrainingError(f"{label}: there is no {file}; {advice}")
        return FloatWeights(name, _config(folder / _CONFIG, label), partial(_tensors_of, label, folder / _TENSORS))
    path = Path(name)
    if os.path.isdir(path):
        raise TrainingError(f"{label} is a folder: write {shell_command(option, f'{_LOCAL}{name}')}")
    if not os.path.exists(path):
        raise TrainingError(f"{label}: there is no such file{bundled_advice(name, option)}")
    beside = path.with_name(_CONFIG)
    config = _read(beside, label) if os.path.isfile(beside) else None
    return FloatWeights(name, config, partial(_tensors_of, label, path))


def local_file(name: str) -> Path | None:
    """Return the file of weights on this machine that a name stands for, whether or not it is there."""
    if name.startswith(_HUB):
        return None
    if not name.startswith(_LOCAL):
        return Path(name)
    folder = Path(name.removeprefix(_LOCAL))
    return float_file_in(folder) or folder / _TENSORS


def _of_entry(name: str, entry: Entry) -> FloatWeights:
    """Return the float network of an entry, each of whose files is verified when it is read."""
    return FloatWeights(name, network_config(entry), lambda at_most: float_tensors(entry.folder))


def _tensors_of(label: str, path: Path, at_most: int) -> Mapping[str, Tensor]:
    """Return the tensors of a file of at most so many bytes, called `label` where it cannot be used."""
    content = read_regular(path, at_most=at_most)
    try:
        tensors = tensors_from_bytes(content, label)
        mistake = mistaken_tensors(tensors)
        if mistake:
            raise TrainingError(f"{label}: {mistake}")
        return with_numbers(tensors, label)
    except ArtifactFormatError as error:
        mistake = mistaken_json(content)
        if mistake:
            raise TrainingError(f"{label}: {mistake}") from None
        if path.suffix in _PICKLE_SUFFIXES:
            raise TrainingError(f"{error}; {_conversion(path)}") from None
        raise TrainingError(f"{error}; give a whole {_TENSORS} in timm's names") from None


def _from_hub(name: str, option: str) -> FloatWeights:
    """Return the weights of a Hub repository at one commit; its tensors are fetched when they are read."""
    from limpq_hub.zoo.hub import repository as hub
    from limpq_hub.zoo.hub.names import check_repository

    repo, _, revision = name.removeprefix(_HUB).partition("@")
    check_repository(repo)
    label = f"{option} {quoted(name)}"

    def tensors(at_most: int) -> Mapping[str, Tensor]:
        """Return the tensors, from the cache or the Hub."""
        try:
            with _told(name, option):
                path = hub.fetch_file(repo, _TENSORS, commit, None, None, size_bytes=at_most)
        except HubNotFoundError as error:
            raise HubNotFoundError(f"{error}; weights are read from {_TENSORS} alone, never from a pickle") from None
        return _tensors_of(label, path, at_most)

    with _told(name, option):
        commit = hub.resolve_commit(repo, revision or None, None, None)
        config = hub.fetch_file(repo, _CONFIG, commit, None, None)
        if kind_of(config) == "entry":
            return _of_entry(name, find_entry(f"{_HUB}{repo}@{commit}"))
    return FloatWeights(name, _config(config, label), tensors)


@contextmanager
def _told(name: str, option: str) -> Iterator[None]:
    """Say of a Hub that is not reached inside the block which weights were wanted of it, and what needs no Hub."""
    from limpq_hub.zoo.hub.timm_weights import without_weights

    try:
        yield
    except (HubOfflineError, HubUnavailableError) as error:
        raise without_weights(error, name, _TENSORS, option) from None


def _conversion(pickled: Path, target: Path | None = None) -> str:
    """Return the line that makes a safetensors file of a file of torch.save without executing what is in it."""
    target = target or pickled.with_suffix(".safetensors")
    # Clones: layers may share a weight, which a safetensors file does not say.
    code = (
        "import torch, safetensors.torch as s; "
        f't = torch.load({json.dumps(str(pickled))}, map_location="cpu", weights_only=True); '
        's.save_file({k: v.clone().contiguous() for k, v in t.get("state_dict", t).items()}, '
        f"{json.dumps(str(target))})"
    )
    return f"a pickle can execute code and is not read; this converts it safely: {shlex.join(['python', '-c', code])}"


def _config(path: Path, label: str) -> TimmConfig:
    """Return what timm's `config.json` of a folder or repository says."""
    config = _read(path, label)
    if config is None:
        raise TrainingError(
            f"{label}: its {_CONFIG} is neither one of timm's, which name an architecture, nor that "
            "of an entry; give weights that timm saved, an entry, or a safetensors file"
        )
    return config


def _read(path: Path, label: str) -> TimmConfig | None:
    try:
        return parse_timm_config(read_json(path), str(path))
    except ArtifactFormatError as error:
        raise TrainingError(f"{label}: {error}") from None
