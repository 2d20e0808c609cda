"""The tensors of a network's file, those in half precision as two planes of bytes each. No torch.

A supernet beside the float network that it was trained from holds how far each number moved, where that takes less. Its
file names the sha256 of the float network's, beside no other one can it be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from limpq_hub.errors import ArtifactFormatError, ArtifactIntegrityError, ArtifactVersionError, quoted
from limpq_hub.quant.byte_planes import decode, encode
from limpq_hub.quant.moved_planes import decode_moved, encode_moved, rounded_moves
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.seal import BYTE_PLANES, HALF_CODING, MOVED_PLANES

# Behind the name of a tensor.
_HIGH, _LOW = ".high_coded", ".low"
_MOVED_HIGH, _MOVED_LOW = ".moved_high", ".moved_low"
# The sha256 of the file that numbers moved from, uint8 [32].
MOVED_FROM = "moved_from_sha256"
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


def moved_planes(
    tensors: Mapping[str, np.ndarray], origins: Mapping[str, np.ndarray], sha256: str, *, whole_places: int = 1
) -> dict[str, np.ndarray]:
    """Return the planes of tensors, uint8: "NAME.moved_high" and "NAME.moved_low" where that is less than `planes`.

    Args:
        tensors: float16, by name.
        origins: what they may have moved from, by name.
        sha256: of the file of `origins`, in hex.
        whole_places: as `limpq_hub.quant.moved_planes.rounded_moves` takes it, of those that moved.
    """
    coded: dict[str, np.ndarray] = {}
    for name, numbers in tensors.items():
        pair, origin = planes({name: numbers}), origins.get(name)
        if origin is not None and (origin.dtype, origin.shape) == (np.float16, numbers.shape):
            high, low = encode_moved(rounded_moves(numbers, origin, whole_places), origin)
            if high.nbytes + low.nbytes < sum(plane.nbytes for plane in pair.values()):
                pair = {name + _MOVED_HIGH: high, name + _MOVED_LOW: low}
        coded |= pair
    if has_moved_planes(coded):
        coded[MOVED_FROM] = np.frombuffer(bytearray.fromhex(sha256), np.uint8)
    return coded


def is_worth_coding(size_bytes: int) -> bool:
    """Return whether a tensor in half precision is large enough for its planes to take fewer bytes than it does."""
    return size_bytes >= _FEWEST_BYTES


def has_planes(names: Collection[str]) -> bool:
    """Return whether any of the names is that of a plane."""
    return any(name.endswith(_HIGH) for name in names)


def has_moved_planes(names: Collection[str]) -> bool:
    """Return whether any of the names is that of a plane of how far numbers moved."""
    return any(name.endswith(_MOVED_HIGH) for name in names)


def take_planes(tensors: dict[str, Any], file: str) -> dict[str, np.ndarray]:
    """Take the planes out of the tensors of a file, and return what they were made of, float16.

    Args:
        tensors: arrays or tensors by name.
        file: what to call it in an error.

    Raises:
        ArtifactFormatError: a plane is damaged or its partner missing, or a tensor is there as such too.
    """
    numbers = {}
    for name, high, low in _taken_pairs(tensors, _HIGH, _LOW, file):
        try:
            numbers[name] = decode(high, low)
        except ArtifactFormatError as error:
            raise ArtifactFormatError(f"{file}: tensor {name}{_HIGH}: {error}") from None
    return numbers


def take_moved_planes(
    tensors: dict[str, Any], origins: Mapping[str, np.ndarray], sha256: str, file: str
) -> dict[str, np.ndarray]:
    """Take the planes of how far numbers moved out of the tensors of a file, and return the numbers, float16.

    Args:
        tensors: arrays or tensors by name.
        origins: the tensors of the float network beside it, by name.
        sha256: of the file of `origins`, in hex.
        file: what to call it in an error.

    Raises:
        ArtifactIntegrityError: they moved from the numbers of another file.
        ArtifactFormatError: a plane is damaged or its partner missing, or a tensor is there as such too.
    """
    if np.asarray(tensors.pop(MOVED_FROM, np.empty(0, np.uint8))).tobytes().hex() != sha256:
        raise ArtifactIntegrityError(f"{file} was written beside another float network than the one that is there now")
    numbers = {}
    for name, high, low in _taken_pairs(tensors, _MOVED_HIGH, _MOVED_LOW, file):
        if name not in origins:
            raise ArtifactFormatError(f"{file}: tensor {name} moved from one that the float network does not have")
        try:
            numbers[name] = decode_moved(high, low, origins[name])
        except ArtifactFormatError as error:
            raise ArtifactFormatError(f"{file}: tensor {name}{_MOVED_HIGH}: {error}") from None
    return numbers


def least_bits_of_float(folder: SealedFolder) -> int:
    """Return how few bits a number takes in the file of the float network; before format 5 none were coded.

    Raises:
        ArtifactVersionError: they are coded in a way that a later version knows.
    """
    coding = folder.config.get(HALF_CODING)
    if coding is None:
        return 16
    if coding not in (BYTE_PLANES, MOVED_PLANES):
        raise ArtifactVersionError(
            f"{folder.name}/config.json: {HALF_CODING} {quoted(coding)} is not {BYTE_PLANES!r} or {MOVED_PLANES!r}, "
            f"those that this version reads; upgrade limpq-hub, or {folder.advice}"
        )
    return 8  # the low byte, of numbers whose high bytes are all the same


def least_bits_of_supernet(folder: SealedFolder) -> int:
    """Return how few bits a number takes in the file of the supernet; raises like `least_bits_of_float`."""
    of_float = least_bits_of_float(folder)
    return 2 if folder.config.get(HALF_CODING) == MOVED_PLANES else of_float  # 2: an entropy code of two bytes


def _taken_pairs(
    tensors: dict[str, Any], high: str, low: str, file: str
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Take both planes of each coded tensor out of the tensors of a file; `high` and `low` stand behind its name."""
    for name in [key.removesuffix(high) for key in tensors if key.endswith(high)]:
        if name + low not in tensors:
            raise ArtifactFormatError(f"{file}: tensor {name}{low} is missing")
        if name in tensors:
            raise ArtifactFormatError(f"{file}: tensor {name} is there twice, as such and as {name}{high}")
        yield name, np.asarray(tensors.pop(name + high)), np.asarray(tensors.pop(name + low))
