"""The classes of a network from a JSON file of the user: checked before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from limpq_hub.errors import ArtifactFormatError, DataError, quoted
from limpq_hub.plan.jsonfile import read_json

_FORM = 'write {"class folder": "name in words", ...}, or a list of the class folders in the order of the outputs'


def read_class_names(path: Path) -> list[str] | dict[str, str]:
    """Return the ids of all classes in the order of the outputs, or the name of each class by its id.

    Args:
        path: JSON file, `--class-names`.

    Raises:
        DataError: the file is missing, or of another form.
    """
    where = f"--class-names {quoted(str(path))}"
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror or error}; {_FORM}") from None
    except ArtifactFormatError as error:
        raise DataError(f"--class-names {error}") from None
    if isinstance(content, list):
        for place, key in enumerate(content):
            if not _are_words(key):
                raise DataError(f"{where}: class {place} is {quoted(key)}, not the name of a folder; {_FORM}")
        twice = [key for key, count in Counter(content).items() if count > 1]
        if twice:
            raise DataError(f"{where} lists {quoted(twice[0])} twice; list each class once")
        return content
    if not isinstance(content, dict):
        raise DataError(f"{where} holds {quoted(content)}, not a name for each class; {_FORM}")
    for key, name in content.items():
        if not _are_words(name):
            raise DataError(f"{where}: the name of {quoted(key)} is {quoted(name)}, not words that print; {_FORM}")
    return content


def check_names(path: Path, names: Mapping[str, str], classes: Collection[str]) -> None:
    """Raise `DataError` if a file names what is no class."""
    for key in names:
        if key not in classes:
            known = ", ".join(map(quoted, sorted(classes)[:5]))
            raise DataError(
                f"--class-names {quoted(str(path))}: {quoted(key)} is no class of the data, whose classes are {known}"
                f"{', ...' if len(classes) > 5 else ''}; {_FORM}"
            )


def _are_words(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip()) and name.isprintable()
