"""Data sets of torchvision: read where they lie, and no word opens other pictures than it names."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_pictures import AUGMENTATION, SPEC, data_settings, draw_folders, encoded
from torchvision.datasets import CIFAR10, ImageFolder

from limpq_hub.errors import DataError
from limpq_hub.train.data import torchvision_source
from limpq_hub.train.data.description import class_records
from limpq_hub.train.data.identity import difference, identity_of
from limpq_hub.train.data.loaders import training_loader, validation_loader
from limpq_hub.train.data.splits import check_apart, open_split, training_split
from limpq_hub.train.data.torchvision_source import TorchSource
from limpq_hub.train.measure.figure_dependence import digests_of_pictures

ROWS = {"data_batch_1": 40, "test_batch": 20}


@pytest.fixture
def folders(tmp_path) -> Path:
    return draw_folders(tmp_path)


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """Return a folder with 40 training and 20 test pictures as CIFAR-10 has them."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    for name, rows in ROWS.items():
        pixels = np.zeros((rows, 3 * 32 * 32), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [row % 10 for row in range(rows)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"c{label}" for label in range(10)]}))
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})
    return tmp_path


def cifar_settings(root: Path, **changes: object):
    return data_settings("torch/cifar10", data_root=str(root), **changes)


@pytest.mark.parametrize("word", ["train", "training", "val", "valid", "validation", "eval", "evaluation", "test"])
def test_each_word_of_timm_opens_what_it_names(cifar, word):
    for training in (True, False):
        settings = cifar_settings(cifar, **{"train_split" if training else "val_split": word})
        expected = ROWS["data_batch_1" if word.startswith("train") else "test_batch"]
        assert len(open_split(settings, training=training)) == expected


@pytest.mark.parametrize("word", ["Train", "trian", "train[:90%]", "vla"])
@pytest.mark.parametrize("name", ["torch/cifar10", "torch/CIFAR100", "torch/mnist", "Torch/qmnist"])
def test_another_word_is_not_taken_for_the_test_pictures(cifar, name, word):
    settings = data_settings(name, data_root=str(cifar), train_split=word)
    with pytest.raises(DataError) as caught:
        open_split(settings, training=True)
    assert str(caught.value) == (
        f"--data '{name}' has no split '{word}', only train and test; name one of these (--train-split, --val-split)"
    )


@pytest.mark.parametrize(
    ("name", "train", "val"),
    [("torch/cifar10", "val", "test"), ("torch/cifar10", "training", "train"), ("{}", "val", "val")],
)
def test_pictures_that_are_validated_on_are_not_trained_on(cifar, folders, name, train, val):
    name = name.format(folders)
    settings = data_settings(name, data_root=str(cifar), train_split=train, val_split=val)
    with pytest.raises(DataError) as caught:
        training_loader(settings, AUGMENTATION, SPEC)
    assert str(caught.value) == (
        f"--train-split {train} and --val-split {val} are the same pictures of --data '{name}', so that what is "
        "measured would be what was learned; name two splits"
    )
    validation_loader(settings, SPEC)


def test_a_data_set_for_validation_only_has_classes(folders):
    names = sorted(path.name for path in (folders / "val").iterdir())
    torch.save(({name: (name,) for name in names}, []), folders / "meta.bin")  # of ImageNet
    settings = data_settings("torch/imagenet", data_root=str(folders))
    assert training_split(settings).classes == tuple(names)
    shutil.rmtree(folders / "train")
    assert training_split(settings) is None
    assert [record["id"] for record in class_records(settings)] == names
    assert digests_of_pictures(settings).keys() == {"validation pictures"}
    with pytest.raises(DataError, match="^--data 'torch/imagenet': The archive .* is not present"):
        training_loader(settings, AUGMENTATION, SPEC)


@pytest.mark.parametrize("name", ["torch/imagenet", "torch/inaturalist"])
def test_a_split_that_torchvision_does_not_know_is_named_with_its_options(tmp_path, name):
    with pytest.raises(DataError) as caught:
        validation_loader(data_settings(name, data_root=str(tmp_path), val_split="test"), SPEC)
    assert str(caught.value).startswith(f"--data '{name}', split 'test': Unknown value 'test' for argument ")
    assert str(caught.value).endswith("; name one that it has (--train-split, --val-split)")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("torch/cifar10", "Dataset not found"), ("torch/nothing", "Unknown torchvision dataset nothing")],
)
def test_a_torchvision_data_set_that_is_not_there_is_named(tmp_path, name, reason):
    with pytest.raises(DataError, match=f"--data '{name}': {reason}.*; --data-root must hold it, downloaded by"):
        validation_loader(data_settings(name, data_root=str(tmp_path)), SPEC)


def test_what_else_torchvision_says_of_a_wrong_value_is_not_taken_for_a_split(monkeypatch, tmp_path):
    def refused(*_: object, **__: object) -> None:
        raise ValueError("cannot reshape array")

    monkeypatch.setattr(torchvision_source, "create_dataset", refused)
    with pytest.raises(DataError) as caught:
        training_split(data_settings("torch/imagenet", data_root=str(tmp_path)))
    assert str(caught.value) == (
        "--data 'torch/imagenet': cannot reshape array; --data-root must hold it, downloaded by torchvision before"
    )


@pytest.mark.parametrize(
    ("name", "train", "val"),
    [
        ("torch/places365", "train", "train-standard"),
        ("torch/inaturalist", "2021_train", "training"),
        ("torch/inat", "2021_valid", "val"),
    ],
)
def test_what_timm_makes_of_a_word_is_the_same_pictures(tmp_path, name, train, val):
    settings = data_settings(name, data_root=str(tmp_path), train_split=train, val_split=val)
    with pytest.raises(DataError, match=f"^--train-split {train} and --val-split {val} are the same pictures of"):
        check_apart(settings)
    check_apart(replace(settings, train_split="2021_train_mini"))


def test_a_training_split_that_was_mistyped_is_not_taken_for_one_that_is_not_there(folders):
    torch.save(({}, []), folders / "meta.bin")
    for name, root in (("torch/imagenet", str(folders)), (str(folders), None)):
        settings = data_settings(name, data_root=root, train_split="trian")
        with pytest.raises(DataError, match="trian"):
            training_split(settings)


def test_a_data_set_of_torchvision_with_files_is_told_by_them(folders):
    def opened() -> TorchSource:
        return TorchSource("pictures", ImageFolder(str(folders / "val")))

    source, before = opened(), identity_of(opened())
    assert [source.name(index) for index in range(len(source))] == ["n10/5.png", "n2/5.png", "other/5.png"]
    with source.picture(1) as picture:
        assert picture.convert("RGB").getpixel((0, 0))[0] == 5
    (folders / "val/n2/5.png").write_bytes(encoded(6))
    assert difference(before, identity_of(opened())) == "with other pictures in class n2 (1 then, 1 now)"
