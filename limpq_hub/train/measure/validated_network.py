"""The network that a validation is of: an entry at a budget or policy, its float network, or a checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.train.data.description import check_classes
from limpq_hub.train.settings import DataSettings
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.loading import NotFineTunedWarning, load
from limpq_hub.zoo.network import NetworkSpec

Weights = Literal["auto", "finetuned", "joint", "float"]


class ValidatedNetwork(NamedTuple):
    """A network, how it takes pictures, and what a record says of it."""

    network: nn.Module
    spec: NetworkSpec
    description: dict[str, object]


def network_of_checkpoint(path: Path) -> ValidatedNetwork:
    """Return the network of a checkpoint folder."""
    folder = open_local_folder(path, "checkpoint")
    model, policy = load_checkpoint(folder)
    spec = NetworkSpec.from_config(folder.config, folder.name)
    return ValidatedNetwork(
        model, spec, _description(folder.name, "finetuned", policy.digest(), folder.config["bitops"])
    )


def network_of_entry(
    name: str, weights: Weights, constraints: Mapping[str, Any], data: DataSettings
) -> ValidatedNetwork:
    """Return a network of an entry of the zoo.

    Args:
        weights: "auto", "finetuned" or "joint", as `limpq_hub.load` takes them; "float" for the float network.
        constraints: the budget or policy; none for the float network.

    Raises:
        TrainingError: there is a budget for the float network.
        DataError: the data has other classes.
    """
    entry = find_entry(name)
    check_classes(data, entry)
    if weights == "float":
        if constraints:
            names = ", ".join(f"--{constraint}" for constraint in constraints)
            raise TrainingError(f"--weights float has no bits to choose; leave out {names}")
        spec = NetworkSpec.from_config(entry.folder.config, entry.name)
        return ValidatedNetwork(load_float_network(entry.folder), spec, _description(entry.name, "float", None, None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotFineTunedWarning)
        model = load(name, weights=weights, **constraints)
    loaded = model.limpq
    description = _description(entry.name, loaded.weights, loaded.plan.policy.digest(), loaded.plan.bitops)
    return ValidatedNetwork(model, loaded.network, description)


def _description(model: str, weights: str, policy_sha256: str | None, bitops: int | None) -> dict[str, object]:
    return {"model": model, "weights": weights, "policy_sha256": policy_sha256, "bitops": bitops}
