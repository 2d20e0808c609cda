"""Validation and calibration see the pixels that timm's own transform gives, whatever the crop of the weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from drawn_pictures import SPEC, data_settings
from PIL import Image
from timm.data import create_transform

from limpq_hub.pictures import read_picture
from limpq_hub.train.data.loaders import calibration_batches, validation_loader


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_pictures_are_cropped_as_the_weights_want_them(tmp_path, crop_mode):
    for split in ("train", "val"):
        (tmp_path / split / "class0").mkdir(parents=True)
        pixels = torch.zeros(30, 60, 3, dtype=torch.uint8)
        pixels[:, :12] = 255  # the ends, which a crop in the middle loses
        pixels[:, -12:] = 255
        Image.fromarray(pixels.numpy()).save(tmp_path / split / "class0/wide.png")
    spec = replace(SPEC, crop_mode=crop_mode)
    picture = read_picture(tmp_path / "val/class0/wide.png")
    timms = create_transform(
        (3, 16, 16), crop_pct=1.0, crop_mode=crop_mode, interpolation="bilinear", mean=spec.mean, std=spec.std
    )(picture)
    ((images, _),) = validation_loader(data_settings(tmp_path), spec)
    assert torch.equal(images[0], timms)
    (batch,) = calibration_batches(data_settings(tmp_path), spec, 1)
    assert torch.equal(batch[0], timms)
