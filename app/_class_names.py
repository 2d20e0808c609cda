"""What the page calls the classes of a network: no two of them alike, also where a data set has one name twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from limpq_hub.zoo.class_names import names_told_apart


def short_names(classes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return by id the first of the names of each class; all where two share it, with the id where they share all."""
    first_names = {label["id"]: label["name"].partition(",")[0] for label in classes}
    times = Counter(first_names.values())
    return {
        key: first_names[key] if times[first_names[key]] == 1 else whole
        for key, whole in names_told_apart(classes).items()
    }
