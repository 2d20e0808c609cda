"""The network that a validation is of: an entry at a budget or policy, its float network, or a checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import nn

from limpq_hub.deploy.exported_network import open_exported
from limpq_hub.errors import DataError, TrainingError
from limpq_hub.plan.plan import Plan
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.train.data.description import class_records
from limpq_hub.train.data.network_classes import classes_known, classes_of_entry, classes_of_network
from limpq_hub.train.settings import DataSettings
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint, read_checkpoint_classes
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.limpq_model import Arithmetic
from limpq_hub.zoo.loading import NotFineTunedWarning, load_entry
from limpq_hub.zoo.network import NetworkSpec

Weights = Literal["auto", "finetuned", "joint", "float"]


class ValidatedNetwork(NamedTuple):
    """A network, how it takes pictures, and what a record says of it.

    Attributes:
        entry: where its float network is to be found, or None.
        classes: ids of its classes, in the order of its outputs.
        plan: of the search for it, or of the policy that was given; None where there was neither.
        caution: why its figures may not be those that are meant; empty where they are.
    """

    network: nn.Module
    spec: NetworkSpec
    description: dict[str, object]
    entry: Entry | None
    classes: Sequence[str]
    plan: Plan | None = None
    caution: str = ""


def network_of_checkpoint(path: Path, data: DataSettings) -> ValidatedNetwork:
    """Return the network of a checkpoint folder.

    Raises:
        TrainingError: there are no labels to measure by.
        ArtifactError: a file of it is damaged.
        DataError: the data has other classes; or it has some of them, and the checkpoint does not name its own.
    """
    if data.data is None:
        raise TrainingError(
            "a checkpoint has no float network to compare with: give --data with labels, or --model and the policy"
        )
    folder = open_local_folder(path, "checkpoint")
    model, policy = load_checkpoint(folder)
    spec = NetworkSpec.from_config(folder.config, folder.name)
    description = _description(folder.name, "finetuned", policy.digest(), folder.config["bitops"])
    classes, caution = _classes(read_checkpoint_classes(folder), spec.num_classes, data, path)
    return ValidatedNetwork(model, spec, description, None, classes, caution=caution)


def network_of_export(path: Path, data: DataSettings) -> ValidatedNetwork:
    """Return the network of a folder that `limpq_hub.export` wrote, computed by the runtime that it is for.

    Raises:
        TrainingError: there are no labels to measure by.
        ArtifactError: a file of it was changed.
        DataError: the data has other classes.
    """
    if data.data is None:
        raise TrainingError("an exported network has no float network to compare with: give --data with labels")
    opened = open_exported(path)
    ids = [record["id"] for record in opened.classes]
    said = opened.verification
    description = _description(str(path), "exported", said["policy_sha256"], None) | {
        "file_format": said["file_format"],
        "runtime": opened.network.runtime.description,
    }
    classes, unnamed = _classes(ids, opened.spec.num_classes, data, path)
    caution = "; ".join(filter(None, (unnamed, opened.caution)))
    return ValidatedNetwork(opened.network, opened.spec, description, None, classes, caution=caution)


def network_of_entry(
    name: str,
    weights: Weights,
    constraints: Mapping[str, Any],
    data: DataSettings,
    arithmetic: Arithmetic = "simulated",
) -> ValidatedNetwork:
    """Return a network of an entry of the zoo.

    Args:
        weights: "auto", "finetuned" or "joint", as `limpq_hub.load` takes them; "float" for the float network.
        constraints: the budget or policy; none for the float network.
        arithmetic: as `limpq_hub.load` takes it.

    Raises:
        TrainingError: there is a budget, or integer arithmetic, for the float network.
        DataError: the data has other classes.
    """
    entry = find_entry(name)
    classes = classes_of_entry(entry, data)
    if weights == "float":
        if constraints:
            names = ", ".join(f"--{constraint}" for constraint in constraints)
            raise TrainingError(f"--weights float has no bits to choose; leave out {names}")
        if arithmetic == "integer":
            raise TrainingError("--weights float has no integers; leave out --arithmetic")
        spec = NetworkSpec.from_config(entry.folder.config, entry.name)
        description = _description(entry.name, "float", None, None)
        compared = entry if data.data is None else None
        return ValidatedNetwork(load_float_network(entry.folder), spec, description, compared, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotFineTunedWarning)
        model = load_entry(entry, weights=weights, arithmetic=arithmetic, **constraints)
    if arithmetic == "simulated":
        thaw_(model)  # what was measured in training, to the last picture
    loaded = model.limpq
    description = _description(entry.name, loaded.weights, loaded.plan.policy.digest(), loaded.plan.bitops)
    if arithmetic == "integer":
        description |= {"arithmetic": arithmetic, "in_float": dict(loaded.in_float)}
    return ValidatedNetwork(model, loaded.network, description, entry, classes, loaded.plan)


def _classes(ids: Sequence[str], outputs: int, data: DataSettings, path: Path) -> tuple[Sequence[str], str]:
    """Return the classes that a folder names for its network, and a caution where it names none.

    Then they are those of the data, or ImageNet's where it has as many and the folders are named by them.
    """
    if ids:
        return classes_known(ids, data), ""
    try:
        of_data = [record["id"] for record in classes_of_network(outputs, data)]
    except DataError as error:
        raise DataError(
            f"{path} does not name the classes of its {outputs} outputs, and those of --data {data.data} are others, "
            "or not as many; give data with all of them in their order, or the entry that it came from, as --model "
            "ENTRY --policy FILE"
        ) from error
    if of_data != [record["id"] for record in class_records(data)]:
        return of_data, ""
    return of_data, (
        f"it does not name its classes: its {outputs} outputs are taken for those of --data in the order of the folders"
    )


def _description(model: str, weights: str, policy_sha256: str | None, bitops: int | None) -> dict[str, object]:
    return {"model": model, "weights": weights, "policy_sha256": policy_sha256, "bitops": bitops}
