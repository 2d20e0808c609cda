"""What classes are called where people read it. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


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
