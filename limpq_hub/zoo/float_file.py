"""The float network that an entry came from, as a file: safetensors, which earlier versions gzipped. No torch."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limpq_hub.errors import ArtifactFormatError, UnknownModelError
from limpq_hub.plan.costs import Costs
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.plane_tensors import take_planes

FLOAT_FILE = "float.safetensors"
# What versions before format 5 wrote.
GZIPPED_FLOAT_FILE = "float.safetensors.gz"
_LONGEST_HEADER = 2**20
# Trained weights hardly shrink; a file that unpacks to a thousand times its size was made to fill memory.
_MOST_RATIO = 16


def float_file_of(folder: SealedFolder) -> str | None:
    """Return the name of the file of the float network, None of an entry that holds none."""
    return next((file for file in (FLOAT_FILE, GZIPPED_FLOAT_FILE) if file in folder.files), None)


def unpacked_float(folder: SealedFolder, at_most: int) -> bytes:
    """Return the content of the safetensors file; a header may come on top of `at_most` bytes.

    Raises:
        UnknownModelError: the entry holds none.
        ArtifactError: the file is damaged, or larger.
    """
    file = float_file_of(folder)
    if file is None:
        raise UnknownModelError(f"{folder.name} holds no {FLOAT_FILE}; give an entry that holds its float network")
    too_much = ArtifactFormatError(f"{folder.name}/{file} holds more than the weights of the network; {folder.advice}")
    if folder.listed_bytes(file) > at_most + _LONGEST_HEADER:
        raise too_much
    content = folder.read(file)
    if file == FLOAT_FILE:
        return content
    at_most = min(at_most, _MOST_RATIO * len(content)) + _LONGEST_HEADER
    try:
        with gzip.open(io.BytesIO(content)) as packed:
            content = packed.read(at_most + 1)
    except (OSError, EOFError, zlib.error):
        raise ArtifactFormatError(f"{folder.name}/{file} is not a gzip file; {folder.advice}") from None
    if len(content) > at_most:
        raise too_much
    return content


def float_weights(folder: SealedFolder, costs: Costs, layers: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the weight of each layer, flat, in float32.

    Args:
        costs: of all that the network multiplies.
        layers: those whose weights are asked for; all of `costs` if None.

    Raises:
        UnknownModelError: the entry holds no float network.
        ArtifactError: the file is damaged, or does not fit `costs`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    name = f"{folder.name}/{float_file_of(folder)}"
    content = unpacked_float(folder, at_most=4 * sum(cost.weights for cost in costs.values()))
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactFormatError(f"{name} is not a safetensors file: {str(error)[:100]}") from None
    tensors |= take_planes(tensors, name)
    weights = {}
    for layer in costs if layers is None else layers:
        tensor = tensors.get(f"{layer}.weight")
        if tensor is None or tensor.size != costs[layer].weights:
            raise ArtifactFormatError(f"{name}: tensor {layer}.weight should hold {costs[layer].weights} numbers")
        weights[layer] = tensor.astype(np.float32).ravel()
        if not np.isfinite(weights[layer]).all():
            raise ArtifactFormatError(f"{name}: tensor {layer}.weight has a value that is not finite")
    return weights
