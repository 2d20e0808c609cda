"""The float network that an entry came from, as the file it ships in: gzipped safetensors. No torch."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limpq_hub.errors import ArtifactFormatError, UnknownModelError
from limpq_hub.plan.costs import Costs
from limpq_hub.zoo.folder import SealedFolder

FLOAT_FILE = "float.safetensors.gz"
_LONGEST_HEADER = 2**20
# Trained weights hardly shrink; a file that unpacks to a thousand times its size was made to fill memory.
_MOST_RATIO = 16


def unpacked_float(folder: SealedFolder, at_most: int) -> bytes:
    """Return the content of the safetensors file; a header may come on top of `at_most` bytes.

    Raises:
        UnknownModelError: the entry holds none.
        ArtifactError: the file is damaged, or larger.
    """
    if FLOAT_FILE not in folder.files:
        raise UnknownModelError(f"{folder.name} holds no {FLOAT_FILE}; give the float network as --weights FILE")
    packed = folder.read(FLOAT_FILE)
    at_most = min(at_most, _MOST_RATIO * len(packed)) + _LONGEST_HEADER
    try:
        with gzip.open(io.BytesIO(packed)) as file:
            content = file.read(at_most + 1)
    except (OSError, EOFError, zlib.error):
        raise ArtifactFormatError(f"{folder.name}/{FLOAT_FILE} is not a gzip file; {folder.advice}") from None
    if len(content) > at_most:
        raise ArtifactFormatError(
            f"{folder.name}/{FLOAT_FILE} holds more than the weights of the network; {folder.advice}"
        )
    return content


def float_weights(folder: SealedFolder, costs: Costs) -> dict[str, NDArray[Any]]:
    """Return the weight of each layer, flat, in float32.

    Raises:
        UnknownModelError: the entry holds no float network.
        ArtifactError: the file is damaged, or does not fit `costs`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    name = f"{folder.name}/{FLOAT_FILE}"
    content = unpacked_float(folder, at_most=4 * sum(cost.weights for cost in costs.values()))
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactFormatError(f"{name} is not a safetensors file: {str(error)[:100]}") from None
    weights = {}
    for layer, cost in costs.items():
        tensor = tensors.get(f"{layer}.weight")
        if tensor is None or tensor.size != cost.weights:
            raise ArtifactFormatError(f"{name}: tensor {layer}.weight should hold {cost.weights} numbers")
        weights[layer] = tensor.astype(np.float32).ravel()
        if not np.isfinite(weights[layer]).all():
            raise ArtifactFormatError(f"{name}: tensor {layer}.weight has a value that is not finite")
    return weights
