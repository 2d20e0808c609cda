"""Numbers in half precision that moved little from others that are at hand <-> fewer bytes, exactly. No torch.

Trained weights that started from those of another network are near them. All numbers of half precision stand in one
row by size; how many places a number moved in it is small, and both bytes that count it have few frequent values.
"""

from __future__ import annotations

import numpy as np

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.quant.huffman_coding import decode_bytes, encode_bytes

_SIGN = np.uint16(0x8000)
_MOST_PLACE = 2**16 - 1


def encode_moved(numbers: np.ndarray, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two zlib streams, uint8: of the high and of the low bytes of how far each number moved.

    Args:
        numbers: float16, of any shape.
        origins: where they moved from, float16 of the same shape.
    """
    places = (_place(numbers) - _place(origins)).view(np.int16)
    # 0, -1, 1, -2, 2, ... become 0, 1, 2, 3, 4, ...: a step down does not fill the high byte.
    folded = ((places << 1) ^ (places >> 15)).view(np.uint16)
    return encode_bytes((folded >> 8).astype(np.uint8).tobytes()), encode_bytes(folded.astype(np.uint8).tobytes())


def decode_moved(high: np.ndarray, low: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Return the numbers that `encode_moved` was given, float16 in the shape of `origins`.

    Raises:
        ArtifactFormatError: a stream is damaged, or not one of as many bytes as `origins` has numbers.
    """
    if origins.dtype != np.float16:
        raise ArtifactFormatError(f"it moved from numbers of float16, found {origins.dtype}")
    count = origins.size
    folded = decode_bytes(high, count, f"the high bytes of {count} numbers").astype(np.uint16) << 8
    folded |= decode_bytes(low, count, f"the low bytes of {count} numbers")
    places = (folded >> 1) ^ -(folded & 1).astype(np.int16).view(np.uint16)
    return _number(_place(origins) + places.reshape(origins.shape))


def rounded_moves(numbers: np.ndarray, origins: np.ndarray, whole_places: int) -> np.ndarray:
    """Return numbers near those given whose streams take fewer bytes: up to a bit of each for each doubling.

    Args:
        numbers: float16, of any shape.
        origins: where they moved from, float16 of the same shape.
        whole_places: how far each moved becomes the nearest multiple of it. A number changes by at most half as many
            times 2^-10 of it, or of 2^-14 where it is smaller.
    """
    if whole_places == 1:
        return numbers
    start = _place(origins).astype(np.int32)
    moved = np.rint((_place(numbers) - start) / whole_places).astype(np.int32) * whole_places
    near = _number(np.clip(start + moved, 0, _MOST_PLACE).astype(np.uint16))
    return np.where(np.isfinite(near), near, numbers)


def _place(numbers: np.ndarray) -> np.ndarray:
    """Return where numbers stand in the row of all by size, uint16: each bit pattern has a place of its own."""
    patterns = np.ascontiguousarray(numbers, np.float16).reshape(numbers.shape).view(np.uint16)
    return np.where(patterns & _SIGN, ~patterns, patterns | _SIGN)


def _number(places: np.ndarray) -> np.ndarray:
    """Return the numbers that stand at the places."""
    return np.where(places & _SIGN, places ^ _SIGN, ~places).view(np.float16)
