"""The float networks that trainings start from."""

from __future__ import annotations

import difflib
from pathlib import Path

import timm
import torch
from torch import nn

from limpq_hub.errors import TrainingError, quoted
from limpq_hub.train.launching import command_of
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import load_strictly, tensors_from_bytes
from limpq_hub.zoo.timm_network import timm_network


def float_network(architecture: str, num_classes: int, input_size: int, weights: str | None) -> nn.Module:
    """Return the timm network in eval mode.

    Args:
        weights: safetensors file, "pretrained" for timm's own, or None for random ones.

    Raises:
        TrainingError: the file is missing, or for another network.
    """
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        advice = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() names them"
        raise TrainingError(f"--model {quoted(architecture)}: timm has no network of that name; {advice}")
    preparation: dict[str, object] = {}
    if weights == "pretrained":
        config = timm.get_pretrained_cfg(architecture)
        if config is not None and config.num_classes != num_classes:
            raise TrainingError(
                f"timm's weights of {architecture} are for {config.num_classes} classes, the data has {num_classes}: "
                f"train others with {command_of('pretrain')}, and give --weights"
            )
    else:
        preparation = {"crop_pct": 1.0, "interpolation": "bilinear"}
    model = timm_network(
        architecture,
        input_size=input_size,
        config=preparation,
        num_classes=num_classes,
        pretrained=weights == "pretrained",
    )
    if weights is not None and weights != "pretrained":
        if not Path(weights).is_file():
            raise TrainingError(f"--weights {quoted(weights)}: there is no such file")
        load_strictly(model, tensors_from_bytes(Path(weights).read_bytes(), weights), weights)
    return model.eval()


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
    return float_network(spec.architecture, spec.num_classes, spec.input_size, weights)


def placed(module: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Return the module itself, moved to the device and, if asked for, into the memory format with channels last."""
    module.to(device)
    return module.to(memory_format=torch.channels_last) if channels_last else module
