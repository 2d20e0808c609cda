"""Tests of what counts as the same network, and how logits are compared."""

import numpy as np
import pytest

from limpq_hub.deploy.parity import Parity, compare_logits
from limpq_hub.errors import OutputError


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


@pytest.mark.parametrize(
    ("found", "of_simulation", "passes"),
    [
        (Parity(300, 0.0, 1.0, 0.17), Parity(300, 0.0, 1.0, 0.16), True),
        (Parity(300, 0.0, 1.0, 0.33), Parity(300, 0.0, 1.0, 0.16), False),
        (Parity(300, 0.0, 0.99, 0.17), Parity(300, 0.0, 1.0, 0.16), False),
        (Parity(300, 0.0, 0.98, 0.17), Parity(300, 0.0, 0.985, 0.16), True),
        (Parity(300, 0.6, 1.0, 0.1), Parity(300, 0.7, 1.0, 0.1), True),
        (Parity(300, 0.5, 1.0, 0.1), Parity(300, 0.7, 1.0, 0.1), False),
        (Parity(300, 0.5, 1.0, 1e-3), Parity(300, 1.0, 1.0, 1e-6), False),
        (Parity(300, 0.0, 1.0, float("nan")), Parity(300, 0.0, 1.0, 0.16), False),
    ],
)
def test_where_the_simulation_differs_from_itself_the_file_may_do_so_too_and_no_more(found, of_simulation, passes):
    if passes:
        assert found.check(lambda: of_simulation) == of_simulation
        return
    told = rf"and 99\.5% agree \(the simulation beside itself, added up otherwise: {of_simulation.same_rows:.2%} of 300"
    with pytest.raises(OutputError, match=told):
        found.check(lambda: of_simulation)


def test_the_simulation_is_not_asked_where_the_file_is_near_enough():
    assert Parity(100, 0.95, 1.0, 0.1).check(lambda: pytest.fail("asked")) is None


def test_of_noise_the_class_alone_is_judged():
    assert Parity(64, 0.2, 1.0, 0.3).check(noise=True) is None
    with pytest.raises(OutputError, match=r"agreement 95\.31%"):
        Parity(64, 1.0, 61 / 64, 1e-6).check(noise=True)


@pytest.mark.parametrize(
    ("vnni", "advice"),
    [
        (True, "give pictures that the network is for, by --images FOLDER (images=)"),
        (False, "this CPU has no VNNI, where 8-bit weights can overflow: add --no-vnni (vnni=False)"),
    ],
)
def test_a_file_that_is_too_far_off_is_told_with_what_can_help_on_this_cpu(monkeypatch, vnni, advice):
    monkeypatch.setattr("limpq_hub.deploy.parity.has_vnni", lambda: vnni)
    with pytest.raises(OutputError) as caught:
        Parity(100, 0.5, 1.0, 0.1).check()
    assert str(caught.value).endswith(f"Nothing was written; {advice}")
