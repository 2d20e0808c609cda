"""The float networks that trainings start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from limpq_hub.errors import ArtifactFormatError, TrainingError, UnknownModelError, UnsupportedLayerError, quoted
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.launching import command_of
from limpq_hub.train.settings import NetworkSettings
from limpq_hub.train.weights.entry_weights import timm_name_of
from limpq_hub.train.weights.float_weights import open_weights
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.float_file import FLOAT_FILE, float_file_of
from limpq_hub.zoo.hub.timm_weights import fetch_timm_weights
from limpq_hub.zoo.meta_network import network_on_meta, number_count
from limpq_hub.zoo.network import PREPARATION, NetworkSpec
from limpq_hub.zoo.tensors import load_strictly
from limpq_hub.zoo.timm_config import TimmConfig
from limpq_hub.zoo.timm_names import architecture_of, known_config, place_of_weights

# Beside the numbers of the network: names, and the weights of many more classes than timm's own have.
_ROOM_BYTES = 2**30


def float_network(
    start: NetworkSettings, weights: str | None, num_classes: int | None, option: str = "--weights"
) -> nn.Module:
    """Return the timm network in eval mode.

    How it takes pictures, and of which size, belongs to the weights: timm's configuration for "pretrained", the
    `config.json` of a folder, repository or entry, or beside a file. Where there is none, pictures are scaled whole, to
    timm's size and with timm's mean and standard deviation for the architecture. What `start` says comes before all of
    them.

    Args:
        start: which network, its arguments, and how it takes pictures; its `weights` do not count.
        weights: "pretrained" for timm's own, safetensors file, "local-dir:FOLDER" or "hf-hub:OWNER/NAME" of timm's or
            of an entry, or None for random ones.
        num_classes: outputs of the classifier; None for as many as the weights have.
        option: that the weights were typed for, to be named in an error.

    Raises:
        UnknownModelError: timm has no such network.
        TrainingError: there are no such weights, or they are of another network or for other classes.
        ArtifactError: the entry that they are of is damaged.
        HubError: the Hub does not give them.
    """
    timms = _timms_config(start.model)
    if weights == "pretrained":
        return _pretrained(start, timms, num_classes, option)
    architecture = start.model.partition(".")[0]
    whole = {"mean": timms.mean, "std": timms.std, "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}
    config = TimmConfig(architecture, None, timms.input_size[-1], whole, {})
    if weights is None:
        return _built(_spec(start, config, num_classes or timms.num_classes, "--model"))
    source = open_weights(weights, option)
    config = source.config or config
    if config.architecture != architecture:
        raise TrainingError(
            f"{option} {quoted(weights)} is of {quoted(config.architecture)}, --model is {quoted(start.model)}: give "
            "both of one network"
        )
    tensors = source.tensors(_most_bytes(start, config))
    rows = _classes_of(tensors, timms)
    if num_classes is not None and rows not in (None, num_classes):
        raise TrainingError(
            f"{option} {quoted(weights)} is for {rows} classes, the network is to have {num_classes}: give weights "
            f"for as many, or train some with {command_of('pretrain')}, which gives --weights a new head"
        )
    spec = _spec(start, config, num_classes or rows or config.num_classes or timms.num_classes, f"{option} {weights}")
    network = _built(spec)
    try:
        load_strictly(network, tensors, quoted(weights))
    except ArtifactFormatError as error:
        raise TrainingError(
            f"{option} {error}; is it of {spec.title}? give the --model and --model-args that the weights are of"
        ) from None
    return network


def float_network_of(entry: Entry, weights: str | None, option: str = "--weights") -> nn.Module:
    """Return the float network of an entry in eval mode.

    Args:
        weights: as `float_network` takes them, for pictures as the entry takes them; None for those that it holds;
            "pretrained" for timm's own of the name that its joint training was given.
        option: that the weights were typed for, to be named in an error.

    Raises:
        TrainingError: there are no such weights, or they are of another network or for other classes.
        UnknownModelError: the entry holds none.
    """
    if weights is None:
        if float_file_of(entry.folder) is None:
            raise UnknownModelError(
                f"{entry.folder.name} holds no {FLOAT_FILE}; give the float network as {option} FILE"
            )
        return load_float_network(entry.folder)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    preparation: dict[str, Any] = {key: getattr(spec, key) for key in PREPARATION}
    model = timm_name_of(entry) if weights == "pretrained" else spec.architecture
    start = NetworkSettings(model, spec.input_size, weights, spec.model_args, **preparation)
    return float_network(start, weights, spec.num_classes, option)


def classifier_for(start: NetworkSettings, num_classes: int) -> tuple[nn.Module, bool]:
    """Return the network to train for so many classes, and whether it has a new head on the features of `start`.

    Weights for another number of classes keep their features; their head gives way to a random one.

    Raises:
        TrainingError: as `float_network` does.
        HubError: the Hub does not give the weights.
    """
    network: Any = float_network(start, start.weights, None if start.weights else num_classes)
    new_head = network.num_classes != num_classes
    if new_head:
        network.reset_classifier(num_classes)
    return network, new_head


def description_of(network: nn.Module, weights: str | None, *, new_head: bool = False) -> str:
    """Return in one line which float network a training starts from, and how it takes pictures.

    Args:
        new_head: whether only the features have those weights.
    """
    spec = NetworkSpec.of(network)
    origin = "random weights" if weights is None else f"weights {weights}" + (", a new head" if new_head else "")
    return f"float network: {spec.title}, {origin}; pictures: {spec.preparation}"


def placed(module: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Return the module itself, moved to the device and, if asked for, into the memory format with channels last."""
    module.to(device)
    return module.to(memory_format=torch.channels_last) if channels_last else module


def _timms_config(model: str) -> PretrainedCfg:
    """Return what timm says of a network; its defaults where it says nothing."""
    weights = place_of_weights(model)
    if weights is not None:
        raise TrainingError(
            f"--model {quoted(model)} is where weights are: give the timm architecture, for example "
            f"{architecture_of(weights)}, and {shell_command('--weights', weights)}"
        )
    return known_config(model) or PretrainedCfg()


def _pretrained(start: NetworkSettings, timms: PretrainedCfg, num_classes: int | None, option: str) -> nn.Module:
    """Return the network with timm's own weights."""
    if num_classes is not None and timms.num_classes != num_classes:
        raise TrainingError(
            f"timm's weights of {start.model} are for {timms.num_classes} classes, the data has {num_classes}: give "
            f"them a new head with {command_of('pretrain', '--model', start.model, '--weights', 'pretrained')}, and "
            f"what that trains as {option}"
        )
    if not timms.has_weights:
        raise TrainingError(
            f"timm has no weights of {start.model}: train others with {command_of('pretrain')}, and give {option}"
        )
    architecture, _, tag = start.model.partition(".")
    preparation = {key: getattr(timms, key) for key in PREPARATION}
    config = TimmConfig(architecture, None, timms.input_size[-1], preparation, {})
    spec = _spec(start, config, timms.num_classes, f"{option} pretrained")
    fetch_timm_weights(timms, at_most=_most_bytes(start, config))
    return _built(spec, pretrained=True, pretrained_cfg=tag or None)


def _spec(start: NetworkSettings, config: TimmConfig, num_classes: int, label: str) -> NetworkSpec:
    """Return the network that `start` asks for, with what it leaves open from the configuration of the weights.

    Args:
        label: what to begin an error with.
    """
    typed = {key: getattr(start, key) for key in PREPARATION if getattr(start, key) is not None}
    preparation = {**config.preparation, **typed}
    content = {
        "architecture": config.architecture,
        "num_classes": num_classes,
        "input_size": start.input_size or config.input_size,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in preparation.items()},
        "model_args": {**config.model_args, **(start.model_args or {})},
    }
    try:
        return NetworkSpec.from_config(content, label)
    except ArtifactFormatError as error:
        raise TrainingError(str(error)) from None


def _most_bytes(start: NetworkSettings, config: TimmConfig) -> int:
    """Return how large a file of weights may be: in float64, and with many more classes than timm's own have."""
    try:
        model_args = {**config.model_args, **(start.model_args or {})}
        input_size = start.input_size or config.input_size
        network = network_on_meta(config.architecture, input_size=input_size, model_args=model_args)
    except UnsupportedLayerError:  # that it cannot be built is told later
        return _ROOM_BYTES
    return 8 * number_count(network) + _ROOM_BYTES


def _built(spec: NetworkSpec, **options: Any) -> nn.Module:
    """Return the network, built by timm with more options."""
    try:
        return spec.build(**options)
    except ArtifactFormatError as error:
        raise TrainingError(f"--model: {error}; leave out arguments and sizes that it does not take") from error


def _classes_of(tensors: Mapping[str, Tensor], timms: PretrainedCfg) -> int | None:
    """Return how many classes weights have: the rows of the classifier; None if they have none of timm's name."""
    classifier = timms.classifier if isinstance(timms.classifier, str) else (timms.classifier or [None])[0]
    weight = tensors.get(f"{classifier}.weight")
    return None if weight is None else len(weight)
