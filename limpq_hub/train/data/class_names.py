"""The names of classes in words, from a JSON file of the user: checked before anything is trained."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from limpq_hub.errors import ArtifactFormatError, DataError, quoted
from limpq_hub.plan.jsonfile import read_json

_FORM = 'write {"class folder": "name in words", ...}'


def names_of_classes(path: Path, classes: Collection[str]) -> dict[str, str]:
    """Return the name of each class that the file names, by the class id; it need not name all.

    Args:
        path: JSON file of {class id: name}.
        classes: ids of all classes of the data.

    Raises:
        DataError: the file is missing, of another form, or names what is no class of the data.
    """
    where = f"--class-names {quoted(str(path))}"
    try:
        names = read_json(path)
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror}; {_FORM}") from None
    except ArtifactFormatError as error:
        raise DataError(f"--class-names {error}") from None
    if not isinstance(names, dict):
        raise DataError(f"{where} holds {quoted(names)}, not a name for each class; {_FORM}")
    for key, name in names.items():
        if key not in classes:
            raise DataError(
                f"{where}: {quoted(key)} is no class of the data, whose classes are "
                f"{', '.join(map(quoted, sorted(classes)[:5]))}{', ...' if len(classes) > 5 else ''}; {_FORM}"
            )
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise DataError(f"{where}: the name of {quoted(key)} is {quoted(name)}, not words that print; {_FORM}")
    return names
