"""Bytes <-> fewer bytes: the Huffman code of deflate. Every reader of zlib decodes it. No torch."""

from __future__ import annotations

import zlib

import numpy as np

from limpq_hub.errors import ArtifactFormatError

# Searching for repeated strings as well makes the weights of trained networks larger, not smaller.
_LEVEL, _MEMORY_LEVEL = 9, 9


def encode_bytes(data: bytes) -> np.ndarray:
    """Return a zlib stream of `data`, uint8, [bytes of the stream]."""
    coder = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY_LEVEL, zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(bytearray(coder.compress(data) + coder.flush()), np.uint8)


def decode_bytes(coded: np.ndarray, count: int, what: str) -> np.ndarray:
    """Return what `encode_bytes` was given, uint8, [count]; a stream of more bytes is not read to its end.

    Args:
        coded: uint8, [bytes of the stream].
        count: how many bytes it must hold.
        what: what to call as many bytes in an error.

    Raises:
        ArtifactFormatError: `coded` is not a stream of this many bytes.
    """
    if coded.dtype != np.uint8 or coded.ndim != 1:
        raise ArtifactFormatError(f"a stream is of uint8 in one dimension, found {coded.dtype} {list(coded.shape)}")
    coder = zlib.decompressobj()
    try:
        content = coder.decompress(coded.tobytes(), count + 1)
    except zlib.error:
        raise ArtifactFormatError("its bytes are no zlib stream, or a damaged one") from None
    if len(content) > count:
        raise ArtifactFormatError(f"its stream holds more than {what}")
    if not coder.eof:
        raise ArtifactFormatError(f"its stream ends before it has given {what}")
    if len(content) < count:
        raise ArtifactFormatError(f"its stream holds fewer than {what}")
    if coder.unused_data:
        raise ArtifactFormatError(f"{len(coder.unused_data)} bytes follow the end of its stream")
    return np.frombuffer(content, np.uint8)
