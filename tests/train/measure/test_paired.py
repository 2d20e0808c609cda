"""Paired differences, beside a computation by hand and by scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel

from limpq_hub.train.measure.evaluate import OfImages
from limpq_hub.train.measure.paired import paired


def of_images(kl: list[float], right: list[bool]) -> OfImages:
    return OfImages(torch.tensor(kl, dtype=torch.float64), torch.tensor(right))


def test_a_difference_is_that_of_the_same_images_with_its_standard_error():
    ours = of_images([0.1, 0.4, 0.2, 0.5], [True, True, False, True])
    other = of_images([0.2, 0.3, 0.4, 0.7], [True, False, False, False])
    difference = paired(ours, other)
    # Differences of KL: -0.1, 0.1, -0.2, -0.2; of top-1 in points: 0, 100, 0, 100.
    assert difference["kl"] == pytest.approx(-0.1)
    assert difference["kl_standard_error"] == pytest.approx(np.std([-0.1, 0.1, -0.2, -0.2], ddof=1) / 2, abs=1e-6)
    assert difference["right"] == 50.0
    assert difference["right_standard_error"] == pytest.approx(np.std([0, 100, 0, 100], ddof=1) / 2, abs=1e-4)
    assert difference["verdict"] == "level"


@pytest.mark.parametrize(("shift", "verdict"), [(-0.03, "ahead"), (0.0, "level"), (0.03, "behind")])
def test_two_standard_errors_are_what_a_verdict_takes(shift, verdict):
    rng = np.random.default_rng(0)
    kl, noise = rng.random(400), rng.normal(0, 0.1, 400)
    right = [True] * 400
    noise += shift - noise.mean()
    difference = paired(of_images((kl + noise).tolist(), right), of_images(kl.tolist(), right))
    assert difference["verdict"] == verdict
    statistic = ttest_rel(kl + noise, kl).statistic
    assert difference["kl"] / difference["kl_standard_error"] == pytest.approx(statistic, abs=0.01)
    # As two unrelated averages they could not be told apart.
    assert abs(shift) < 2 * np.std(kl) * (2 / 400) ** 0.5 + 1e-9


def test_one_image_has_a_difference_and_no_error():
    difference = paired(of_images([0.25], [True]), of_images([0.5], [True]))
    assert (difference["kl"], difference["kl_standard_error"], difference["verdict"]) == (-0.25, 0.0, "ahead")
