"""Data sets in folders and of torchvision: no label is shifted, no split replaced by another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from drawn_pictures import (
    AUGMENTATION,
    SPEC,
    TRAIN,
    VAL,
    data_settings,
    draw_folders,
    encoded,
    reds_and_labels,
)

from limpq_hub.errors import DataError
from limpq_hub.train.data.description import class_records, data_record
from limpq_hub.train.data.loaders import training_loader, validation_loader
from limpq_hub.train.data.splits import has_training_split, open_split


@pytest.fixture
def folders(tmp_path) -> Path:
    return draw_folders(tmp_path)


def test_folders_give_every_picture_with_its_class(folders):
    settings = data_settings(folders)
    assert reds_and_labels(settings, training=True) == TRAIN
    assert reds_and_labels(settings, training=False) == VAL
    assert [record["id"] for record in class_records(settings)] == ["n2", "n10", "other"]


def test_folders_of_other_names_than_train_and_val_are_taken_when_named(folders):
    (folders / "val").rename(folders / "validation")
    settings = data_settings(folders, val_split="validation")
    assert reds_and_labels(settings, training=False) == VAL
    with pytest.raises(DataError, match="has no folder val/; give one with train/ and val/"):
        class_records(data_settings(folders))


def test_a_data_folder_that_is_not_there_is_said_to_be_missing(folders):
    with pytest.raises(DataError, match=r"nowhere': there is no such folder; give one with train/ and val/$"):
        class_records(data_settings(folders / "nowhere"))


def test_a_data_set_for_validation_only_has_classes(folders):
    shutil.rmtree(folders / "train")
    assert not has_training_split(data_settings(folders))
    assert len(class_records(data_settings(folders))) == 3


def empty_class(root: Path) -> None:
    (root / "train/n11").mkdir()


def class_without_pictures(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "n11").mkdir()
        (root / split / "n11/readme.txt").write_text("none yet")


def no_class_folders(root: Path) -> None:
    for split in ("train", "val"):
        shutil.rmtree(root / split)
        (root / split).mkdir()
        (root / split / "0.png").write_bytes(encoded(0))


def loose_picture(root: Path) -> None:
    (root / "val/0.png").write_bytes(encoded(0))


def no_picture_at_all(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".txt"))


def folders_inside_the_classes(root: Path) -> None:
    for name in ("n2", "n10", "other"):
        (root / f"train/{name}").rename(root / "moved")
        (root / f"train/{name}").mkdir()
        (root / "moved").rename(root / f"train/{name}/images")


def missing_in_val(root: Path) -> None:
    shutil.rmtree(root / "val/n10")


def missing_in_train(root: Path) -> None:
    shutil.rmtree(root / "train/n10")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (empty_class, "{root}/train: no image in class n11; remove the class or fill it"),
        (class_without_pictures, "{root}/val: no image in class n11; remove the class or fill it"),
        (no_class_folders, "{root}/val has no class folders; put the pictures into one folder per class"),
        (loose_picture, "{root}/val/0.png lies in no class folder; move it into one, or remove it"),
        (no_picture_at_all, "{root}/val: no image in class n10, n2, other; remove the class or fill it"),
        (
            folders_inside_the_classes,
            "{root}/train: n2/images lies inside the class folder 'n2'; put the pictures directly into one folder per "
            "class",
        ),
        (missing_in_val, "{root}: train/ and val/ differ in class n10; use the same"),
        (missing_in_train, "{root}: train/ and val/ differ in class n10; use the same"),
    ],
)
def test_classes_that_would_shift_the_labels_are_refused(folders, damage, message):
    damage(folders)
    with pytest.raises(DataError) as caught:
        class_records(data_settings(folders))
    assert str(caught.value) == message.format(root=folders)


@pytest.mark.parametrize(
    ("name", "instead"), [("tfds/mnist", "hfds/, wds/ or folders"), ("hfids/owner/x", "hfds/"), ("HFIDS/x", "hfds/")]
)
def test_a_stream_is_refused(name, instead):
    with pytest.raises(DataError) as caught:
        training_loader(data_settings(name), AUGMENTATION, SPEC)
    reason = "is a stream without an index, which cannot be continued exactly"
    assert str(caught.value) == f"--data '{name}' {reason}; use {instead}"


@pytest.mark.parametrize("name", ["torch/cifar10", "wds/pets"])
def test_a_data_set_that_lies_in_a_folder_needs_it(name):
    with pytest.raises(DataError, match=f"--data '{name}' needs --data-root, the folder where it lies"):
        validation_loader(data_settings(name), SPEC)


def test_a_torchvision_data_set_keeps_its_splits_and_classes(folders):
    settings = data_settings("torch/image_folder", data_root=str(folders))
    # torchvision sorts n10 before n2.
    assert [record["id"] for record in class_records(settings)] == ["n10", "n2", "other"]
    swapped = {0: 1, 1: 0, 2: 2}
    assert reds_and_labels(settings, training=True) == [(red, swapped[label]) for red, label in TRAIN]
    assert reds_and_labels(settings, training=False) == [(red, swapped[label]) for red, label in VAL]
    assert open_split(settings, training=False).names() == ["n10/5.png", "n2/5.png", "other/5.png"]


def test_a_torchvision_picture_that_cannot_be_decoded_is_named(folders, capsys):
    (folders / "val/n2/5.png").write_bytes(encoded(5)[:40])
    settings = data_settings("torch/image_folder", data_root=str(folders))
    assert [label for _, label in reds_and_labels(settings, training=False)] == [-1, 0, 2]
    assert "cannot be decoded, left out: torch/image_folder/val/n2/5.png (" in capsys.readouterr().err


def test_a_split_that_is_missing_is_not_replaced_by_the_whole_folder(folders):
    shutil.rmtree(folders / "val")
    settings = data_settings("torch/image_folder", data_root=str(folders))
    with pytest.raises(DataError, match=r"has no folder val/; give one with it, or name the split"):
        validation_loader(settings, SPEC)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("torch/cifar10", "Dataset not found"), ("torch/nothing", "Unknown torchvision dataset nothing")],
)
def test_a_torchvision_data_set_that_is_not_there_is_named(tmp_path, name, reason):
    with pytest.raises(DataError, match=f"--data '{name}': {reason}.*; --data-root must hold it, downloaded by"):
        validation_loader(data_settings(name, data_root=str(tmp_path)), SPEC)


def test_the_record_changes_with_a_name(folders):
    settings = data_settings("torch/image_folder", data_root=str(folders))
    first = data_record(settings, AUGMENTATION)
    assert (first["name"], first["validation_images"], first["training_images"]) == ("image_folder", 3, 6)
    (folders / "val/n2/5.png").rename(folders / "val/n2/6.png")
    assert data_record(settings)["validation_names_sha256"] != first["validation_names_sha256"]
