"""Pictures that cannot be decoded: named once, counted over workers and epochs, never a label of another."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from drawn_pictures import (
    AUGMENTATION,
    BROKEN_FILES,
    PER_CLASS,
    SPEC,
    TOTAL,
    data_settings,
    draw_colored,
    index_of,
    picture_path,
)
from PIL import Image

from limpq_hub.errors import DataError
from limpq_hub.train.data.epoch_sampler import PictureOfEpoch
from limpq_hub.train.data.loaders import calibration_batches, training_loader, validation_loader
from limpq_hub.train.data.unreadable import UNREADABLE, Unreadable


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", BROKEN_FILES)
def test_a_validation_picture_that_cannot_be_decoded_is_named_once_and_left_out(tmp_path, capfd, kind, workers):
    path = draw_colored(tmp_path, 1) / "val/c1/0003.png"
    path.write_bytes(BROKEN_FILES[kind]())
    loader = validation_loader(data_settings(tmp_path, workers=workers), SPEC, batch_size=3)
    for _ in range(2):
        images, labels = map(torch.cat, zip(*loader, strict=True))
        assert labels.tolist() == [0, 0, 1, UNREADABLE, 2, 2, 3, 3]
        assert not images[3].any()
        assert [index_of(image) for image in images[[0, 1, 2, 4, 5, 6, 7]]] == [0, 1, 2, 4, 5, 6, 7]
    assert loader.unreadable.count == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"cannot be decoded, left out: {path} (")
    with pytest.raises(DataError, match=f"1 of 8 images cannot be decoded, more than 0.1 %: {path}; replace or remove"):
        loader.unreadable.check()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_picture_that_cannot_be_decoded_is_replaced_by_the_next_with_its_own_label(colored, capfd, workers):
    broken = PER_CLASS - 1  # the last of its class: the next is of another
    picture_path(colored, broken).write_bytes(BROKEN_FILES["truncated jpeg"]())
    loader = training_loader(data_settings(colored, workers=workers, batch_size=16), AUGMENTATION, SPEC)
    for epoch in (0, 1):
        loader.sampler.epoch = epoch
        images, labels = map(torch.cat, zip(*loader, strict=True))
        found = [index_of(image) for image in images]
        wanted = [of_epoch.picture for of_epoch in loader.sampler]
        assert found == [picture + (picture == broken) for picture in wanted]
        assert labels.tolist() == [index // PER_CLASS for index in found]
        loader.unreadable.check()
    assert loader.unreadable.count == 1
    assert capfd.readouterr().err.count("\n") == 1


def test_several_broken_pictures_in_a_row_and_at_the_end_are_passed_over(colored, monkeypatch):
    monkeypatch.setattr("limpq_hub.train.data.unreadable._TOLERATED_PER_THOUSAND", 10)
    for index in (0, TOTAL - 2, TOTAL - 1):
        picture_path(colored, index).write_bytes(b"")
    images = training_loader(data_settings(colored), AUGMENTATION, SPEC).batches.dataset
    wanted = [PictureOfEpoch(1, index) for index in (TOTAL - 3, TOTAL - 2, TOTAL - 1, 0)]
    assert [index_of(images[of_epoch][0]) for of_epoch in wanted] == [TOTAL - 3, 1, 1, 1]
    assert images[PictureOfEpoch(0, TOTAL - 1)][1] == 0


def test_replaced_pictures_depend_on_seed_epoch_and_index_alone(colored):
    picture_path(colored, 7).write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture_path(colored, 8))
    wanted = PictureOfEpoch(3, 7)
    settings = data_settings(colored, seed=5)
    first, second = (training_loader(settings, AUGMENTATION, SPEC).batches.dataset for _ in range(2))
    for other in (0, 8, 7):
        second[PictureOfEpoch(0, other)]
    assert torch.equal(first[wanted][0], second[wanted][0])
    assert not torch.equal(first[wanted][0], first[PictureOfEpoch(4, 7)][0])


def test_more_than_a_thousandth_unreadable_is_an_error_in_the_main_process_that_names_five(colored):
    names = [picture_path(colored, index) for index in range(100, 107)]
    for path in names:
        path.write_bytes(b"")
    loader = training_loader(data_settings(colored, workers=2, batch_size=16), AUGMENTATION, SPEC)
    for _ in loader:
        pass
    listed = ", ".join(map(str, names[:5]))
    with pytest.raises(DataError) as caught:
        loader.unreadable.check()
    assert str(caught.value) == (
        f"7 of 1040 images cannot be decoded, more than 0.1 %: {listed} and 2 more; replace or remove them"
    )


def test_a_data_set_without_one_readable_picture_ends_at_the_first_check(colored):
    for path in (colored / "train").rglob("*.png"):
        path.write_bytes(b"")
    began = time.monotonic()
    loader = training_loader(data_settings(colored), AUGMENTATION, SPEC)
    images, labels = next(iter(loader))
    assert not images.any()
    assert set(labels.tolist()) == {UNREADABLE}
    with pytest.raises(DataError, match="of 1040 images cannot be decoded"):
        loader.unreadable.check()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("used", "bad", "stops"), [(1000, 1, False), (1000, 2, True), (999, 1, True), (5000, 5, False)]
)
def test_a_thousandth_of_the_pictures_used_is_tolerated(used, bad, stops, capsys):
    unreadable = Unreadable(6000, str, used=used)
    for index in range(bad):
        unreadable.add(index, OSError("gone"))
        unreadable.add(index, OSError("gone"))
    assert unreadable.count == bad == capsys.readouterr().err.count("(gone)")
    assert unreadable.too_many is stops
    if stops:
        with pytest.raises(DataError, match=f"{bad} of {used} images"):
            unreadable.check()
    else:
        unreadable.check()


def test_what_other_processes_have_met_counts_too_and_was_named_by_them():
    unreadable = Unreadable(2000, str)
    unreadable.check(2)
    with pytest.raises(
        DataError, match="^3 of 2000 images cannot be decoded, more than 0.1 %: named above; replace or"
    ):
        unreadable.check(3)


def test_a_check_costs_nothing():
    unreadable = Unreadable(5_000_000, str)
    began = time.monotonic()
    for _ in range(1000):
        unreadable.check()
    assert time.monotonic() - began < 0.5


def test_control_characters_in_a_file_name_do_not_reach_the_terminal(capsys):
    Unreadable(1, lambda _: "a\x1b[2Jb\n.png").add(0, OSError("x\ny <object at 0x1>"))
    assert capsys.readouterr().err == "cannot be decoded, left out: 'a\\x1b[2Jb\\n.png' (x y)\n"


@pytest.mark.parametrize("workers", [0, 2])
def test_calibration_leaves_out_what_cannot_be_decoded(colored, workers):
    drawn = torch.randperm(TOTAL, generator=torch.Generator().manual_seed(3))[:150].tolist()
    picture_path(colored, drawn[130]).write_bytes(b"")
    batches = calibration_batches(data_settings(colored, seed=3, workers=workers), SPEC, 150)
    assert [len(batch) for batch in batches] == [128, 21]
    assert [index_of(image) for image in torch.cat(batches)] == drawn[:130] + drawn[131:]


def test_calibration_stops_where_too_many_cannot_be_decoded(colored):
    for index in range(0, TOTAL, 2):
        picture_path(colored, index).write_bytes(b"")
    with pytest.raises(DataError, match="of 1040 images cannot be decoded, more than 0.1 %"):
        calibration_batches(data_settings(colored), SPEC, 64)
