"""2..8-bit integers <-> fewer bytes: the Huffman code of deflate, over bytes of several integers each.

Most trained weights are near zero, so that few integers are frequent and get short codes. One code for several
neighbouring integers also uses the correlation of the weights within a kernel.
"""

from __future__ import annotations

import math

import numpy as np

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.layer_bits import BIT_WIDTHS
from limpq_hub.quant.huffman_coding import decode_bytes, encode_bytes
from limpq_hub.quant.packing import octets_of

# Huffman codes are at least one bit for each byte, and a byte holds at most four integers.
LEAST_BITS_EACH = 1 / (8 // min(BIT_WIDTHS))


def encode(integers: np.ndarray, bits: int) -> np.ndarray:
    """Return integers as a zlib stream of bytes with `8 // bits` of them each, the first in the lowest bits.

    Args:
        integers: int8 in -2^(b-1) .. 2^(b-1)-1, of any shape.
        bits: 2..8.

    Returns:
        uint8, [bytes of the stream]; what a last byte lacks in integers is filled up with zeros.

    Raises:
        ValueError: an integer is out of range.
    """
    octets, each = octets_of(integers, bits), 8 // bits
    fields = np.zeros((-(-octets.size // each), each), np.uint8)
    fields.reshape(-1)[: octets.size] = octets & (2**bits - 1)
    grouped = np.bitwise_or.reduce(fields << _places(bits), axis=1)
    return encode_bytes(grouped.tobytes())


def decode(coded: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the integers that `encode` was given, int8 in `shape`; a stream of more of them is not read to its end.

    Raises:
        ArtifactFormatError: the bytes are not a stream of this many integers.
    """
    count, each = math.prod(shape), 8 // bits
    expected = -(-count // each)
    grouped = decode_bytes(coded, expected, f"{count} integers of {bits} bits")
    fields = ((grouped[:, None] >> _places(bits)) & (2**bits - 1)).astype(np.uint8).reshape(-1)
    if fields[count:].any() or (grouped >> (each * bits - 1) >> 1).any():
        raise ArtifactFormatError("the bits beside its integers are not zero")
    sign = np.uint8(2 ** (bits - 1))
    return ((fields[:count] ^ sign) - sign).view(np.int8).reshape(shape)


def _places(bits: int) -> np.ndarray:
    """Return where in a byte each of its integers begins, uint8, [8 // bits]."""
    return (bits * np.arange(8 // bits)).astype(np.uint8)
