"""Which classes the data has, whether they are those of a network, and what identifies the data."""

from __future__ import annotations

import hashlib
from pathlib import Path

from limpq_hub.errors import DataError, quoted
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.train.data.splits import has_training_split, open_split
from limpq_hub.train.settings import AugmentationSettings, DataSettings
from limpq_hub.zoo.entry import Entry


def class_records(data: DataSettings, names: Path | None = None) -> list[dict[str, str]]:
    """Return id and name of each class, in the order of the class indices.

    Args:
        names: JSON file of {class id: name}; the id of a class in folders is the folder's name.

    Raises:
        DataError: training and validation images are of different classes.
    """
    ids = open_split(data, training=False).classes
    if has_training_split(data):
        trained = open_split(data, training=True).classes
        if trained != ids:
            different = sorted({*trained} ^ {*ids})
            what = f"class {', '.join(different[:5])}" if different else "the order of the classes"
            raise DataError(f"{data.data}: {data.train_split}/ and {data.val_split}/ differ in {what}; use the same")
    name_of = read_json(names) if names else {}
    return [{"id": key, "name": name_of.get(key, key)} for key in ids]


def check_classes(data: DataSettings, entry: Entry) -> None:
    """Raise `DataError` unless the data has the classes of the entry, in the same order."""
    of_data, of_entry = ([record["id"] for record in records] for records in (class_records(data), entry.classes))
    if len(of_data) != len(of_entry):
        raise DataError(f"--data {data.data} has {len(of_data)} classes, the network {len(of_entry)}")
    for index, (here, there) in enumerate(zip(of_data, of_entry, strict=True)):
        if here != there:
            raise DataError(
                f"--data {data.data}: class {index} is {quoted(here)}, for the network it is {quoted(there)}"
            )


def data_record(data: DataSettings, augmentation: AugmentationSettings | None = None) -> dict[str, object]:
    """Return what identifies the data: its name and split, how many images, a sha256 over all validation image names.

    Where images have no names, their positions and classes stand for them.

    Args:
        augmentation: of a training, which also records how many training images it used.
    """
    names = open_split(data, training=False).names()
    digest = hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()
    record: dict[str, object] = {
        "name": Path(data.data).name,
        "split": data.val_split,
        "validation_images": len(names),
        "validation_names_sha256": digest,
    }
    if augmentation:
        size = len(open_split(data, training=True))
        record["training_images"] = len(EpochSampler(size, seed=data.seed, fraction=augmentation.data_fraction))
    return record
