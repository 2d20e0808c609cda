"""Tests of the dense bit stream of 2..8-bit integers."""

import math

import numpy as np
import pytest
import torch

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.quant.entropy_coding import encode
from limpq_hub.quant.fake_quantization import fake_quantize, quantization_range, quantize_to_integers
from limpq_hub.quant.packing import pack, unpack

WIDTHS = range(2, 9)


def integers_of(shape: tuple[int, ...], bits: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, dtype=np.int8)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (), (1,), (7,), (8,), (5, 3), (4, 3, 3, 3), (13, 1, 7)])
def test_unpacking_returns_what_was_packed(bits, shape):
    integers = integers_of(shape, bits)
    packed = pack(integers, bits)
    restored = unpack(packed, bits, shape)
    assert packed.dtype == np.uint8
    assert packed.shape == (math.ceil(math.prod(shape) * bits / 8),)
    assert restored.dtype == np.int8
    assert restored.shape == shape
    assert np.array_equal(restored, integers)


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_integer_of_the_range_survives(bits):
    integers = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    assert unpack(pack(integers, bits), bits, integers.shape).tolist() == integers.tolist()


def test_bytes_are_filled_from_the_lowest_bit():
    # 1 = 001, -1 = 111, -4 = 100; lowest bits first: 100 111 00|1 -> 0b00111001, 0b00000001
    assert pack(np.array([1, -1, -4]), 3).tolist() == [0b00111001, 0b00000001]
    assert unpack(np.array([0b00111001, 0b00000001], np.uint8), 3, (3,)).tolist() == [1, -1, -4]


@pytest.mark.parametrize("bits", WIDTHS)
def test_stream_equals_one_long_binary_number(bits):
    integers = integers_of((29,), bits)
    number = sum((int(value) % 2**bits) << (place * bits) for place, value in enumerate(integers))
    assert pack(integers, bits).tobytes() == number.to_bytes(math.ceil(29 * bits / 8), "little")


@pytest.mark.parametrize("bits", WIDTHS)
def test_each_valid_stream_has_one_meaning(bits):
    stream = np.random.default_rng(0).integers(0, 256, 3 * bits, dtype=np.uint8)
    assert np.array_equal(pack(unpack(stream, bits, (24,)), bits), stream)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_integer_dtype_does_not_matter(dtype):
    assert pack(np.array([-8, 7, 0], dtype), 4).tolist() == [0x78, 0x00]


@pytest.mark.parametrize("write", [pack, encode])
@pytest.mark.parametrize("bits", WIDTHS)
def test_integers_out_of_range_are_refused_however_they_are_written(bits, write):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for found, (smallest, largest) in (([low - 1, 0], (low - 1, 0)), ([0, high + 1], (0, high + 1))):
        expected = f"^{bits}-bit integers reach from {low} to {high}, found {smallest} to {largest}$"
        with pytest.raises(ValueError, match=expected):
            write(np.array(found), bits)


def test_numbers_that_are_not_whole_are_refused():
    with pytest.raises((TypeError, ValueError), match="integer"):
        pack(np.array([1.7, -0.4]), 4)


def test_padding_that_is_not_zero_is_refused():
    packed = pack(np.array([1, -1, -4]), 3)
    for bit in range(1, 8):
        tampered = packed.copy()
        tampered[-1] |= 1 << bit
        with pytest.raises(ArtifactFormatError, match=r"^the bits after the last packed integer are not zero$"):
            unpack(tampered, 3, (3,))


@pytest.mark.parametrize(("length", "shape"), [(1, (3,)), (3, (3,)), (0, (1,)), (1, (0,)), (2, (2,))])
def test_wrong_length_is_refused(length, shape):
    count = math.prod(shape)
    expected = rf"^{count} integers of 3 bits take {-(-3 * count // 8)} bytes, found uint8 \[{length}\]$"
    with pytest.raises(ArtifactFormatError, match=expected):
        unpack(np.zeros(length, np.uint8), 3, shape)


@pytest.mark.parametrize("packed", [np.zeros(2, np.int8), np.zeros(2, np.float32), np.zeros((2, 1), np.uint8)])
def test_wrong_dtype_or_dimensions_are_refused(packed):
    found = rf"found {packed.dtype} \[{', '.join(map(str, packed.shape))}\]$"
    with pytest.raises(ArtifactFormatError, match="^3 integers of 3 bits take 2 bytes, " + found):
        unpack(packed, 3, (3,))


@pytest.mark.parametrize("bits", WIDTHS)
def test_unpacked_integers_times_the_step_are_the_fake_quantized_weights(bits):
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(bits))
    step = torch.tensor(2.3 / 2 ** (bits - 1))
    integers = quantize_to_integers(weight, step, *quantization_range(bits, signed=True)).numpy().astype(np.int8)
    restored = torch.from_numpy(unpack(pack(integers, bits), bits, tuple(weight.shape))) * step
    assert restored.dtype == torch.float32
    assert torch.equal(restored, fake_quantize(weight, step, *quantization_range(bits, signed=True)))
