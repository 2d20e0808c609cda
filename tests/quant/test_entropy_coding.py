"""Tests of integers in fewer bytes: exact for every width, and streams that are no such integers are refused."""

import zlib

import numpy as np
import pytest

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.quant.entropy_coding import LEAST_BITS_EACH, decode, encode

WIDTHS = range(2, 9)


def integers_of(shape: tuple[int, ...], bits: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, dtype=np.int8)


def crowded(count: int, bits: int) -> np.ndarray:
    """Integers as trained weights have them: normally distributed, seven in ten within a quarter of the range."""
    numbers = np.random.default_rng(bits).normal(0, 2 ** (bits - 1) / 4, count).round()
    return numbers.clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int8)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (), (1,), (3,), (5, 3), (4, 3, 3, 3), (13, 1, 7), (65_537,)])
def test_decoding_returns_what_was_encoded(bits, shape):
    integers = integers_of(shape, bits)
    coded = encode(integers, bits)
    restored = decode(coded, bits, shape)
    assert (coded.dtype, coded.ndim, restored.dtype, restored.shape) == (np.uint8, 1, np.int8, shape)
    assert np.array_equal(restored, integers)


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_integer_of_the_range_survives(bits):
    integers = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).astype(np.int8)
    assert decode(encode(integers, bits), bits, integers.shape).tolist() == integers.tolist()


def test_a_reader_of_zlib_alone_finds_the_integers_from_the_lowest_bits():
    # 1 = 001, -1 = 111, -4 = 100, two in a byte and the last alone
    assert zlib.decompress(encode(np.array([1, -1, -4]), 3)) == bytes([0b111001, 0b100])
    assert zlib.decompress(encode(np.array([1, -2, -1, 0, 1]), 2)) == bytes([0b00111001, 0b01])
    assert zlib.decompress(encode(np.array([-128, 127]), 8)) == bytes([0x80, 0x7F])


@pytest.mark.parametrize("bits", WIDTHS)
def test_crowded_integers_take_no_more_than_three_percent_above_their_entropy(bits):
    integers = crowded(200_000, bits)
    shares = np.unique(integers, return_counts=True)[1] / integers.size
    entropy_bytes = -(shares * np.log2(shares)).sum() * integers.size / 8
    assert encode(integers, bits).size <= 1.03 * entropy_bytes < 0.97 * integers.size * bits / 8


@pytest.mark.parametrize("bits", WIDTHS)
def test_no_stream_takes_fewer_bits_than_the_least(bits):
    assert 8 * encode(np.zeros(100_000, np.int8), bits).size >= LEAST_BITS_EACH * 100_000


@pytest.mark.parametrize(
    ("count", "told"), [(999, "more"), (1, "more"), (0, "more"), (1003, "fewer"), (10**15, "fewer")]
)
def test_another_number_of_integers_is_refused(count, told):
    with pytest.raises(ArtifactFormatError, match=rf"^its stream holds {told} than {count} integers of 4 bits$"):
        decode(encode(crowded(1001, 4), 4), 4, (count,))


@pytest.mark.parametrize(
    ("bits", "content", "count"), [(3, 0x40, 2), (3, 0x80, 2), (3, 0x08, 1), (5, 0x20, 1), (2, 0x10, 2)]
)
def test_bits_beside_the_integers_are_refused(bits, content, count):
    coded = np.frombuffer(zlib.compress(bytes([content])), np.uint8)
    with pytest.raises(ArtifactFormatError, match="^the bits beside its integers are not zero$"):
        decode(coded, bits, (count,))
