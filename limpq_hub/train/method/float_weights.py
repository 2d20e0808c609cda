"""Weights of a float network in timm's names: a safetensors file, a folder, or a repository of the Hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from limpq_hub.errors import ArtifactFormatError, HubNotFoundError, TrainingError, quoted
from limpq_hub.plan.jsonfile import parse_json
from limpq_hub.zoo.tensors import tensors_from_bytes
from limpq_hub.zoo.timm_config import TimmConfig, parse_timm_config

_CONFIG, _TENSORS = "config.json", "model.safetensors"
_LOCAL, _HUB = "local-dir:", "hf-hub:"
# What is taken from the Hub at most: more than the largest network of timm has.
_MOST_BYTES = 32 * 2**30


@dataclass(frozen=True)
class FloatWeights:
    """Where weights are, and what timm's `config.json` beside them says.

    Attributes:
        name: as it was given.
        config: None if there is none beside a file.
        fetch: returns the path of the tensors.
    """

    name: str
    config: TimmConfig | None
    fetch: Callable[[], Path]

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors by timm's names.

        Raises:
            TrainingError: the file is no safetensors file; a pickle is not read.
            HubError: the Hub does not give it.
        """
        try:
            return tensors_from_bytes(self.fetch().read_bytes(), quoted(self.name))
        except ArtifactFormatError as error:
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
            if not (folder / file).is_file():
                raise TrainingError(f"--weights {quoted(name)}: there is no {file}; give a folder that timm saved")
        return FloatWeights(name, _config(folder / _CONFIG, name), lambda: folder / _TENSORS)
    path = Path(name)
    if not path.is_file():
        raise TrainingError(f"--weights {quoted(name)}: there is no such file")
    beside = path.with_name(_CONFIG)
    return FloatWeights(name, _read(beside) if beside.is_file() else None, lambda: path)


def _from_hub(name: str) -> FloatWeights:
    from limpq_hub.zoo.hub import repository as hub
    from limpq_hub.zoo.hub.names import check_repository

    repo, _, revision = name.removeprefix(_HUB).partition("@")
    check_repository(repo)
    commit = hub.resolve_commit(repo, revision or None, None, None)

    def fetch() -> Path:
        try:
            return hub.fetch_file(repo, _TENSORS, commit, None, None, size_bytes=_MOST_BYTES)
        except HubNotFoundError as error:
            raise HubNotFoundError(f"{error}; weights are read from {_TENSORS} alone, never from a pickle") from None

    return FloatWeights(name, _config(hub.fetch_file(repo, _CONFIG, commit, None, None), name), fetch)


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
        return parse_timm_config(parse_json(path.read_bytes(), str(path)), str(path))
    except ArtifactFormatError as error:
        raise TrainingError(f"--weights: {error}") from None
