"""Data sets in folders and of torchvision: no label is shifted, no split replaced by another."""

from __future__ import annotations

import os
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
from limpq_hub.train.data.splits import open_split, training_split
from limpq_hub.train.measure.figure_dependence import digests_of_pictures


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
    assert training_split(data_settings(folders)) is None
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
    assert f"cannot be decoded, left out: {folders}/val/n2/5.png (" in capsys.readouterr().err


def test_a_split_that_is_missing_is_not_replaced_by_the_whole_folder(folders):
    shutil.rmtree(folders / "val")
    settings = data_settings("torch/image_folder", data_root=str(folders))
    with pytest.raises(DataError, match=r"^--data-root '.*' has no folder val/; give one with train/ and val/"):
        validation_loader(settings, SPEC)


def test_a_torchvision_folder_has_the_pictures_and_classes_that_a_folder_has(folders, capsys):
    (folders / "train/.ipynb_checkpoints").mkdir()
    for hidden in (".ipynb_checkpoints/5-checkpoint.png", "n2/._0.png"):
        (folders / "train" / hidden).write_bytes(encoded(5))
    (folders / "train/n2/9.gif").write_bytes(encoded(9, "GIF"))
    (folders / "train/n2/notes.txt").write_text("none")
    plain, named = data_settings(folders), data_settings("torch/image_folder", data_root=str(folders))
    assert open_split(named, training=True).names() == open_split(plain, training=True).names()
    assert "n2/9.gif" in open_split(named, training=True).names()
    (folders / "train/n2/hard").mkdir()
    (folders / "train/n2/hard/1.png").write_bytes(encoded(1))
    with pytest.raises(DataError, match="n2/hard lies inside the class folder 'n2'"):
        open_split(named, training=True)


@pytest.mark.parametrize("root", [None, "torch/image_folder"], ids=["folder", "torchvision"])
def test_what_tells_data_from_other_data_are_the_pictures_and_not_their_names(folders, root):
    settings = data_settings(folders) if root is None else data_settings(root, data_root=str(folders))
    before = digests_of_pictures(settings)
    assert before.keys() == {"validation pictures", "training pictures"}
    for split in ("train", "val"):
        (folders / split / "n2").rename(folders / "moved")
        (folders / split / "n10").rename(folders / split / "n2")
        (folders / "moved").rename(folders / split / "n10")
    after = digests_of_pictures(settings)
    assert all(after[split] != digest for split, digest in before.items())


def test_the_record_changes_with_a_name(folders):
    settings = data_settings("torch/image_folder", data_root=str(folders))
    first = data_record(settings, AUGMENTATION)
    assert (first["name"], first["validation_images"], first["training_images"]) == ("image_folder", 3, 6)
    (folders / "val/n2/5.png").rename(folders / "val/n2/6.png")
    assert data_record(settings)["validation_names_sha256"] != first["validation_names_sha256"]


@pytest.mark.slow
def test_names_that_differ_in_case_or_leading_zeros_have_one_order_whatever_the_hash_seed(tmp_path, run_python):
    for name in ("a", "A", "1", "01", "001", "b2", "B2", "B02"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for picture in ("img_1.png", "img_01.png", "IMG_1.png"):
            (tmp_path / "val" / name / picture).touch()
    code = (
        "from limpq_hub.train.data.class_folders import open_folder\n"
        f"source = open_folder({str(tmp_path)!r}, 'val')\n"
        "print(*source.classes, *[source.name(index) for index in range(3)])"
    )
    expected = "001 01 1 A a B02 B2 b2 001/IMG_1.png 001/img_01.png 001/img_1.png\n"
    assert [run_python(code, PYTHONHASHSEED=seed).stdout for seed in ("1", "2")] == [expected] * 2


def test_every_kind_of_picture_is_taken_by_its_suffix_or_by_its_first_bytes(tmp_path):
    kinds = {"jpg": "JPEG", "JPEG": "JPEG", "jfif": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"}
    kinds |= {"tiff": "TIFF", "gif": "GIF", "ppm": "PPM", "": "PNG", "orig": "JPEG", "PNG": "PNG"}
    (tmp_path / "val/c").mkdir(parents=True)
    for number, (suffix, kind) in enumerate(kinds.items()):
        (tmp_path / f"val/c/{number}{'.' if suffix else ''}{suffix}").write_bytes(encoded(200, kind))
    found = reds_and_labels(data_settings(tmp_path), training=False)
    assert len(found) == len(kinds)
    assert all(abs(red - 200) < 4 for red, _ in found)


def test_files_that_are_no_pictures_are_told_in_one_line_and_hidden_ones_are_nobodys(folders, capsys):
    for name in ("notes.txt", "more.txt", "checksum"):
        (folders / "val/n2" / name).write_text("no picture")
    (folders / "val/n2/.ipynb_checkpoints").mkdir()
    for name in ("val/n2/.ipynb_checkpoints/5-checkpoint.png", "val/n2/._5.png", "val/n2/.DS_Store"):
        (folders / name).write_bytes(encoded(99))
    (folders / "val/.ipynb_checkpoints").mkdir()
    assert reds_and_labels(data_settings(folders), training=False) == VAL
    said = "3 files that are no pictures are left out (2 .txt, 1 without a suffix)"
    assert capsys.readouterr().err == f"{folders}/val: {said}\n"


def test_a_pipe_among_the_pictures_is_not_waited_for(folders, capsys):
    os.mkfifo(folders / "val/n2/6.png")
    assert reds_and_labels(data_settings(folders), training=False) == VAL
    assert "1 file that is no picture is left out (1 pipe or device)" in capsys.readouterr().err


def test_pictures_of_a_kind_that_is_not_read_are_refused_not_left_out(folders):
    for name in ("a.jxl", "b.JXL", "c.psd"):
        (folders / "train/n2" / name).write_bytes(b"something")
    with pytest.raises(DataError) as refused:
        open_split(data_settings(folders), training=True)
    assert str(refused.value) == (
        f"{folders}/train has pictures of kinds that are not read (2 .jxl, 1 .psd); convert them to JPEG or PNG, or "
        "take them out"
    )


def test_a_folder_inside_one_class_is_named_and_an_empty_one_is_not(folders):
    (folders / "train/n10/notes").mkdir()
    assert len(open_split(data_settings(folders), training=True).classes) == 3
    (folders / "train/n10/hard").mkdir()
    (folders / "train/n10/0.png").rename(folders / "train/n10/hard/0.png")
    with pytest.raises(
        DataError, match="train: n10/hard lies inside the class folder 'n10'; put the pictures directly"
    ):
        open_split(data_settings(folders), training=True)
