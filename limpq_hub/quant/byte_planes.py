"""Numbers in half precision <-> fewer bytes: the high byte of each in an entropy code, the low one as it is. No torch.

A number of half precision is two bytes. The high one has the sign, the exponent and two bits of the digits: trained
weights crowd around zero, so that few of its values are frequent. The low one has the other digits, which are noise.
"""

from __future__ import annotations

import numpy as np

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.quant.huffman_coding import decode_bytes, encode_bytes


def encode(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two planes of numbers, both uint8.

    Args:
        numbers: float16, of any shape.

    Returns:
        A zlib stream of the high bytes, [bytes of the stream]; and the low bytes, in the shape of `numbers`.
    """
    pairs = numbers.astype("<f2").reshape(*numbers.shape, 1).view(np.uint8)
    return encode_bytes(pairs[..., 1].tobytes()), pairs[..., 0].copy()


def decode(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return the numbers that `encode` was given, float16 in the shape of `low`.

    It takes as much memory as `low` twice, whatever the stream unpacks to.

    Raises:
        ArtifactFormatError: the planes are no bytes, or `high` is not a stream of as many as `low` has.
    """
    if low.dtype != np.uint8:
        raise ArtifactFormatError(f"low bytes are of uint8, found {low.dtype}")
    pairs = np.empty((*low.shape, 2), np.uint8)
    pairs[..., 0] = low
    pairs[..., 1] = decode_bytes(high, low.size, f"the high bytes of {low.size} numbers").reshape(low.shape)
    return pairs.view("<f2")[..., 0].astype(np.float16, copy=False)
