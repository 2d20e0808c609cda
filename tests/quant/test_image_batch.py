"""Tests of what is given as images: a loader's batch of images and labels, or an array, is told at every door."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from limpq_hub import Policy, export, to_quantized, to_supernet
from limpq_hub.errors import DataError, OutputError
from limpq_hub.quant.batch_norm_calibration import average_batch_norm_, recalibrate_batch_norm_, recalibrate_if_better_
from limpq_hub.quant.batch_norm_correction import correct_batch_norm_
from limpq_hub.quant.calibrate import calibrate_steps_, initialize_activation_steps_, initialize_steps_
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.pair_divergence import pair_divergences
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.restored_batch_norm import restore_batch_norm_

LABELS = torch.zeros(80, dtype=torch.int64)
TOLD = "give batches of images alone, tensors [batch, 3, height, width], no labels"
TOLD_OF_ONE = "give one batch of images alone, a tensor [batch, 3, height, width], no labels"
# What takes an example, and what takes batches.
OF_ONE = {
    "to_supernet": lambda network, quantized, batch: to_supernet(network, example_input=batch),
    "to_quantized": lambda network, quantized, batch: to_quantized(network, Policy("", {}), example_input=batch),
    "profile_module": lambda network, quantized, batch: profile_module(network, batch),
}
OF_MANY = {
    "initialize_steps_": lambda network, quantized, batches: initialize_steps_(quantized, batches),
    "calibrate_steps_": lambda network, quantized, batches: calibrate_steps_(quantized, ["expand"], batches),
    "average_batch_norm_": lambda network, quantized, batches: average_batch_norm_(quantized, batches),
    "recalibrate_batch_norm_": lambda network, quantized, batches: recalibrate_batch_norm_(quantized, batches),
    "recalibrate_if_better_": lambda network, quantized, batches: recalibrate_if_better_(quantized, batches, network),
    "correct_batch_norm_": lambda network, quantized, batches: correct_batch_norm_(quantized, batches, network),
    "pair_divergences": lambda network, quantized, batches: next(pair_divergences(quantized, list(batches), [])),
}


@pytest.mark.parametrize("door", [*OF_ONE, *OF_MANY])
@pytest.mark.parametrize("kind", ["with labels", "array"])
def test_what_is_no_tensor_of_images_alone_is_told(door, kind, network, supernet, state_of):
    images = torch.randn(80, 3, 8, 8)
    loader = DataLoader(TensorDataset(images, LABELS), batch_size=40)
    batches = list(loader) if kind == "with labels" else [images.numpy()]
    before = state_of(supernet)
    told = f"example_input: {TOLD_OF_ONE}" if door in OF_ONE else f"batches: {TOLD}"
    with pytest.raises(DataError, match=f"^{re.escape(told)}$"):
        (OF_ONE | OF_MANY)[door](network, supernet, batches[0] if door in OF_ONE else batches)
    assert state_of(supernet) == before


def test_labels_where_one_batch_starts_the_steps_and_where_folded_norms_are_measured_are_told(supernet):
    with pytest.raises(DataError, match=f"^{re.escape(f'images: {TOLD_OF_ONE}')}$"):
        initialize_activation_steps_(supernet, [torch.zeros(2, 3, 8, 8), LABELS[:2]])
    folded = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    with pytest.raises(DataError, match="^batches: give batches of images alone"):
        restore_batch_norm_(folded, [[torch.zeros(2, 3, 8, 8), LABELS[:2]]])


def test_labels_among_the_pictures_of_an_export_are_told(network, images, policy_of, tmp_path):
    for package in ("onnx", "openvino"):
        pytest.importorskip(package)
    quantized = to_quantized(network, policy_of(0), example_input=images)
    for given in ([images, LABELS[:4]], images[0]):
        with pytest.raises(OutputError, match="^images: give batches of images alone"):
            export(quantized, tmp_path / "out", images=[given])


def test_dimensions_are_asked_for_where_only_pictures_will_do():
    tokens = torch.zeros(2, 6, 8)
    assert image_batch(tokens, "batches") is tokens
    with pytest.raises(DataError, match="^calibrate: give batches of images alone"):
        image_batch(tokens, "calibrate", dimensions=4)
