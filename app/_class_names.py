"""What the page calls the classes of a network: no two of them alike, also where a data set has one name twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def short_names(classes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return by id the first of the names of each class; all where two share it, with the id where they share all."""
    first_names = {label["id"]: label["name"].partition(",")[0] for label in classes}
    firsts, alls = Counter(first_names.values()), Counter(label["name"] for label in classes)
    names = {}
    for label in classes:
        whole = label["name"] if alls[label["name"]] == 1 else f"{label['name']} ({label['id']})"
        first = first_names[label["id"]]
        names[label["id"]] = first if firsts[first] == 1 else whole
    return names
