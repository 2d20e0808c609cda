"""From parsed options to typed settings by the names of the fields, and from settings back to options."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeVar


class DataclassInstance(Protocol):
    """What every dataclass has."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Settings = TypeVar("Settings", bound=DataclassInstance)


def settings_from(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Return settings of a kind: each field from the value of its name, a field that is itself settings likewise.

    A value that is missing leaves the field at its default.
    """
    types = typing.get_type_hints(kind)
    filled: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        part, value = types[field.name], values.get(field.name)
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            # Under the name of such settings there may be one of their own fields: the option `--data` is text.
            filled[field.name] = value if isinstance(value, part) else settings_from(part, values)
        elif field.name in values:
            filled[field.name] = value
    return kind(**filled)


def arguments_of(settings: DataclassInstance, *names: str) -> list[str]:
    """Return the command line options that give these settings; what is at its default, or None, is left out.

    Args:
        names: of the fields; all of them if not given.
    """
    arguments: list[str] = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is None or value == field.default or (names and field.name not in names):
            continue
        flag = f"--{field.name.replace('_', '-')}"
        values = value if isinstance(value, list | tuple) else [value]
        if value is True:
            arguments.append(flag)
        elif str(value).startswith("-"):  # as a word of its own it would be another option
            arguments.append(f"{flag}={value}")
        else:
            arguments += [flag, *map(str, values)]
    return arguments
