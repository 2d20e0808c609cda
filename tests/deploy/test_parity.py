"""Tests of what counts as the same network, and how logits are compared."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from limpq_hub.deploy.parity import Parity, compare_logits, parity_of
from limpq_hub.errors import OutputError

if not find_spec("onnx"):
    pytest.skip('needs the extra "export"', allow_module_level=True)

from limpq_hub.deploy.layer_parity import LayerParity


class Shifting:
    description = "adds a little to the second logit"

    def run(self, images):
        return images[:, :2, 0, 0] + np.array([[0.0, 1e-5]], np.float32)


def test_rows_and_classes_are_compared_and_not_numbers_differ():
    images = np.zeros((4, 3, 2, 2), np.float32)
    images[:, 1] = 1
    expected = images[:, :2, 0, 0].copy()
    expected[1] += 0.5
    expected[2] = [2.0, 0.0]
    expected[3] = np.nan
    parity = compare_logits([expected[:2], expected[2:]], [images[:3], images[3:]], Shifting())
    assert (parity.pictures, parity.same_rows, parity.agreement) == (4, 0.25, 0.5)
    assert np.isnan(parity.largest_difference)


def test_large_logits_are_the_same_as_far_as_float32_tells_them_apart():
    logits = np.array([[0.0, 50.0], [-1e4, 3.0], [1e30, 1.0]], np.float32)
    for share, same in ((1.0, 1.0), (1 + 2.0**-20, 1.0), (1 + 2.0**-18, 0.0)):
        assert parity_of([logits[1:] * np.float32(share)], [logits[1:]]).same_rows == same
    # Below 52 it is 1e-4 as ever.
    assert parity_of([logits[:1] + np.float32(9e-5)], [logits[:1]]).same_rows == 1
    assert parity_of([logits[:1] + np.float32(1.1e-4)], [logits[:1]]).same_rows == 0


@pytest.mark.parametrize(
    ("pictures", "same_rows", "agreement", "passes"),
    [
        (1000, 0.9, 0.995, True),
        (1000, 0.899, 1.0, False),
        (1000, 1.0, 0.994, False),
        (300, 0.97, 298 / 300, False),
        (100, 0.97, 0.99, True),
        (100, 0.97, 0.98, False),
        (8, 0.875, 0.875, True),
        (8, 0.75, 1.0, False),
    ],
)
def test_nine_of_ten_pictures_within_a_rounding_and_all_but_one_in_two_hundred_in_class(
    pictures, same_rows, agreement, passes
):
    parity = Parity(pictures, same_rows, agreement, 0.1)
    if passes:
        parity.check()
        return
    with pytest.raises(OutputError, match=f"{same_rows:.2%} of {pictures} pictures within 0.0001, agreement"):
        parity.check()


EXACT = LayerParity(16, 10**8, 95, 2e-5, 1e-6)


@pytest.mark.parametrize("far", [Parity(300, 0.0, 0.97, 2.4), Parity(64, 1.0, 61 / 64, 1e-6)])
def test_where_logits_are_far_the_layers_decide(far):
    assert far.check(lambda: EXACT) == EXACT
    told = r"and 99\.5% agree; layer by layer 95 of 100,000,000 integers on 16 pictures are others, at most 0\.3 steps"
    with pytest.raises(OutputError, match=told):
        far.check(lambda: replace(EXACT, farthest_from_edge=0.3))


def test_the_layers_are_not_compared_where_the_logits_are_near_enough():
    assert Parity(100, 0.95, 1.0, 0.1).check(lambda: pytest.fail("compared")) is None


@pytest.mark.parametrize(
    ("advice", "told"), [(None, "another version of the runtime may compute as the network does"), ("try on", "try on")]
)
def test_a_file_that_is_too_far_off_is_told_with_what_can_help(advice, told):
    with pytest.raises(OutputError) as caught:
        Parity(100, 0.5, 1.0, 0.1).check(advice=advice)
    said = "the exported network is not the one that it was made of, and nothing was written"
    assert str(caught.value).startswith(f"{said}; {told}. Measured: 50.00% of 100 pictures")
