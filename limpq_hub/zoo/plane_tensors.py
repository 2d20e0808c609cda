"""The tensors of a network's file, those in half precision as two planes of bytes each. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from limpq_hub.errors import ArtifactFormatError, ArtifactVersionError, quoted
from limpq_hub.quant.byte_planes import decode, encode
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.seal import HALF_CODING

# How tensors in half precision are coded.
CODING = "byte-planes"
# Behind the name of a tensor.
_HIGH, _LOW = ".high_coded", ".low"
# In fewer bytes the code and the second name would take what the high bytes save.
_FEWEST_BYTES = 4096


def planes(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the planes of tensors, uint8: "NAME.high_coded" and "NAME.low", as `limpq_hub.quant.byte_planes` has them.

    Args:
        tensors: float16, by name.
    """
    coded = {}
    for name, numbers in tensors.items():
        coded[name + _HIGH], coded[name + _LOW] = encode(numbers)
    return coded


def is_worth_coding(size_bytes: int) -> bool:
    """Return whether a tensor in half precision is large enough for its planes to take fewer bytes than it does."""
    return size_bytes >= _FEWEST_BYTES


def has_planes(names: Collection[str]) -> bool:
    """Return whether any of the names is that of a plane."""
    return any(name.endswith(_HIGH) for name in names)


def take_planes(tensors: dict[str, Any], file: str) -> dict[str, np.ndarray]:
    """Take the planes out of the tensors of a file, and return what they were made of, float16.

    Args:
        tensors: arrays or tensors by name.
        file: what to call it in an error.

    Raises:
        ArtifactFormatError: a plane is damaged or its partner missing, or a tensor is there as such too.
    """
    numbers = {}
    for name in [key.removesuffix(_HIGH) for key in tensors if key.endswith(_HIGH)]:
        if name + _LOW not in tensors:
            raise ArtifactFormatError(f"{file}: tensor {name}{_LOW} is missing")
        if name in tensors:
            raise ArtifactFormatError(f"{file}: tensor {name} is there twice, as such and as {name}{_HIGH}")
        try:
            numbers[name] = decode(np.asarray(tensors.pop(name + _HIGH)), np.asarray(tensors.pop(name + _LOW)))
        except ArtifactFormatError as error:
            raise ArtifactFormatError(f"{file}: tensor {name}{_HIGH}: {error}") from None
    return numbers


def least_bits_each(folder: SealedFolder) -> int:
    """Return how few bits a number takes in the networks' files of an entry; before format 5 none were coded.

    Raises:
        ArtifactVersionError: they are coded in a way that a later version knows.
    """
    coding = folder.config.get(HALF_CODING)
    if coding is None:
        return 16
    if coding != CODING:
        raise ArtifactVersionError(
            f"{folder.name}/config.json: {HALF_CODING} {quoted(coding)} is not {CODING!r}, the one that this version "
            f"reads; upgrade limpq-hub, or {folder.advice}"
        )
    return 8  # the low byte, of numbers whose high bytes are all the same
