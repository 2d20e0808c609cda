"""Streams of bytes: what was encoded comes back, and what is no stream of as many bytes is refused."""

import contextlib
import zlib

import numpy as np
import pytest

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.quant.huffman_coding import decode_bytes, encode_bytes


def crowded(count: int) -> bytes:
    """Bytes of which few values are frequent."""
    return np.random.default_rng(0).normal(128, 9, count).clip(0, 255).astype(np.uint8).tobytes()


@pytest.mark.parametrize("count", [0, 1, 70_000])
def test_decoding_returns_what_was_encoded(count):
    assert decode_bytes(encode_bytes(crowded(count)), count, "bytes").tobytes() == crowded(count)


def test_each_cut_of_a_stream_is_refused():
    coded = encode_bytes(crowded(1000))
    for length in range(len(coded)):
        with pytest.raises(ArtifactFormatError, match=r"^its stream ends before it has given 1000 bytes$"):
            decode_bytes(coded[:length], 1000, "1000 bytes")


def test_no_flipped_bit_of_a_stream_changes_a_byte():
    coded, changed_nothing = encode_bytes(crowded(400)), []
    for bit in range(8 * len(coded)):
        damaged = coded.copy()
        damaged[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ArtifactFormatError):
            assert decode_bytes(damaged, 400, "400 bytes").tobytes() == crowded(400)
            changed_nothing.append(bit)
    assert len(changed_nothing) < 16  # the header has bits that say how the stream was made, which nobody needs


def test_bytes_after_the_stream_are_refused():
    coded = np.concatenate([encode_bytes(crowded(100)), np.zeros(3, np.uint8)])
    with pytest.raises(ArtifactFormatError, match="^3 bytes follow the end of its stream$"):
        decode_bytes(coded, 100, "100 bytes")


@pytest.mark.parametrize("coded", [np.zeros(2, np.int8), np.zeros(2, np.float32), np.zeros((2, 1), np.uint8)])
def test_streams_of_another_kind_are_refused(coded):
    found = rf"found {coded.dtype} \[{', '.join(map(str, coded.shape))}\]$"
    with pytest.raises(ArtifactFormatError, match="^a stream is of uint8 in one dimension, " + found):
        decode_bytes(coded, 3, "3 bytes")


def test_a_stream_that_grows_a_thousandfold_is_read_no_further_than_asked(monkeypatch):
    asked = []

    class Watched:
        def __init__(self):
            self.coder = decompressobj()

        def decompress(self, data, most):
            asked.append(most)
            return self.coder.decompress(data, most)

    decompressobj = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Watched)
    bomb = np.frombuffer(zlib.compress(bytes(2**24), 9), np.uint8)
    with pytest.raises(ArtifactFormatError, match="^its stream holds more than 1000 bytes$"):
        decode_bytes(bomb, 1000, "1000 bytes")
    assert asked == [1001]
