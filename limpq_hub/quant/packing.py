"""2..8-bit integers <-> bytes."""

from __future__ import annotations

import math

import numpy as np

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.layer_bits import BIT_WIDTHS
from limpq_hub.quant.fake_quantization import quantization_range


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """Return signed integers as a dense stream of `bits`-bit two's complement numbers, lowest bit first.

    Args:
        integers: whole numbers in -2^(b-1) .. 2^(b-1)-1, of any shape and any integer dtype.
        bits: 2..8.

    Returns:
        uint8, [ceil(integers.size * bits / 8)]; the last byte is filled up with zeros.

    Raises:
        TypeError: the numbers are not of an integer dtype.
        ValueError: an integer is out of range.
    """
    if not np.issubdtype(integers.dtype, np.integer):
        raise TypeError(f"only integers can be packed, found {integers.dtype}; round the weights first")
    if bits not in BIT_WIDTHS:
        raise ValueError(f"{bits}-bit integers cannot be packed: use 2 to 8 bits")
    octets = octets_of(integers, bits)[:, None]
    planes = np.unpackbits(octets, axis=1, count=bits, bitorder="little")
    return np.packbits(planes, bitorder="little")


def octets_of(integers: np.ndarray, bits: int) -> np.ndarray:
    """Return integers of at most 8 bits as two's complement, uint8, [integers.size].

    Raises:
        ValueError: an integer is not in -2^(b-1) .. 2^(b-1)-1.
    """
    low, high = quantization_range(bits, signed=True)
    flat = integers.reshape(-1)
    if flat.size and (flat.min() < low or flat.max() > high):
        raise ValueError(f"{bits}-bit integers reach from {low} to {high}, found {flat.min()} to {flat.max()}")
    return flat.astype(np.int8).view(np.uint8)


def unpack(packed: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the integers that `pack` was given, int8 in `shape`.

    Raises:
        ArtifactFormatError: the bytes are not what `pack` writes for this many integers.
    """
    count = math.prod(shape)
    expected = -(-count * bits // 8)
    if packed.dtype != np.uint8 or packed.shape != (expected,):
        raise ArtifactFormatError(
            f"{count} integers of {bits} bits take {expected} bytes, found {packed.dtype} {list(packed.shape)}"
        )
    stream = np.unpackbits(packed, bitorder="little")
    if stream[count * bits :].any():
        raise ArtifactFormatError("the bits after the last packed integer are not zero")
    planes = stream[: count * bits].reshape(count, bits)
    sign = np.repeat(planes[:, -1:], 8 - bits, axis=1)
    return np.packbits(np.concatenate([planes, sign], axis=1), axis=1, bitorder="little").view(np.int8).reshape(shape)
