"""Weights of a float network in timm's names: a safetensors file, a folder, or a repository of the Hub."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from limpq_hub.zoo.entry_tensors import with_numbers
from limpq_hub.zoo.tensors import tensors_from_bytes
from limpq_hub.zoo.timm_config import TimmConfig, parse_timm_config

_CONFIG, _TENSORS = "config.json", "model.safetensors"
_LOCAL, _HUB = "local-dir:", "hf-hub:"
# What people name the files of torch.save by.
_PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")


@dataclass(frozen=True)
class FloatWeights:
    """Where weights are, and what timm's `config.json` beside them says.

    Attributes:
        name: as it was given.
        config: None if there is none beside a file.
        fetch: returns the path of the tensors, of which at most so many bytes are taken from the Hub.
    """

    name: str
    config: TimmConfig | None
    fetch: Callable[[int], Path]

    def tensors(self, at_most: int) -> Mapping[str, Tensor]:
        """Return the tensors by timm's names.

        Args:
            at_most: bytes that the file may have.

        Raises:
            InputFileError: it is no regular file, or larger.
            TrainingError: the file is no safetensors file; a pickle is not read.
            HubError: the Hub does not give it.
        """
        path, name = self.fetch(at_most), quoted(self.name)
        try:
            return with_numbers(tensors_from_bytes(read_regular(path, at_most=at_most), name), name)
        except ArtifactFormatError as error:
            if path.suffix in _PICKLE_SUFFIXES:
                raise TrainingError(f"--weights {error}; {_conversion(path)}") from None
            raise TrainingError(f"--weights {error}; give a whole {_TENSORS} in timm's names") from None


def open_weights(name: str) -> FloatWeights:
    """Return the weights of a name: "FILE.safetensors", "local-dir:FOLDER" or "hf-hub:OWNER/NAME", perhaps "@REVISION".

    Raises:
        TrainingError: there is no such file or folder, or its `config.json` is not one of timm's.
        HubError: the Hub does not give it.
    """
    if name.startswith(_HUB):
        return _from_hub(name)
    if name.startswith(_LOCAL):
        folder = Path(name.removeprefix(_LOCAL))
        for file in (_CONFIG, _TENSORS):
            if not (folder / file).exists():
                pickles = sorted(path for path in folder.glob("*") if path.suffix in _PICKLE_SUFFIXES)
                converts = pickles and file == _TENSORS
                advice = _conversion(pickles[0], folder / file) if converts else "give a folder that timm saved"
                raise TrainingError(f"--weights {quoted(name)}: there is no {file}; {advice}")
        return FloatWeights(name, _config(folder / _CONFIG, name), lambda at_most: folder / _TENSORS)
    path = Path(name)
    if not path.exists() or path.is_dir():
        raise TrainingError(f"--weights {quoted(name)}: there is no such file")
    beside = path.with_name(_CONFIG)
    return FloatWeights(name, _read(beside) if beside.is_file() else None, lambda at_most: path)


def local_file(name: str) -> Path | None:
    """Return the file of weights on this machine that a name stands for, whether or not it is there."""
    if name.startswith(_HUB):
        return None
    return Path(name.removeprefix(_LOCAL), _TENSORS) if name.startswith(_LOCAL) else Path(name)


def _from_hub(name: str) -> FloatWeights:
    """Return the weights of a Hub repository at one commit; its tensors are fetched when they are read."""
    from limpq_hub.zoo.hub import repository as hub
    from limpq_hub.zoo.hub.names import check_repository

    repo, _, revision = name.removeprefix(_HUB).partition("@")
    check_repository(repo)

    def fetch(at_most: int) -> Path:
        """Return the local path of the tensors, from the cache or the Hub."""
        try:
            with _told(name):
                return hub.fetch_file(repo, _TENSORS, commit, None, None, size_bytes=at_most)
        except HubNotFoundError as error:
            raise HubNotFoundError(f"{error}; weights are read from {_TENSORS} alone, never from a pickle") from None

    with _told(name):
        commit = hub.resolve_commit(repo, revision or None, None, None)
        config = hub.fetch_file(repo, _CONFIG, commit, None, None)
    return FloatWeights(name, _config(config, name), fetch)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say of a Hub that is not reached inside the block which weights were wanted of it, and what needs no Hub."""
    from limpq_hub.zoo.hub.timm_weights import without_weights

    try:
        yield
    except (HubOfflineError, HubUnavailableError) as error:
        raise without_weights(error, name, _TENSORS) from None


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


def _config(path: Path, name: str) -> TimmConfig:
    """Return what timm's `config.json` of a folder or repository says."""
    config = _read(path)
    if config is None:
        raise TrainingError(
            f"--weights {quoted(name)}: its {_CONFIG} is not one of timm's, which name an architecture; give weights "
            "that timm saved, or a safetensors file"
        )
    return config


def _read(path: Path) -> TimmConfig | None:
    try:
        return parse_timm_config(read_json(path), str(path))
    except ArtifactFormatError as error:
        raise TrainingError(f"--weights: {error}") from None
