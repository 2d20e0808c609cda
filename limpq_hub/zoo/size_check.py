"""Whether a file can hold a network: parameters are counted on the meta device, before memory is taken for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import timm
from torch import Tensor

from limpq_hub.errors import ArtifactFormatError, UnknownModelError, UnsupportedLayerError
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.meta_network import network_on_meta, number_count
from limpq_hub.zoo.model_args import ModelArgument
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import tensors_from_bytes

# Beside the weights: names and shapes, steps of every output channel at every bit-width, statistics.
_MOST_BYTES_EACH, _HEADER_BYTES = 16, 2**24


def parameter_count(spec: NetworkSpec, name: str) -> int:
    """Return how many numbers the parameters and buffers of a network are, without memory for them.

    Args:
        name: what to call the artifact in an error.

    Raises:
        ArtifactFormatError: timm cannot build the network for this input size, or with these arguments.
    """
    factory = timm.model_entrypoint(spec.architecture) if timm.is_model(spec.architecture) else None
    try:
        return _counted(factory, spec.architecture, spec.num_classes, spec.input_size, spec.model_args)
    except (UnsupportedLayerError, UnknownModelError) as error:
        raise ArtifactFormatError(f"{name}/config.json: {error}") from None


def tensors_of_network(folder: SealedFolder, file: str, spec: NetworkSpec, *, bits: float) -> dict[str, Tensor]:
    """Return the tensors of a file, once its size says that it can hold the network; nothing is built for that.

    Args:
        spec: the network that `config.json` names.
        bits: the fewest that a number takes in this file, on average.

    Raises:
        ArtifactError: the file is damaged, no safetensors file, or too small or too large for the network.
    """
    count, name = parameter_count(spec, folder.name), f"{folder.name}/{file}"
    listed = folder.listed_bytes(file)
    if listed > count * _MOST_BYTES_EACH + _HEADER_BYTES:
        raise _misfit(folder, file, spec, count)
    tensors = tensors_from_bytes(folder.read(file), name)
    if 8 * listed < bits * count:
        raise _misfit(folder, file, spec, count)
    return tensors


def check_listed_size(folder: SealedFolder, file: str, spec: NetworkSpec, *, bits: float) -> None:
    """Raise `ArtifactFormatError` if the file, which is not read, is listed with too few bytes for the network."""
    count = parameter_count(spec, folder.name)
    if 8 * folder.listed_bytes(file) < bits * count:
        raise _misfit(folder, file, spec, count)


# Every file of an artifact is checked against the same network.
@lru_cache(maxsize=256)
def _counted(
    factory: object, architecture: str, num_classes: int, input_size: int, model_args: Mapping[str, ModelArgument]
) -> int:
    """Return how many numbers a network has; `factory` tells networks apart that were registered under one name."""
    network = network_on_meta(architecture, num_classes=num_classes, input_size=input_size, model_args=model_args)
    return number_count(network)


def _misfit(folder: SealedFolder, file: str, spec: NetworkSpec, count: int) -> ArtifactFormatError:
    listed = folder.listed_bytes(file)
    return ArtifactFormatError(
        f"{folder.name}/{file} of {listed:,} bytes cannot be {spec.architecture} with {spec.num_classes:,} classes at "
        f"{spec.input_size:,} pixels, which has {count:,} numbers; {folder.advice}"
    )
