"""Tests of half precision in fewer bytes: exact to the bit for every number, and planes that are none are refused."""

import zlib

import numpy as np
import pytest

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.quant.byte_planes import decode, encode


def weights(*shape: int) -> np.ndarray:
    """Numbers as trained weights are: normally distributed around zero."""
    return np.random.default_rng(len(shape)).normal(0, 0.02, shape).astype(np.float16)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (3,), (5, 3), (4, 3, 3, 3), (13, 1, 7), (65_537,)])
def test_decoding_returns_what_was_encoded(shape):
    numbers = weights(*shape)
    high, low = encode(numbers)
    assert (high.dtype, high.ndim, low.dtype, low.shape) == (np.uint8, 1, np.uint8, shape)
    restored = decode(high, low)
    assert (restored.dtype, restored.shape) == (np.float16, shape)
    assert restored.tobytes() == numbers.tobytes()


def test_every_number_of_half_precision_survives_to_the_bit():
    """-0.0, denormal ones, infinities and every NaN among them."""
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    assert decode(*encode(numbers)).tobytes() == numbers.tobytes()


def test_numbers_that_are_not_in_one_piece_of_memory_are_encoded_as_they_read():
    numbers = weights(6, 8).T[::2]
    assert np.array_equal(decode(*encode(numbers)), numbers)


def test_a_reader_of_zlib_alone_finds_the_numbers():
    # 1 is 0x3C00, -2 is 0xC000, the least number above 0 is 0x0001, the largest is 0x7BFF
    high, low = encode(np.array([[1, -2], [2.0**-24, 65504]], np.float16))
    assert zlib.decompress(high) == bytes([0x3C, 0xC0, 0x00, 0x7B])
    assert low.tolist() == [[0x00, 0x00], [0x01, 0xFF]]


def test_weights_take_an_eighth_fewer_bytes_and_little_more_than_their_entropy():
    numbers = weights(200_000)
    high, low = encode(numbers)
    shares = np.unique(numbers.view(np.uint16) >> 8, return_counts=True)[1] / numbers.size
    entropy_bytes = -(shares * np.log2(shares)).sum() * numbers.size / 8
    assert high.size <= 1.03 * entropy_bytes
    assert high.nbytes + low.nbytes < 7 / 8 * numbers.nbytes


def test_what_is_decoded_can_be_written_to():
    restored = decode(*encode(weights(3)))
    restored[0] = 7
    assert restored[0] == 7


@pytest.mark.parametrize(
    ("count", "told"), [(999, "more"), (1, "more"), (0, "more"), (1003, "fewer"), (10**6, "fewer")]
)
def test_as_many_high_bytes_as_low_ones_are_needed(count, told):
    message = rf"^its stream holds {told} than the high bytes of {count} numbers$"
    with pytest.raises(ArtifactFormatError, match=message):
        decode(encode(weights(1001))[0], np.zeros(count, np.uint8))


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.uint16])
def test_low_bytes_of_another_kind_are_refused(dtype):
    high, low = encode(weights(3))
    with pytest.raises(ArtifactFormatError, match=f"^low bytes are of uint8, found {np.dtype(dtype)}$"):
        decode(high, low.astype(dtype))
