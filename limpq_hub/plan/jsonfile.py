"""JSON files, read strictly and written whole or not at all."""

from __future__ import annotations

import json
import math
import os
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from limpq_hub.errors import ArtifactFormatError, ArtifactVersionError, PolicyError, quoted
from limpq_hub.plan.input_file import read_regular
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.plan.quantities import is_number

# What editors of Windows write before a text.
_BYTE_ORDER_MARKS = (BOM_UTF8, BOM_UTF16_LE, BOM_UTF16_BE)


def parse_json(data: bytes | str, name: str) -> Any:
    """Return the content of strict JSON: no duplicate keys, no NaN or Infinity.

    Args:
        name: what to call the file in an error.

    Raises:
        ArtifactFormatError: the data is not strict JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return a JSON object as a dictionary; raise an error for a key that stands twice."""
        content = dict(pairs)
        if len(content) != len(pairs):
            times = Counter(key for key, _ in pairs)
            twice = next(key for key, count in times.items() if count > 1)
            raise ArtifactFormatError(f"{name}: the key {quoted(twice)} stands twice; keep one")
        return content

    def refuse(constant: str) -> NoReturn:
        """Raise the error for NaN, Infinity, or a number that is infinite as a float."""
        raise ArtifactFormatError(f"{name}: {constant} is not a number that can be used")

    def finite(text: str) -> float:
        """Return the number of a JSON text if it is finite as a float."""
        return float(text) if math.isfinite(float(text)) else refuse(text)

    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ArtifactFormatError):
            raise
        begins = data[:3].encode(errors="replace") if isinstance(data, str) else data[:3]
        if begins.startswith(_BYTE_ORDER_MARKS):
            advice = "save it as UTF-8, without a byte order mark, if it is the right file"
        else:
            advice = "is this the right file?"
        raise ArtifactFormatError(f"{name} is not JSON: {str(error)[:120]}; {advice}") from None


@contextmanager
def errors_naming(name: str) -> Iterator[None]:
    """Inside the block, begin the error for malformed content with the name of its file.

    Raises:
        ArtifactFormatError: the content is malformed; an `ArtifactVersionError` stays one.
    """
    try:
        yield
    except (ArtifactFormatError, PolicyError) as error:
        kind = ArtifactVersionError if isinstance(error, ArtifactVersionError) else ArtifactFormatError
        raise kind(f"{name}: {error}") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a strict JSON file.

    Raises:
        ArtifactFormatError: it is not strict JSON.
        InputFileError: it is no regular file, or larger than a JSON file is.
        OSError: it is missing, or cannot be read.
    """
    return parse_json(read_regular(path), str(path))


def json_text(content: Any) -> str:
    """Return `content` as `write_json` writes it."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as JSON, as `write_bytes` does."""
    write_bytes(path, json_text(content).encode())


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def check_shape(content: Any, shape: Any, where: str) -> None:
    """Raise `ArtifactFormatError` unless parsed JSON has the types of `shape`.

    Args:
        shape: a type (float stands for any finite number), `[shape of each item]`, or `{key: shape}`, in which further
            keys are free.
        where: what to call the content in an error.
    """
    if isinstance(shape, dict):
        check_shape(content, dict, where)
        for key, inner in shape.items():
            if key not in content:
                raise ArtifactFormatError(f"{where}: {key} is missing")
            check_shape(content[key], inner, f"{where}: {key}")
    elif isinstance(shape, list):
        check_shape(content, list, where)
        for item in content:
            check_shape(item, shape[0], where)
    elif not (is_number(content) if shape is float else type(content) is shape):
        kind = _KINDS[shape]
        raise ArtifactFormatError(f"{where} must be {kind}, found {quoted(content)}")
