"""Data sets of the `datasets` package, from local tables."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from drawn_pictures import (
    AUGMENTATION,
    SPEC,
    TRAIN,
    VAL,
    data_settings,
    encoded,
    reds_and_labels,
)

from limpq_hub.errors import DataError
from limpq_hub.train.data.description import class_records, data_record
from limpq_hub.train.data.loaders import validation_loader
from limpq_hub.train.data.splits import training_split
from limpq_hub.train.measure.figure_dependence import digests_of_pictures
from limpq_hub.train.settings import DataSettings


@pytest.fixture
def tables(tmp_path) -> Path:
    """Return the pictures of `folders` as parquet files that `datasets` reads."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    for split, rows in (("train", TRAIN), ("validation", VAL)):
        columns = {"image": [{"bytes": encoded(red), "path": None} for red, _ in rows], "label": [k for _, k in rows]}
        (tmp_path / "tables").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / f"tables/{split}-0.parquet")
    return tmp_path


def tables_settings(root: Path, **changes: object) -> DataSettings:
    named = {"val_split": "validation", "data_root": str(root / "cache")} | changes
    return data_settings(f"hfds/{root}/tables", **named)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_table_of_the_datasets_package_is_read_by_index(tables, workers):
    settings = tables_settings(tables, workers=workers)
    assert reds_and_labels(settings, training=True) == TRAIN
    assert reds_and_labels(settings, training=False) == VAL
    assert [record["id"] for record in class_records(settings)] == ["a", "b", "c"]
    record = data_record(settings, AUGMENTATION)
    names = "\n".join(f"image {index} of class {index}" for index in range(3))
    assert (record["split"], record["validation_images"], record["training_images"]) == ("validation", 3, 6)
    assert record["validation_names_sha256"] == hashlib.sha256(names.encode()).hexdigest()


def test_a_cached_table_gives_the_same_pictures(tables):
    assert reds_and_labels(tables_settings(tables, cache_images=True), training=True) == TRAIN


def test_a_split_that_a_table_does_not_have_is_named(tables):
    with pytest.raises(
        DataError, match=r"split 'val': .*it must have this split \(--train-split, --val-split\), with the"
    ):
        validation_loader(tables_settings(tables, val_split="val"), SPEC)


def test_a_table_for_validation_only_has_classes(tables):
    settings = tables_settings(tables)
    assert len(training_split(settings)) == len(TRAIN)
    next((tables / "tables").glob("train*")).unlink()
    alone = tables_settings(tables, data_root=str(tables / "other cache"))
    assert training_split(alone) is None
    assert [record["id"] for record in class_records(alone)] == ["a", "b", "c"]
    assert digests_of_pictures(alone).keys() == {"validation pictures"}


def test_a_training_split_that_cannot_be_read_is_not_taken_for_one_that_is_not_there(tables, monkeypatch):
    datasets = pytest.importorskip("datasets")
    picture, classes = {"image": datasets.Image()}, datasets.ClassLabel(names=["a", "b", "c"])
    write_table(tables, "train", {"image": [encoded(1)], "label": [2]}, picture | {"label": classes})
    with pytest.raises(DataError, match="no image in class a, b; remove the class or fill it"):
        digests_of_pictures(tables_settings(tables))
    with pytest.raises(DataError, match=r"split 'trian': Unknown split \"trian\"\. Should be one of"):
        training_split(tables_settings(tables, train_split="trian"))

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match="split 'train': Couldn't reach the Hub; it must have this split"):
        training_split(tables_settings(tables))


def write_table(root: Path, name: str, columns: dict[str, list], features: dict[str, object]) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(root / f"tables/{name}-0.parquet")


def test_tables_that_are_not_pictures_with_named_classes_are_refused(tables):
    datasets = pytest.importorskip("datasets")
    pictures, classes = [encoded(1), encoded(2)], datasets.ClassLabel(names=["a", "b", "c"])
    path = tables / "tables/validation-0.parquet"
    settings = tables_settings(tables)
    path.unlink()
    for train in (tables / "tables").glob("train*"):
        train.unlink()
    faults = [
        (
            {"img": pictures, "label": [0, 1]},
            {"img": datasets.Image(), "label": classes},
            "has no column image, only img, label; rename that of the images",
        ),
        ({"image": pictures, "fine": [0, 1]}, {"image": datasets.Image(), "fine": classes}, "has no class names; use"),
        (
            {"image": pictures, "label": [0, 1]},
            {"image": datasets.Image(), "label": datasets.Value("int64")},
            "has no class names; use a data set whose labels are named classes",
        ),
        (
            {"image": pictures, "label": [0, -1]},
            {"image": datasets.Image(), "label": classes},
            "has the class index -1, outside 0..2; use a split with labels",
        ),
        (
            {"image": pictures, "label": [0, None]},
            {"image": datasets.Image(), "label": classes},
            "has the class index None, outside 0..2; use a split with labels",
        ),
        ({"image": pictures, "label": [0, 2]}, {"image": datasets.Image(), "label": classes}, "no image in class b"),
    ]
    for columns, features, message in faults:
        write_table(tables, "validation", columns, features)
        with pytest.raises(DataError) as caught:
            validation_loader(settings, SPEC)
        assert message in str(caught.value)


def test_a_picture_missing_or_broken_in_a_table_is_named(tables, capsys):
    datasets = pytest.importorskip("datasets")
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    pictures = [None, {"bytes": b"junk", "path": "x.png"}, {"bytes": encoded(9), "path": None}]
    write_table(tables, "validation", {"image": pictures, "label": [0, 1, 2]}, features)
    assert reds_and_labels(tables_settings(tables), training=False) == [(0, -1), (0, -1), (9, 2)]
    lines = capsys.readouterr().err.splitlines()
    assert sum("validation/image 0 of class 0 (" in line for line in lines) == 1
    assert sum("validation/image 1 of class 1 (cannot identify image file)" in line for line in lines) == 1


def test_a_data_set_of_the_hub_that_cannot_be_reached_is_named(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"--data 'hfds/nobody/nothing', split 'val': .*nobody/nothing"):
        validation_loader(data_settings("hfds/nobody/nothing", data_root=str(tmp_path)), SPEC)


@pytest.mark.parametrize("name", ["hfds/", "hfds//"])
def test_a_data_set_of_the_hub_without_a_name_is_refused(name):
    with pytest.raises(DataError, match=f"^--data '{name}' names no data set; write hfds/OWNER/NAME, or hfds//FOLDER$"):
        validation_loader(data_settings(name), SPEC)


def test_without_the_datasets_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        DataError, match="--data 'hfds/x' is read by a package that is missing here: pip install datasets"
    ):
        validation_loader(data_settings("hfds/x"), SPEC)
