"""Which classes the data has, and what a record says of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from limpq_hub.errors import DataError
from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.train.data.splits import labelled_splits, open_split
from limpq_hub.train.data.unlabelled import HELD_OUT
from limpq_hub.train.settings import AugmentationSettings, DataSettings


def class_records(data: DataSettings) -> list[dict[str, str]]:
    """Return id and name of each class of the data, in the order of the class indices; the name is the id.

    Raises:
        DataError: training and validation images are of different classes.
    """
    validated, *trained = labelled_splits(data)
    ids = validated.classes
    for source in trained:
        if source.classes != ids:
            different = sorted({*source.classes} ^ {*ids})
            what = f"class {', '.join(different[:5])}" if different else "the order of the classes"
            raise DataError(f"{data.data}: {data.train_split}/ and {data.val_split}/ differ in {what}; use the same")
    return [{"id": key, "name": key} for key in ids]


def data_record(data: DataSettings, augmentation: AugmentationSettings | None = None) -> dict[str, object]:
    """Return what identifies the data: its name and split, how many images, a sha256 over all validation image names.

    Where images have no names, their positions and classes stand for them.

    Args:
        augmentation: of a training, which also records how many training images it used.
    """
    names = open_split(data, training=False).names()
    digest = hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()
    folders = [_name(folder) for folder in data.unlabelled]
    record: dict[str, object] = {
        "name": ", ".join(folders) if data.data is None else _name(data.data),
        "split": HELD_OUT if data.data is None else data.val_split,
        "validation_images": len(names),
        "validation_names_sha256": digest,
    }
    if augmentation:
        size = len(open_split(data, training=True))
        record["training_images"] = len(EpochSampler(size, seed=data.seed, fraction=augmentation.data_fraction))
        if folders:
            record["unlabelled"] = folders
    return record


def _name(data: str | Path) -> str:
    """Return the last component of a folder or data set, as it is called there: "." is the folder that one is in."""
    return Path(os.path.abspath(data)).name
