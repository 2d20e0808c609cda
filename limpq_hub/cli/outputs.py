"""Files that a command is to write: none that it reads, no two in one, and no part of a folder that is sealed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from limpq_hub.errors import LimpqError, OutputError, quoted
from limpq_hub.plan.budget import typed_limits
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.zoo.folder import CONFIG, EXPORT_SEAL
from limpq_hub.zoo.planning import is_indicator_file

# The number of standard output.
_STDOUT = 1


def check_outputs(options: argparse.Namespace) -> None:
    """Raise `OutputError` for an output that would take the place of what is needed, before any work.

    Args:
        options: of any command; looked at are `output` and `plot`, what is read: `model`, `pickle`, and the tables of
            limits, and whether `json` is printed.
    """
    outputs = {f"--{name}": path for name in ("output", "plot") if (path := getattr(options, name, None))}
    for flag, path in outputs.items():
        if any(_is_same_file(path, read) for read in _files_read(options)):
            raise OutputError(f"{flag} {quoted(str(path))} is a file that is read, and would be lost; name another one")
        printed_over = getattr(options, "json", False) and _is_same_file(path, _STDOUT)
        if printed_over and not _is_same_file(path, os.devnull):
            raise OutputError(
                f"{flag} {quoted(str(path))} is where --json is printed, and no programme could read both in one; name "
                "another file, or leave --json out"
            )
        sealed = _sealed_folder(path)
        if sealed:
            raise OutputError(
                f"{flag} {quoted(str(path))} belongs to {sealed}, which could not be opened any more; name another file"
            )
    if len(set(map(os.path.realpath, outputs.values()))) < len(outputs):
        both = " and ".join(outputs)
        raise OutputError(f"{both} name one file, {quoted(str(options.plot))}; name two")


def _files_read(options: argparse.Namespace) -> Iterator[str | Path]:
    """Yield the files that were typed to be read."""
    model = getattr(options, "model", None)
    if model and is_indicator_file(model):
        yield model
    if "pickle" in options:
        yield options.pickle
    for limit in typed_limits(vars(options)).values():
        if isinstance(limit, tuple):  # a table and the limit
            yield limit[0]


def _sealed_folder(path: Path) -> str | None:
    """Return the words for the sealed folder that vouches for what stands at a path, or None."""
    # A cache of the Hub has links in the folder, to files that lie elsewhere.
    for folder in (path.parent, Path(os.path.realpath(path)).parent):
        for seal in (CONFIG, EXPORT_SEAL):
            content = _seal(folder / seal)
            if any(_is_same_file(path, folder / file) for file in (seal, *content.get("files", ())) if content):
                return f"the {content['kind']} in {quoted(str(folder))}"
    return None


def _seal(path: Path) -> Mapping[str, Any]:
    """Return what seals a folder; nothing where that is no seal, such as a `config.json` of timm."""
    try:
        content = read_json(path)
    except (LimpqError, OSError):
        return {}
    is_seal = isinstance(content, dict) and isinstance(content.get("files"), dict)
    return content if is_seal and content.get("kind") in ("entry", "checkpoint", "export") else {}


def _is_same_file(one: str | Path, other: str | Path | int) -> bool:
    """Return whether two paths, or a path and the number of what is open, are one file."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there, or cannot be
        return False
