"""Pictures without labels: all of them, in an order of their own, a part held out, and no label ever read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from drawn_pictures import AUGMENTATION, SPEC, data_settings, encoded, red_of

from limpq_hub.errors import DataError
from limpq_hub.train.data.description import data_record
from limpq_hub.train.data.loaders import calibration_batches, training_loader, validation_loader
from limpq_hub.train.data.sources import UNLABELLED
from limpq_hub.train.data.splits import open_split
from limpq_hub.train.settings import DataSettings


@pytest.fixture
def nested(tmp_path) -> Path:
    """40 pictures of as many shades, flat and nested, written in no order."""
    for red in sorted(range(40), key=lambda red: red * 7 % 40):
        path = tmp_path / "pile" / ("" if red < 10 else "deep/er" if red < 20 else "cat") / f"{red}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(red))
    return tmp_path / "pile"


def unlabelled(*folders: Path, **changes: object) -> DataSettings:
    return data_settings(None, unlabelled=tuple(map(str, folders)), **changes)


def reds(data: DataSettings, *, training: bool) -> list[int]:
    loader = training_loader(data, AUGMENTATION, SPEC) if training else validation_loader(data, SPEC, 8)
    batches = list(loader)
    assert {int(label) for _, labels in batches for label in labels} == {UNLABELLED}
    return [red_of(image) for images, _ in batches for image in images]


def test_nested_and_flat_pictures_stand_in_the_order_of_their_paths(nested):
    names = [
        *(f"{red}.png" for red in range(10)),
        *(f"cat/{red}.png" for red in range(20, 40)),
        *(f"deep/er/{red}.png" for red in range(10, 20)),
    ]
    settings = unlabelled(nested)
    source = open_split(settings, training=True)
    kept = [source.name(index) for index in range(len(source))]
    assert kept == [name for name in names if name in kept]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_part_is_held_out_by_the_seed_and_the_rest_is_learned_from(nested, seed, capsys):
    settings = unlabelled(nested, seed=seed)
    held_out, trained = reds(settings, training=False), reds(settings, training=True)
    assert len(held_out) == 2  # 5 %
    assert sorted(held_out + trained) == list(range(40))
    assert held_out == reds(settings, training=False)
    assert capsys.readouterr().out == "38 pictures without labels to learn from, 2 more are held out to measure by\n"


def test_other_seeds_hold_out_other_pictures(nested):
    assert len({tuple(reds(unlabelled(nested, seed=seed), training=False)) for seed in range(5)}) > 1


def test_at_most_a_thousand_are_held_out(tmp_path):
    for index in range(21_000):
        (tmp_path / f"{index}.png").touch()
    assert len(open_split(unlabelled(tmp_path), training=False)) == 1000


def test_with_labelled_data_beside_them_all_are_learned_from_and_its_val_is_measured(nested, tmp_path, capsys):
    for split, red in (("train", 200), ("val", 100)):
        (tmp_path / "data" / split / "a").mkdir(parents=True)
        (tmp_path / "data" / split / "a/0.png").write_bytes(encoded(red))
    settings = data_settings(tmp_path / "data", unlabelled=(str(nested),))
    assert sorted(reds(settings, training=True)) == list(range(40))
    assert capsys.readouterr().out == "40 pictures without labels to learn from\n"
    (images, labels), *_ = validation_loader(settings, SPEC, classes=["b", "a"])
    assert (red_of(images[0]), labels.tolist()) == (100, [1])
    assert sum(map(len, calibration_batches(settings, SPEC, 100))) == 40


def test_several_folders_are_read_one_after_the_other_and_recorded(nested, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/0.png").write_bytes(encoded(77))
    settings = unlabelled(tmp_path / "more", nested, batch_size=1)
    everything = reds(settings, training=True) + reds(settings, training=False)
    assert sorted(everything) == [*range(40), 77]
    names = [open_split(settings, training=training).names() for training in (True, False)]
    assert {"0/0.png", "1/0.png"} <= {*names[0], *names[1]}
    record = data_record(settings, AUGMENTATION)
    assert {key: record[key] for key in ("name", "split", "unlabelled", "validation_images", "training_images")} == {
        "name": "more, pile",
        "split": "held-out",
        "unlabelled": ["more", "pile"],
        "validation_images": 2,
        "training_images": 39,
    }


def test_a_link_to_a_folder_above_is_not_followed_around(nested):
    os.symlink(nested, nested / "deep/around")
    assert len(open_split(unlabelled(nested), training=True)) == 38


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["nowhere"], "--unlabelled '{root}/nowhere': there is no such folder"),
        (["empty"], "--unlabelled '{root}/empty' holds no picture; is this the right folder?"),
        (["pile", "pile"], "--unlabelled '{root}/pile' and '{root}/pile' hold the same pictures; give one of them"),
        (
            ["pile", "pile/deep"],
            "--unlabelled '{root}/pile/deep' and '{root}/pile' hold the same pictures; give one of them",
        ),
        (["one"], "--unlabelled {root}/one holds one picture; give at least one more, to measure by"),
    ],
)
def test_folders_that_cannot_be_are_refused(nested, tmp_path, folders, message):
    for name in ("empty", "one"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/0.png").write_bytes(encoded(1))
    with pytest.raises(DataError) as refused:
        open_split(unlabelled(*(tmp_path / folder for folder in folders)), training=True)
    assert str(refused.value) == message.format(root=tmp_path)
