"""Which tar shards of a folder (`wds/`) are of a split.

They are those that `_info.json` or `info.json` lists, `{"splits": {"train": {"filenames": [...]}}}`; without such a
file, those with the name of the split as a word of theirs: x-train-000.tar, train0.tar. The classes are the
`"classes"` of that file, a list of ids; without it "class 0", "class 1", ...
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limpq_hub.errors import DataError, quoted
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.train.data.sources import NoSplitError


def shards_of(root: str, split: str, beside: str | None = None) -> tuple[list[Path], dict[str, Any], list[str] | None]:
    """Return the shards of a split in the folder `root`, and what its info file says of them and of all classes.

    Args:
        beside: the other split, of which no shard may be by its name.

    Raises:
        NoSplitError: there is none.
        DataError: one is missing, not local, or by its name of both splits.
    """
    info = _info(root)
    if not info:
        paths = _named_by(root, split)
        if not paths:
            raise NoSplitError(
                f"--data-root {quoted(root)} has no .tar with the word {quoted(split)} in its name, and no info.json "
                "that lists shards; name the split as they do (--train-split, --val-split)"
            )
        of_both = {*_named_by(root, beside)} & {*paths} if beside is not None and beside != split else ()
        if of_both:
            raise DataError(
                f"{min(of_both)} is of {quoted(split)} and of {quoted(beside)} by its name; rename it, or list the "
                "shards of each in info.json"
            )
        return paths, {}, None
    if split not in info["splits"]:
        splits = ", ".join(map(str, info["splits"]))
        raise NoSplitError(f"--data-root {quoted(root)} has no split {quoted(split)}, only {splits}; name one of these")
    record, classes, names = info["splits"][split], info.get("classes"), _listed(info, split)
    if not names or not (classes is None or _are_texts(classes)):
        raise DataError(
            f'{root}: "filenames" of {quoted(split)} and "classes", in its info file, must be lists of names'
        )
    for name in names:
        _refuse_remote(name)
    missing = [name for name in names if not os.path.isfile(Path(root, name))]
    if missing:
        raise DataError(f"--data-root {quoted(root)} lacks the shard {', '.join(missing[:5])}; download it first")
    return [Path(root) / name for name in names], record, classes


def check_listed_apart(root: str, split: str, beside: str) -> None:
    """Raise `DataError` where the info file in the folder `root`, if there is one, lists a shard for both splits."""
    info = _info(root)
    of_both = {*map(Path, _listed(info, split))} & {*map(Path, _listed(info, beside))} if info else ()
    if of_both:
        raise DataError(
            f"--data-root {quoted(root)}: {min(of_both)} is of {quoted(split)} and of {quoted(beside)} in its info "
            "file; list it in one of them"
        )


def _listed(info: Mapping[str, Any], split: str | None) -> list[str]:
    """Return the names of the shards that an info file lists for a split; none where it lists none that are names."""
    record = info["splits"].get(split)
    names = record.get("filenames") if isinstance(record, dict) else None
    return names if names and _are_texts(names) else []


def _named_by(root: str, split: str) -> list[Path]:
    """Return the shards that have the name of a split as a word of theirs.

    Letters beside it make another word, and so do digits beside a digit: fold1 is no part of fold10.
    """
    before = r"(?<!\d)" if split[:1].isdecimal() else ""
    after = r"(?!\d)" if split[-1:].isdecimal() else ""
    word = re.compile(rf"{before}(?<![^\W\d_]){re.escape(split)}(?![^\W\d_]){after}")
    return sorted(path for path in Path(root).glob("*.tar") if word.search(path.stem))


def _info(root: str) -> dict[str, Any]:
    _refuse_remote(root)
    if not os.path.isdir(root):
        raise DataError(f"--data-root {quoted(root)}: there is no such folder; give the one that holds the shards")
    for name in ("_info.json", "info.json"):
        path = Path(root) / name
        if os.path.isfile(path):
            content = read_json(path)
            if not isinstance(content, dict) or not isinstance(content.get("splits"), dict):
                raise DataError(f'{path} has no "splits"; write {{"splits": {{"train": {{"filenames": [...]}}}}}}')
            return content
    return {}


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _refuse_remote(place: str) -> None:
    if "://" in place or place.startswith("pipe:"):
        raise DataError(f"{quoted(place)} is not a local shard, and a stream cannot be continued exactly; download it")
