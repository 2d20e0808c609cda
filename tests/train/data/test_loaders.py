"""What the loaders give first and how fast, and what identifies their data."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from drawn_pictures import (
    AUGMENTATION,
    SPEC,
    data_settings,
    draw_folders,
    encoded,
    red_of,
)
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from limpq_hub.errors import DataError, ImageError
from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.train.data.description import data_record
from limpq_hub.train.data.epoch_sampler import EpochSampler, PictureOfEpoch
from limpq_hub.train.data.loaders import first_images, training_loader, validation_loader
from limpq_hub.train.data.picture_loader import loader_speed
from limpq_hub.train.measure.evaluate import evaluate


@pytest.mark.parametrize("batch_size", [3, 8])
def test_the_first_images_are_those_of_the_first_batches_whatever_the_batch_size(varied, batch_size):
    settings, jittered = data_settings(varied, batch_size=batch_size, seed=4), replace(AUGMENTATION, color_jitter=0.3)
    batches = torch.cat([images for images, _ in training_loader(settings, jittered, SPEC)])
    found = first_images(settings, jittered, SPEC, 7)
    assert found.shape == (7, 3, 16, 16)
    assert torch.equal(found, batches[:7])
    assert len(first_images(settings, jittered, SPEC, 100)) == 24


def test_first_images_that_cannot_be_decoded_are_an_error(varied):
    next((varied / "train/c0").iterdir()).write_bytes(b"")
    with pytest.raises(DataError, match="1 of 24 images cannot be decoded"):
        first_images(data_settings(varied), AUGMENTATION, SPEC, 24)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_how_a_picture_is_prepared_can_be_handed_to_a_process_that_is_not_forked(varied, crop_mode):
    prepare = preparation_of(replace(SPEC, crop_mode=crop_mode))
    handed = pickle.loads(pickle.dumps(prepare))
    with Image.open(next((varied / "val/c0").glob("*.jpg"))) as opened:
        picture = opened.convert("RGB")
    assert torch.equal(handed(picture), prepare(picture))
    if crop_mode != "squash":
        with pytest.raises(ImageError, match="too long and narrow"):
            handed(Image.new("RGB", (2_000_000, 1)))


# Every loader of a training; printed are the sums of all their images.
LOADERS = """
import json, multiprocessing, sys
import torch
from drawn_pictures import AUGMENTATION, SPEC, data_settings
from limpq_hub.train.data.loaders import calibration_batches, training_loader, validation_loader

if __name__ == "__main__":
    root, workers = sys.argv[1], int(sys.argv[2])
    torch.set_default_dtype(torch.float64)
    if workers:
        multiprocessing.set_start_method("forkserver")
    data = data_settings(root, workers=workers)
    batches = {
        "training": [images for images, _ in training_loader(data, AUGMENTATION, SPEC)],
        "cached": [images for images, _ in training_loader(data_settings(root, workers=workers, cache_images=True),
                                                           AUGMENTATION, SPEC)],
        "validation": [images for images, _ in validation_loader(data, SPEC)],
        "every": [images for images, _ in validation_loader(data, SPEC, every=2)],
        "calibration": calibration_batches(data, SPEC, 4),
    }
    assert {images.dtype for kind in batches.values() for images in kind} == {torch.float64}
    print(json.dumps({name: torch.cat(kind).sum((1, 2, 3)).tolist() for name, kind in batches.items()}))
"""


@pytest.mark.slow
def test_workers_that_are_not_forked_give_the_images_of_the_main_process_in_its_precision(tmp_path):
    draw_folders(tmp_path / "data")
    (tmp_path / "loaders.py").write_text(LOADERS)
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parents[3], Path(__file__).parents[1])))}
    said = []
    for workers in ("0", "1"):
        command = [sys.executable, str(tmp_path / "loaders.py"), str(tmp_path / "data"), workers]
        done = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1] != ""


class Slow(Dataset):
    """Pictures that take `seconds` each, and `start` more for the first."""

    def __init__(self, size: int, seconds: float, start: float) -> None:
        self.size, self.seconds, self.start = size, seconds, start

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int | PictureOfEpoch) -> tuple[torch.Tensor, int]:
        time.sleep(self.seconds + (self.start if index == 0 else 0))
        return torch.zeros(1), 0


def test_the_speed_of_a_loader_is_measured_for_the_time_given_and_changes_nothing():
    sampler = EpochSampler(10_000, seed=0)
    sampler.epoch, sampler.start = 3, 20
    loader = DataLoader(Slow(40_000, 0.002, 0), 10, sampler=sampler)
    before, began = torch.get_rng_state(), time.monotonic()
    speed = loader_speed(loader, 0.4)
    assert 0.35 < time.monotonic() - began < 2
    assert 150 < speed <= 500
    assert (sampler.epoch, sampler.start, len(sampler)) == (3, 20, 9980)
    assert torch.equal(before, torch.get_rng_state())


def test_the_start_of_worker_processes_does_not_count_as_loading():
    speed = loader_speed(DataLoader(Slow(100, 0.002, 1.0), 10, num_workers=1), 5)
    assert 150 < speed <= 500
    assert 5 < loader_speed(DataLoader(Slow(10, 0.002, 0.5), 10, num_workers=1), 5) < 20  # there is but one batch


def test_the_record_of_data_in_folders_is_the_hash_of_its_sorted_names(varied):
    names = "\n".join(sorted(path.relative_to(varied / "val").as_posix() for path in (varied / "val").rglob("*.*")))
    expected = {
        "name": varied.name,
        "split": "val",
        "validation_images": 24,
        "validation_names_sha256": hashlib.sha256(names.encode()).hexdigest(),
    }
    settings = data_settings(varied)
    assert data_record(settings, replace(AUGMENTATION, data_fraction=0.25)) == expected | {"training_images": 6}
    assert data_record(settings) == expected


def test_a_folder_that_one_is_in_is_recorded_by_its_name(varied, monkeypatch):
    monkeypatch.chdir(varied / "val")
    assert data_record(data_settings(Path("..")))["name"] == varied.name
    monkeypatch.chdir(varied)
    assert data_record(data_settings(Path(".")))["name"] == varied.name


@pytest.fixture
def thirteen(tmp_path) -> Path:
    """Thirteen validation pictures of one class; each is its own shade of red."""
    (tmp_path / "val/c0").mkdir(parents=True)
    for index in range(13):
        (tmp_path / f"val/c0/{index:02}.png").write_bytes(encoded(10 * index))
    return tmp_path


@pytest.mark.parametrize("every", [1, 2, 5, 13, 20])
def test_one_validation_image_of_so_many_is_taken_from_the_first_on(thirteen, every):
    loader = validation_loader(data_settings(thirteen), SPEC, 4, every=every)
    assert [red_of(image) for images, _ in loader for image in images] == list(range(0, 130, 10 * every))


@pytest.mark.parametrize("every", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [2, 4, 5])
def test_each_image_that_was_taken_is_evaluated(thirteen, every, batch_size):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.num_classes = 3
    loader = validation_loader(data_settings(thirteen), SPEC, batch_size, every=every)
    assert evaluate(Accelerator(cpu=True), network, loader)["images"] == len(range(0, 13, every))


def test_an_unreadable_picture_among_those_taken_is_an_error(thirteen):
    (thirteen / "val/c0/04.png").write_bytes(b"no picture")
    loader = validation_loader(data_settings(thirteen), SPEC, 4, every=2)
    assert sum(1 for _ in loader) == 2
    with pytest.raises(DataError, match=r"1 of 13 images cannot be decoded, more than 0.1 %: .*c0/04\.png; replace"):
        loader.unreadable.check()
