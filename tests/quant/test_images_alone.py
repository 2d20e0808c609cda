"""Batches of unequal sizes, and of one image: every image counts alike, and a single value is no variance."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from limpq_hub.errors import DataError, UnsupportedLayerError
from limpq_hub.quant.batch_norm_calibration import average_batch_norm_, recalibrate_batch_norm_
from limpq_hub.quant.batch_norm_moments import none_alone
from limpq_hub.quant.convert import to_supernet

SPLITS = [[13], [12, 1], [1, 12], [6, 6, 1], [1, 5, 1, 6], [7, 6], [0, 13, 0], [1] * 13, [10, 3]]


def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shift = torch.linspace(-3, 3, 13).reshape(13, 1, 1, 1)
    return torch.randn(13, 3, 1, 1, generator=generator) + shift


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_the_mean_is_that_of_all_images_however_they_come_in_batches(sizes):
    network = nn.Sequential(nn.BatchNorm2d(3))
    assert average_batch_norm_(network, images().split(sizes)) == 13
    expected = images().double().mean((0, 2, 3))
    torch.testing.assert_close(network[0].running_mean.double(), expected, rtol=0, atol=1e-6)


def test_the_variance_is_that_of_the_batches_by_their_sizes():
    wide = torch.randn(9, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    network = nn.Sequential(nn.BatchNorm2d(2))
    average_batch_norm_(network, wide.split([6, 3]))
    of_each = [part.double().var((0, 2, 3), correction=1) for part in wide.split([6, 3])]
    expected = (6 * of_each[0] + 3 * of_each[1]) / 9
    torch.testing.assert_close(network[0].running_var.double(), expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize("sizes", [*SPLITS, [1], []], ids=str)
def test_no_image_is_alone_none_is_lost_and_batches_grow_by_one_at_most_twice(sizes):
    batches = list(torch.arange(sum(sizes)).split(sizes)) if sizes else []
    found = list(none_alone(batches))
    assert torch.cat([torch.empty(0), *found]).tolist() == list(range(sum(sizes)))
    assert all(len(batch) > 1 for batch in found) or sum(sizes) == 1
    assert max(map(len, found), default=0) <= max(sizes, default=0) + 2


def test_one_image_alone_is_refused_where_there_would_be_no_variance():
    network = timm.create_model("test_resnet", num_classes=4).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(DataError, match=r"^one image leaves batch normalization .* one value per channel, of which"):
        recalibrate_batch_norm_(network, [torch.randn(1, 3, 16, 16)])
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert recalibrate_batch_norm_(network, [torch.randn(1, 3, 64, 64)]) == 1


def test_steps_are_not_started_from_one_image_of_which_there_is_no_variance():
    network = timm.create_model("test_resnet", num_classes=4).eval()
    with pytest.raises(UnsupportedLayerError) as refused:
        to_supernet(network, (2, 4), example_input=torch.randn(1, 3, 16, 16), step_start="lsq")
    assert str(refused.value).startswith("one image leaves batch normalization ")
    assert str(refused.value).endswith(
        "of which there is no variance; give an example_input of two images or more, or of a larger size"
    )
    to_supernet(network, (2, 4), example_input=torch.randn(2, 3, 16, 16), step_start="lsq")
    to_supernet(network, (2, 4), example_input=torch.randn(1, 3, 16, 16), step_start="least-error")
