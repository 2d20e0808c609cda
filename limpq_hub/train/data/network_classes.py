"""The classes of a network, which are its own: never those folders that happen to be there.

They are those of an entry; or, of a float network, what `--class-names` lists; or ImageNet's, where it has as many
outputs and the folders are named by them; or the folders themselves, where there are as many as outputs. What synsets
of ImageNet are called in words is known of any number of them.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from timm.data import ImageNetInfo, infer_imagenet_subset

from limpq_hub.errors import DataError, quoted
from limpq_hub.train.data.class_names import check_names, read_class_names
from limpq_hub.train.data.description import class_records
from limpq_hub.train.data.sources import Source
from limpq_hub.train.data.splits import labelled_splits
from limpq_hub.train.launching import command_of
from limpq_hub.train.settings import DataSettings
from limpq_hub.zoo.entry import Entry

_SHOWN = 5
_SYNSET = re.compile(r"n\d{8}")
# Those of timm's sets that together hold all others; what both have is called the same.
_ALL_OF_IMAGENET = ("imagenet-21k-goog", "imagenet-1k")


def classes_of_entry(entry: Entry, data: DataSettings) -> tuple[str, ...]:
    """Return the ids of the classes of an entry, in the order of its outputs.

    Raises:
        DataError: the data has a class that the network does not know.
    """
    return classes_known([record["id"] for record in entry.classes], data)


def classes_known(ids: Sequence[str], data: DataSettings) -> tuple[str, ...]:
    """Return the ids of the classes of a network, after checking that the data has no others.

    Raises:
        DataError: the data has a class that the network does not know.
    """
    ids = tuple(ids)
    for source in labelled_splits(data):
        with_classes(source, ids)
    return ids


def classes_of_network(outputs: int, data: DataSettings, names: Path | None = None) -> list[dict[str, str]]:
    """Return id and name of each class of a float network, in the order of its outputs.

    Args:
        outputs: how many it has.
        names: JSON file of {class id: name}, or of all class ids in the order of the outputs.

    Raises:
        DataError: the data has a class that the network does not know, or it is not clear which output is of which
            class.
    """
    sources = labelled_splits(data)
    read = read_class_names(names) if names else {}
    of_imagenet = _imagenet_names(outputs)
    of_data = list(dict.fromkeys(key for source in sources for key in source.classes))
    ids = _ids(outputs, data, of_data, read, of_imagenet)
    for source in sources:
        with_classes(source, ids, "; or list the classes of the network in order, with --class-names")
    name_of = dict(of_imagenet) or _synset_names(ids)
    if names and isinstance(read, dict):
        check_names(names, read, ids)
        name_of |= read
    return [{"id": key, "name": name_of.get(key, key)} for key in ids]


def with_classes(source: Source, ids: Sequence[str], advice: str = "") -> Source:
    """Return the pictures with the class indices of a network, of whose classes they may have some.

    Args:
        source: with labels, or without: then it is returned as it is.
        ids: of the classes of the network.
        advice: what else an error says to do.

    Raises:
        DataError: the network does not know a class of theirs.
    """
    if not source.classes or source.classes == tuple(ids):
        return source
    times = Counter(ids)
    index_of = {key: index for index, key in enumerate(ids) if times[key] == 1}
    unknown = [key for key in source.classes if key not in index_of]
    if unknown:
        raise DataError(
            f"{source.where}: the network does not know class {_some(unknown)}; its {len(ids)} classes are "
            f"{_some(ids)}. Name the folders by these, or take the others out{advice}"
        )
    mapped = copy.copy(source)
    mapped.classes, mapped.labels = tuple(ids), [index_of[source.classes[label]] for label in source.labels]
    return mapped


def _ids(
    outputs: int,
    data: DataSettings,
    of_data: Sequence[str],
    read: Sequence[str] | Mapping[str, str],
    of_imagenet: Mapping[str, str],
) -> Sequence[str]:
    """Return the id of each class.

    Args:
        of_data: ids of the classes of the data, of any split.
        read: content of `--class-names`.
        of_imagenet: name by id, of as many classes as there are outputs; or nothing.
    """
    if isinstance(read, list):
        if len(read) != outputs:
            raise DataError(f"--class-names lists {len(read)} classes, the network has {outputs}; list them all")
        return read
    if of_imagenet and {*of_data} <= {*of_imagenet}:
        return list(of_imagenet)
    if len(of_data) == outputs:
        ids = [record["id"] for record in class_records(data)]
        if {*read} == {*ids} and list(read) != ids:
            place = next(place for place, key in enumerate(read) if key != ids[place])
            raise DataError(
                f"class {place} is {quoted(list(read)[place])} in --class-names and {quoted(ids[place])} by the order "
                "of the folders: write the names in the order of the folders, or all folders as a list in the order of "
                "the outputs"
            )
        return ids
    if len(read) == outputs:
        return list(read)
    if not of_data:
        return [f"class {index}" for index in range(outputs)]
    raise DataError(
        f"--data {quoted(str(data.data))} has {len(of_data)} classes ({_some(of_data)}), the network {outputs}, and "
        "nothing says which is which: give all classes of the network as a list in --class-names, or train a "
        f"network for these with {command_of('pretrain')} and give --weights; with --weights pretrained there, it "
        "keeps the features of timm's weights and gets a new head"
    )


def _imagenet_names(outputs: int) -> Mapping[str, str]:
    """Return the name of each class by its id, if ImageNet has a set of so many classes; else nothing."""
    subset = infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        return {}
    known = ImageNetInfo(subset)
    return {key: known.label_name_to_description(key) for key in known.label_names()}


def _synset_names(ids: Sequence[str]) -> dict[str, str]:
    """Return the name of each class by its id where all ids are synsets of ImageNet, of any number; else nothing."""
    if not all(_SYNSET.fullmatch(key) for key in ids):
        return {}
    sets = [ImageNetInfo(subset) for subset in _ALL_OF_IMAGENET]
    name_of = {key: known.label_name_to_description(key) for known in sets for key in known.label_names()}
    return {key: name_of[key] for key in ids} if {*ids} <= {*name_of} else {}


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(map(quoted, ids[:_SHOWN]))
    return shown if len(ids) <= _SHOWN else f"{shown}, ... ({len(ids)} in all)"
