"""The classes of a network: which lists can be theirs, and what they are called where people read it. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from limpq_hub.errors import ArtifactFormatError, quoted
from limpq_hub.plan.jsonfile import check_shape


def check_classes(classes: Any, outputs: int, where: str) -> None:
    """Raise `ArtifactFormatError` unless something is the list of the classes of a network: {"id", "name"} of each.

    Args:
        outputs: of the network.
        where: what to call the list in an error.
    """
    check_shape(classes, [{"id": str, "name": str}], where)
    check_class_ids([label["id"] for label in classes], outputs, where)


def check_class_ids(ids: Sequence[str], outputs: int, where: str) -> None:
    """Raise `ArtifactFormatError` unless there is one id for each output of a network, and no two are alike."""
    if len(ids) != outputs:
        raise ArtifactFormatError(
            f"{where}: {len(ids)} classes for a network of {outputs} outputs; there must be one for each output"
        )
    twice = next((label for label, times in Counter(ids).items() if times > 1), None)
    if twice is not None:
        raise ArtifactFormatError(f"{where}: the id {quoted(twice)} stands twice; give each class an id of its own")


def names_told_apart(classes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the name of each class by its id; with the id where two have one name, as both cranes of ImageNet.

    Args:
        classes: {"id", "name"} of each.
    """
    times = Counter(label["name"] for label in classes)
    return {
        label["id"]: label["name"] if times[label["name"]] == 1 else f"{label['name']} ({label['id']})"
        for label in classes
    }
