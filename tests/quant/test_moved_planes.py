"""Tests of half precision by how far it moved: exact to the bit for every pair of numbers, and in fewer bytes."""

import numpy as np
import pytest

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.quant.byte_planes import encode
from limpq_hub.quant.moved_planes import decode_moved, encode_moved, rounded_moves

EVERY = np.arange(2**16, dtype=np.uint16).view(np.float16)


def weights(*shape: int) -> np.ndarray:
    """Numbers as trained weights are: normally distributed around zero."""
    return np.random.default_rng(len(shape)).normal(0, 0.02, shape).astype(np.float16)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (5, 3), (4, 3, 3, 3), (65_537,)])
def test_decoding_returns_what_was_encoded(shape):
    origins = weights(*shape)
    numbers = (origins * np.float16(1.01)).astype(np.float16)
    restored = decode_moved(*encode_moved(numbers, origins), origins)
    assert (restored.dtype, restored.shape) == (np.float16, shape)
    assert restored.tobytes() == numbers.tobytes()


@pytest.mark.parametrize("turn", [0, 1, 2**15 - 1, 2**15, 2**15 + 1, 40_000])
def test_every_number_survives_to_the_bit_wherever_it_came_from(turn):
    """-0.0, denormal ones, infinities and every NaN, from places on both sides and as far away as there are."""
    origins = np.roll(EVERY, turn)
    assert decode_moved(*encode_moved(EVERY, origins), origins).tobytes() == EVERY.tobytes()


def test_numbers_that_are_not_in_one_piece_of_memory_are_encoded_as_they_read():
    numbers, origins = weights(6, 8).T[::2], weights(4, 8, 1)[..., 0].T[:, :3].T.reshape(3, 8)[:, ::2]
    numbers = numbers[: origins.shape[0], : origins.shape[1]]
    assert np.array_equal(decode_moved(*encode_moved(numbers, origins), origins), numbers)


def test_weights_that_moved_by_a_hundredth_take_a_third_less_than_alone():
    origins = weights(200_000)
    numbers = (origins + np.random.default_rng(9).normal(0, 2e-4, origins.size)).astype(np.float16)
    moved, alone = (
        sum(plane.nbytes for plane in planes) for planes in (encode_moved(numbers, origins), encode(numbers))
    )
    assert moved < 2 / 3 * alone


def test_weights_that_did_not_move_take_two_bits_each():
    origins = weights(80_000)
    assert sum(plane.nbytes for plane in encode_moved(origins, origins)) < 80_000 * 2 / 8 * 1.02


@pytest.mark.parametrize("plane", [0, 1], ids=["high", "low"])
@pytest.mark.parametrize(("count", "told"), [(999, "more"), (1003, "fewer")])
def test_as_many_bytes_as_numbers_are_needed(plane, count, told):
    numbers = weights(1001)
    planes = list(encode_moved(numbers, numbers))
    fitting = encode_moved(numbers[:1].repeat(count), numbers[:1].repeat(count))
    planes[1 - plane] = fitting[1 - plane]
    which = ("high", "low")[plane]
    with pytest.raises(
        ArtifactFormatError, match=f"^its stream holds {told} than the {which} bytes of {count} numbers$"
    ):
        decode_moved(*planes, numbers[:1].repeat(count))


def test_numbers_in_another_precision_are_no_origin():
    numbers = weights(3)
    with pytest.raises(ArtifactFormatError, match="^it moved from numbers of float16, found float32$"):
        decode_moved(*encode_moved(numbers, numbers), numbers.astype(np.float32))


# --- rounded


def test_a_move_of_one_place_is_every_number_as_it_is():
    origins = np.roll(EVERY, 12_345)
    assert rounded_moves(EVERY, origins, 1).tobytes() == EVERY.tobytes()


@pytest.mark.parametrize("turn", [0, 3, 2**15, 40_000])
@pytest.mark.parametrize("places", [2, 4, 16])
def test_a_rounded_number_is_within_half_as_many_places_and_finite_where_it_was(turn, places):
    ordered = np.sort(EVERY[np.isfinite(EVERY)])
    origins = np.roll(ordered, turn)
    rounded = rounded_moves(ordered, origins, places)
    assert np.isfinite(rounded).all()
    # Places by size: -0.0 and 0.0 stand beside each other and are equal.
    at = np.searchsorted(ordered, rounded)
    assert np.abs(at - np.searchsorted(ordered, ordered)).max() <= places // 2 + 1
    usual = np.abs(ordered) > 2**-13
    change = np.abs(rounded[usual].astype(np.float64) / ordered[usual] - 1)
    assert change.max() <= places / 2 * 2**-10


def test_by_hand_moves_of_three_five_and_six_places_become_four_four_and_eight():
    origins = np.array([1, 1, 1, -1], np.float16)
    numbers = np.array([1 + 3 / 1024, 1 + 5 / 1024, 1 - 5 / 2048, -1 - 6 / 1024], np.float16)
    expected = [1 + 4 / 1024, 1 + 4 / 1024, 1 - 4 / 2048, -1 - 8 / 1024]
    assert rounded_moves(numbers, origins, 4).tolist() == expected


def test_three_doublings_take_three_bits_less_and_the_streams_are_read_as_ever():
    origins = weights(200_000)
    numbers = (origins + np.random.default_rng(9).normal(0, 2e-3, origins.size)).astype(np.float16)
    sizes = []
    for places in (1, 2, 4, 8):
        rounded = rounded_moves(numbers, origins, places)
        planes = encode_moved(rounded, origins)
        assert decode_moved(*planes, origins).tobytes() == rounded.tobytes()
        sizes.append(sum(plane.nbytes for plane in planes))
    assert sizes == sorted(sizes, reverse=True)
    assert 8 * (sizes[0] - sizes[-1]) / origins.size == pytest.approx(3, abs=0.3)
