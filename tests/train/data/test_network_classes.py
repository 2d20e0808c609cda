"""The classes of a network are its own: labels are mapped to its outputs by id, whatever folders happen to be there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from drawn_pictures import AUGMENTATION, SPEC, data_settings, draw_folders, encoded, red_of
from timm.data import ImageNetInfo

from limpq_hub.errors import DataError
from limpq_hub.train.data.loaders import training_loader, validation_loader
from limpq_hub.train.data.network_classes import _synset_names, classes_of_network
from limpq_hub.train.settings import DataSettings

LION, SHARK, TENCH = "n02129165", "n01484850", "n01440764"


def reds_by_label(data: DataSettings, classes: list[str], *, training: bool) -> list[tuple[int, int]]:
    loader = (
        training_loader(data, AUGMENTATION, SPEC, classes)
        if training
        else validation_loader(data, SPEC, 2, classes=classes)
    )
    return sorted(
        (red_of(image), int(label)) for images, labels in loader for image, label in zip(images, labels, strict=True)
    )


def draw(root: Path, split: str, reds: dict[str, int]) -> None:
    for name, red in reds.items():
        (root / split / name).mkdir(parents=True)
        for number in range(2):
            (root / split / name / f"{number}.png").write_bytes(encoded(red))


def test_some_wnids_have_the_index_among_all_1000_of_imagenet(tmp_path):
    draw(tmp_path, "train", {LION: 50, TENCH: 10})
    draw(tmp_path, "val", {SHARK: 30, LION: 50})
    data = data_settings(tmp_path)
    records = classes_of_network(1000, data)
    ids = [record["id"] for record in records]
    assert ids == sorted(ImageNetInfo().label_names())
    assert records[291] == {"id": LION, "name": "lion, king of beasts, Panthera leo"}
    assert (ids[0], ids[2]) == (TENCH, SHARK)
    assert reds_by_label(data, ids, training=True) == [(10, 0), (10, 0), (50, 291), (50, 291)]
    assert reds_by_label(data, ids, training=False) == [(30, 2), (30, 2), (50, 291), (50, 291)]


def test_any_number_of_folders_named_by_synsets_of_imagenet_have_names_in_words(tmp_path):
    every_fruit, reds = "n13134947", {SHARK: 30, TENCH: 10}  # the fruit is of ImageNet-22k alone
    draw(tmp_path, "train", reds | {every_fruit: 50})
    draw(tmp_path, "val", reds | {every_fruit: 50})
    assert classes_of_network(3, data_settings(tmp_path)) == [
        {"id": TENCH, "name": "tench, Tinca tinca"},
        {"id": SHARK, "name": "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias"},
        {"id": every_fruit, "name": "fruit"},
    ]
    (tmp_path / "names.json").write_text(json.dumps({SHARK: "shark"}))
    records = classes_of_network(3, data_settings(tmp_path), tmp_path / "names.json")
    assert [record["name"] for record in records] == ["tench, Tinca tinca", "shark", "fruit"]


@pytest.mark.parametrize("other", ["n00000001", "other"])
def test_where_one_folder_is_no_synset_all_keep_their_names(tmp_path, other):
    for split in ("train", "val"):
        draw(tmp_path, split, {TENCH: 10, other: 30})
    assert {record["name"] for record in classes_of_network(2, data_settings(tmp_path))} == {TENCH, other}


def test_every_synset_that_timm_knows_has_a_name():
    for subset in ("imagenet-1k", "imagenet-12k", "imagenet-22k", "imagenet-21k-goog", "imagenet-21k-miil"):
        known = ImageNetInfo(subset)
        every = {key: known.label_name_to_description(key) for key in known.label_names()}
        assert _synset_names(list(every)) == every, subset


def test_as_many_folders_as_outputs_are_the_classes_in_natural_order(tmp_path):
    data = data_settings(draw_folders(tmp_path))
    assert [record["id"] for record in classes_of_network(3, data)] == ["n2", "n10", "other"]


def test_names_in_words_come_from_a_file(tmp_path):
    (tmp_path / "names.json").write_text('{"n10": "goose"}')
    records = classes_of_network(3, data_settings(draw_folders(tmp_path)), tmp_path / "names.json")
    assert [record["name"] for record in records] == ["n2", "goose", "other"]


@pytest.mark.parametrize("content", [["other", "n5", "n10", "n2"], {"other": "o", "n5": "f", "n10": "t", "n2": "z"}])
def test_a_file_of_all_classes_gives_their_order_where_the_folders_are_some_of_them(tmp_path, content):
    data, names = data_settings(draw_folders(tmp_path)), tmp_path / "names.json"
    names.write_text(json.dumps(content))
    records = classes_of_network(4, data, names)
    assert [record["id"] for record in records] == ["other", "n5", "n10", "n2"]
    if isinstance(content, dict):
        assert [record["name"] for record in records] == ["o", "f", "t", "z"]
    ids = [record["id"] for record in records]
    assert reds_by_label(data, ids, training=False) == [(5, 3), (15, 2), (25, 0)]


def test_a_list_gives_the_order_of_the_outputs_whatever_that_of_the_folders(tmp_path):
    (tmp_path / "names.json").write_text('["other", "n10", "n2"]')
    data = data_settings(draw_folders(tmp_path))
    ids = [record["id"] for record in classes_of_network(3, data, tmp_path / "names.json")]
    assert ids == ["other", "n10", "n2"]
    assert reds_by_label(data, ids, training=False) == [(5, 2), (15, 1), (25, 0)]


REFUSED = {
    "a class besides": (
        ["n2", "n10", "third"],
        "{root}/val: the network does not know class 'other'; its 3 classes are 'n2', 'n10', 'third'. Name the folders "
        "by these, or take the others out; or list the classes of the network in order, with --class-names",
    ),
    "too few": (["n2", "n10"], "--class-names lists 2 classes, the network has 3; list them all"),
    "one twice": (["n2", "n10", "n2"], "{names} lists 'n2' twice; list each class once"),
    "no names": ([1, 2, 3], "{names}: class 0 is 1, not the name of a folder; {form}"),
    "text": ("n2", "{names} holds 'n2', not a name for each class; {form}"),
    "a name that is a list": (
        {"n2": ["a", "b"]},
        "{names}: the name of 'n2' is ['a', 'b'], not words that print; {form}",
    ),
    "an escape sequence": (
        {"n2": "\u001b[31m"},
        "{names}: the name of 'n2' is '\\x1b[31m', not words that print; {form}",
    ),
    "no class of the data": (
        {"n3": "goose"},
        "{names}: 'n3' is no class of the data, whose classes are 'n10', 'n2', 'other'; {form}",
    ),
    "two orders": (
        {"n10": "t", "n2": "z", "other": "o"},
        "class 0 is 'n10' in --class-names and 'n2' by the order of the folders: write the names in the order of the "
        "folders, or all folders as a list in the order of the outputs",
    ),
}
FORM = 'write {"class folder": "name in words", ...}, or a list of the class folders in the order of the outputs'


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_file_of_names_that_cannot_be_is_refused(tmp_path, content, message):
    names = tmp_path / "names.json"
    names.write_text(json.dumps(content))
    with pytest.raises(DataError) as refused:
        classes_of_network(3, data_settings(draw_folders(tmp_path)), names)
    assert str(refused.value) == message.format(root=tmp_path, names=f"--class-names '{names}'", form=FORM)


def test_a_file_of_names_that_is_missing_or_no_json_is_refused(tmp_path):
    data = data_settings(draw_folders(tmp_path))
    with pytest.raises(
        DataError, match=r"--class-names '.*nowhere.json' cannot be read: No such file or directory; wri"
    ):
        classes_of_network(3, data, tmp_path / "nowhere.json")
    with pytest.raises(
        DataError, match=r"--class-names '/dev/null' cannot be read: '/dev/null' is a device, not a file that can be"
    ):
        classes_of_network(3, data, Path("/dev/null"))
    (tmp_path / "names.json").write_text("{")
    with pytest.raises(DataError, match=r"^--class-names .*names.json is not JSON"):
        classes_of_network(3, data, tmp_path / "names.json")


def test_a_folder_that_is_no_class_of_imagenet_is_named(tmp_path):
    draw(tmp_path, "train", {LION: 50})
    draw(tmp_path, "val", {LION: 50, "lioness": 10})
    with pytest.raises(DataError) as refused:
        classes_of_network(1000, data_settings(tmp_path))
    assert str(refused.value) == (
        f"--data '{tmp_path}' has 2 classes ('lioness', '{LION}'), the network 1000, and nothing says which is which: "
        "give all classes of the network as a list in --class-names, or train a network for these with accelerate "
        "launch -m limpq_hub.train.pretrain and give --weights; with --weights pretrained there, it keeps "
        "the features of timm's weights and gets a new head"
    )


def test_splits_of_different_classes_need_a_network_that_says_which_are_its_own(tmp_path):
    root = draw_folders(tmp_path)
    shutil.rmtree(root / "val/n10")
    with pytest.raises(DataError, match="train/ and val/ differ in class n10; use the same"):
        classes_of_network(3, data_settings(root))
    (tmp_path / "names.json").write_text('["n2", "n10", "other"]')
    ids = [record["id"] for record in classes_of_network(3, data_settings(root), tmp_path / "names.json")]
    assert reds_by_label(data_settings(root), ids, training=False) == [(5, 0), (25, 2)]
    assert reds_by_label(data_settings(root), ids, training=True)[2:4] == [(10, 1), (11, 1)]


def test_without_labels_the_classes_are_imagenets_or_numbers(tmp_path):
    data = data_settings(None, unlabelled=(str(tmp_path),))
    assert classes_of_network(1000, data)[291]["id"] == LION
    assert classes_of_network(2, data) == [{"id": f"class {index}", "name": f"class {index}"} for index in range(2)]
    (tmp_path / "names.json").write_text('["yes", "no"]')
    assert [record["id"] for record in classes_of_network(2, data, tmp_path / "names.json")] == ["yes", "no"]
