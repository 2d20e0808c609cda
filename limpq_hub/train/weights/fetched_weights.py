"""What a run starts from, by its content: weights of the Hub, which may be renewed, and files that may be edited."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limpq_hub.plan.input_file import read_regular
from limpq_hub.zoo.tensors import own_state, tensors_to_bytes


def is_fetched(name: object) -> bool:
    """Return whether weights of this name come from the Hub: timm's own, or those of a repository."""
    return isinstance(name, str) and (name == "pretrained" or name.startswith("hf-hub:"))


def content_name(option: str) -> str:
    """Return what a message calls the content of what an option names: "weights", "teacher" or "class-names"."""
    return f"content of --{option}"


def fetched_content(option: str, name: str | None, network: nn.Module, *, new_head: bool = False) -> dict[str, str]:
    """Return the sha256 of what a network got from the Hub, by `content_name`; nothing of weights from elsewhere.

    Args:
        option: "weights" or "teacher".
        name: what that option says.
        network: of timm, with those weights as they were fetched.
        new_head: whether its classifier was drawn, and so is none of them.
    """
    if not is_fetched(name):
        return {}
    timms: Any = network
    classifiers = timms.pretrained_cfg["classifier"] if new_head else ()
    heads = tuple(f"{head}." for head in ([classifiers] if isinstance(classifiers, str) else classifiers))
    state = {key: value for key, value in own_state(network).items() if not key.startswith(heads)}
    return {content_name(option): _digest(state)}


def network_content(network: nn.Module) -> str:
    """Return the sha256 of the weights of a network, wherever they came from."""
    return _digest(own_state(network))


def _digest(state: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(tensors_to_bytes(state)).hexdigest()


def file_content(option: str, path: Path | None) -> dict[str, str]:
    """Return the sha256 of the file that an option names, by `content_name`; nothing where none was given."""
    return {} if path is None else {content_name(option): hashlib.sha256(read_regular(path)).hexdigest()}
