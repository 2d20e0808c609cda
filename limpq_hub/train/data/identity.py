"""What tells the data of a training from other data, so that a run goes on with the pictures that it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from limpq_hub.train.data.sources import Source

_SHOWN = 5
Identity = Mapping[str, list[object]]


def identity_of(source: Source) -> dict[str, list[object]]:
    """Return for each class, by its id, how many pictures it has, and a sha256, as JSON holds it.

    The sha256 is over the names and sizes of all of them, and over the content of the first one: two classes that
    changed places may have the same names. Pictures without labels are one class without an id.
    """
    counts: dict[int, int] = {}
    digests: dict[int, hashlib._Hash] = {}
    for index, label in enumerate(source.labels):
        if label not in counts:
            counts[label], digests[label] = 0, hashlib.sha256(source.content(index))
        counts[label] += 1
        digests[label].update(f"{source.name(index)}\n{source.size_bytes(index)}\n".encode(errors="surrogateescape"))
    return {
        source.classes[label] if source.classes else "": [counts[label], digests[label].hexdigest()]
        for label in sorted(counts)
    }


def digest_of(source: Source) -> str:
    """Return one sha256 of what `identity_of` returns, the order of the classes included."""
    return hashlib.sha256(json.dumps(list(identity_of(source).items())).encode()).hexdigest()


def difference(first: Identity, now: Identity) -> str | None:
    """Return what of the data is another now, in words; None if nothing is."""
    gone, new = [key for key in first if key not in now], [key for key in now if key not in first]
    if gone or new:
        parts = [f"without class {_some(gone)}" if gone else "", f"with class {_some(new)} besides" if new else ""]
        return " and ".join(part for part in parts if part)
    changed = [key for key in first if list(first[key]) != list(now[key])]
    if changed:
        then, here = (sum(int(str(record[key][0])) for key in changed) for record in (first, now))
        pictures = "other pictures" if changed == [""] else f"other pictures in class {_some(changed)}"
        return f"with {pictures} ({then} then, {here} now)"
    return None if list(first) == list(now) else "with the classes in another order"


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
