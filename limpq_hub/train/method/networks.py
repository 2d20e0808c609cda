"""The float networks that trainings start from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from limpq_hub.errors import TrainingError, quoted
from limpq_hub.train.launching import command_of
from limpq_hub.train.settings import NetworkSettings
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import load_strictly, tensors_from_bytes
from limpq_hub.zoo.timm_network import timm_network


def float_network(start: NetworkSettings, weights: str | None, num_classes: int | None) -> nn.Module:
    """Return the timm network in eval mode.

    Args:
        start: which network, and for which pictures.
        weights: safetensors file, "pretrained" for timm's own, or None for random ones; `start.weights` does not count.
        num_classes: outputs of the classifier; None for as many as the weights have.

    Raises:
        TrainingError: the file is missing, or for another network.
    """
    if not timm.is_model(start.model):
        close = difflib.get_close_matches(start.model, timm.list_models(), n=3)
        advice = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() names them"
        raise TrainingError(f"--model {quoted(start.model)}: timm has no network of that name; {advice}")
    tensors: Mapping[str, Tensor] = {}
    preparation: dict[str, object] = {"crop_pct": 1.0, "interpolation": "bilinear"}
    if weights == "pretrained":
        preparation = {}
        config = timm.get_pretrained_cfg(start.model)
        if config is not None and num_classes is not None and config.num_classes != num_classes:
            raise TrainingError(
                f"timm's weights of {start.model} are for {config.num_classes} classes, the data has {num_classes}: "
                f"train others with {command_of('pretrain')}, and give --weights"
            )
    elif weights is not None:
        if not Path(weights).is_file():
            raise TrainingError(f"--weights {quoted(weights)}: there is no such file")
        tensors = tensors_from_bytes(Path(weights).read_bytes(), weights)
        num_classes = _classes_of(start.model, tensors) if num_classes is None else num_classes
    model = timm_network(
        start.model,
        input_size=start.input_size,
        config=preparation,
        num_classes=num_classes,
        pretrained=weights == "pretrained",
    )
    if weights is not None and weights != "pretrained":
        load_strictly(model, tensors, weights)
    return model.eval()


def _classes_of(architecture: str, tensors: Mapping[str, Tensor]) -> int | None:
    """Return how many classes a file of weights has: the rows of the classifier; None if it does not show."""
    config = timm.get_pretrained_cfg(architecture)
    classifier = config.classifier if config is not None else None
    name = classifier if isinstance(classifier, str) or classifier is None else classifier[0]
    weight = tensors.get(f"{name}.weight")
    return None if weight is None else len(weight)


def float_network_of(entry: Entry, weights: str | None) -> nn.Module:
    """Return the float network of an entry in eval mode.

    Args:
        weights: safetensors file, or None for the one that the entry holds.

    Raises:
        TrainingError: the file is missing, or for another network.
        UnknownModelError: the entry holds none.
    """
    if weights is None:
        return load_float_network(entry.folder)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    return float_network(NetworkSettings(spec.architecture, spec.input_size, weights), weights, spec.num_classes)


def placed(module: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Return the module itself, moved to the device and, if asked for, into the memory format with channels last."""
    module.to(device)
    return module.to(memory_format=torch.channels_last) if channels_last else module
