"""`--cache-images`: the same batches, from memory that is refused where it would be too much."""

from __future__ import annotations

from dataclasses import replace

import psutil
import pytest
import torch
from drawn_pictures import (
    AUGMENTATION,
    BROKEN_FILES,
    PER_CLASS,
    SPEC,
    TOTAL,
    data_settings,
    index_of,
    picture_path,
)
from PIL import Image

from limpq_hub.errors import DataError
from limpq_hub.train.data.epoch_sampler import EpochSampler, PictureOfEpoch
from limpq_hub.train.data.loaders import training_loader
from limpq_hub.train.data.picture_cache import CachedSource
from limpq_hub.train.data.splits import open_split


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_pictures_give_the_same_batches_and_their_files_are_read_no_more(varied, workers):
    settings, jittered = data_settings(varied, workers=workers, batch_size=6), replace(AUGMENTATION, color_jitter=0.3)
    plain = training_loader(settings, jittered, SPEC)
    plain.sampler.epoch = 2
    expected = [(images, labels) for images, labels in plain]
    random_state = torch.get_rng_state()
    cached = training_loader(replace(settings, cache_images=True), jittered, SPEC)
    assert torch.equal(random_state, torch.get_rng_state())
    for path in (varied / "train").rglob("*.*"):
        path.unlink()
    cached.sampler.epoch = 2
    for (images, labels), (other, same) in zip(cached, expected, strict=True):
        assert torch.equal(images, other)
        assert torch.equal(labels, same)


def test_cached_pictures_may_be_of_some_of_the_classes_of_a_network(varied):
    settings, classes = data_settings(varied, batch_size=6), ["a", "c1", "b", "c0"]
    plain, cached = (
        training_loader(replace(settings, cache_images=cache), AUGMENTATION, SPEC, classes) for cache in (False, True)
    )
    for (images, labels), (other, same) in zip(plain, cached, strict=True):
        assert torch.equal(images, other)
        assert {*labels.tolist()} <= {1, 3}
        assert torch.equal(labels, same)


def test_a_cached_picture_is_called_as_its_source_calls_it(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("0.png", "1.png"):
            Image.new("RGB", (3, 5)).save(tmp_path / folder / name)
    (tmp_path / "b/1.png").write_bytes(b"no picture")
    folders = (str(tmp_path / "a"), str(tmp_path / "b"))
    source = open_split(data_settings(tmp_path, unlabelled=folders), training=True)
    cached = CachedSource(source, range(4), workers=0)
    assert [cached.path(index) for index in range(4)] == [
        f"{tmp_path}/{folder}/{name}.png" for folder in ("a", "b") for name in (0, 1)
    ]
    for index in range(4):
        assert (cached.name(index), cached.size_bytes(index)) == (source.name(index), source.size_bytes(index))
        assert cached.content(index) == source.content(index)


def test_only_the_pictures_used_are_cached_and_broken_ones_are_met_when_they_are_read(colored, monkeypatch, capfd):
    monkeypatch.setattr("limpq_hub.train.data.unreadable._TOLERATED_PER_THOUSAND", 10)
    broken = EpochSampler(TOTAL, seed=0, fraction=0.5).chosen[5].item()
    picture_path(colored, broken).write_bytes(BROKEN_FILES["truncated jpeg"]())
    loader = training_loader(data_settings(colored, cache_images=True), replace(AUGMENTATION, data_fraction=0.5), SPEC)
    assert capfd.readouterr().err == "reading sizes: 520 images\ndecoding 0.00 GB of pictures: 520 images\n"
    assert loader.unreadable.count == 0
    kept = set(loader.sampler.chosen.tolist()) - {broken}
    for index in kept - {broken + 1}:
        picture_path(colored, index).unlink()
    image, label = loader.batches.dataset[PictureOfEpoch(0, broken)]
    assert (index_of(image), label) == (broken + 1, (broken + 1) // PER_CLASS)
    assert [index_of(loader.batches.dataset[PictureOfEpoch(0, index)][0]) for index in sorted(kept)] == sorted(kept)
    assert loader.unreadable.count == 1
    assert str(picture_path(colored, broken)) in capfd.readouterr().err
    outside = min(set(range(TOTAL)) - kept - {broken})
    assert index_of(loader.batches.dataset[PictureOfEpoch(0, outside)][0]) == outside


@pytest.mark.parametrize(
    ("free_bytes", "processes", "fits"), [(56_160, 1, True), (56_159, 1, False), (56_160, 2, False)]
)
def test_a_cache_of_more_than_half_the_free_memory_is_refused_before_decoding(
    colored, monkeypatch, free_bytes, processes, fits
):
    # 1040 pictures of 3 x 3 pixels of 3 bytes are 28,080 bytes.
    memory = psutil.virtual_memory()._replace(available=free_bytes)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    settings = data_settings(colored, cache_images=True)
    if fits:
        assert index_of(training_loader(settings, AUGMENTATION, SPEC).batches.dataset[PictureOfEpoch(0, 9)][0]) == 9
        return
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    each = " in each of 2 processes" if processes == 2 else ""
    expected = (
        f"--cache-images needs 2.81e-05 GB{each} for 1040 images, more than half of the 5.62e-05 GB that are free; "
        "leave it out, or use a smaller --data-fraction"
    )
    with pytest.raises(DataError) as caught:
        training_loader(settings, AUGMENTATION, SPEC)
    assert str(caught.value) == expected
