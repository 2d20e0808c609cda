"""Commands as a card shows them: on one line, as code, and without the folders of the machine that they ran on."""

from __future__ import annotations

import re
import shlex
from typing import Any

# Keys of a provenance record whose values are commands, and those that name an entry or weights.
_COMMANDS, _PLACES = ("command",), ("model", "weights")
# Options whose value has slashes but is no path: it names a repository on the Hub or a split of a data set.
_NOT_PATHS = ("--repo-id", "--push-to-hub", "--base-model", "--train-split", "--val-split")
_DATA_OF_TIMM = re.compile(r"(hfds|hfids|tfds|torch|wds|wids)/")
_NAME = re.compile(r"(?:--[\w-]+=)?(?:local-dir:|[\w .,:+@-]+=)?")
_SEPARATOR = re.compile(r"\\(?=[\w.~-]|\s+--|\s*$)")
_HUB_DATA = re.compile(r"--data[ =]hfds/([\w.-]+/[\w.-]+)(?:\s|$)", re.ASCII)


def quoted_command(command: object) -> str:
    """Return a command as Markdown code on one line, whatever is in it; of each path, its last component."""
    if not isinstance(command, str) or not command.strip():
        return "an unknown command"
    command = without_folders(" ".join(command.split()))
    fence = "`" * (1 + max(map(len, re.findall("`+", command)), default=0))
    return f"{fence} {command} {fence}" if "`" in command else f"`{command}`"


def without_folders(command: str) -> str:
    """Return a command with the last component of each path in it; the scripts keep the folder that they are in."""
    try:
        # Doubled, a backslash within a Windows path outlives `shlex`, which reads it as an escape.
        words = shlex.split(_SEPARATOR.sub(r"\\\\", command))
    except ValueError:  # an open quote
        words = command.split()
    pairs = zip(["", *words], words, strict=False)
    return " ".join(shlex.quote(word if before in _NOT_PATHS else last_component(word)) for before, word in pairs)


def without_paths(record: Any) -> Any:
    """Return a record of how results came about, as JSON holds it, with names in place of the paths in it."""
    if isinstance(record, list):
        return [without_paths(item) for item in record]
    if not isinstance(record, dict):
        return record
    named = {key: last_component(record[key]) for key in _PLACES if isinstance(record.get(key), str)}
    commands = {key: without_folders(record[key]) for key in _COMMANDS if isinstance(record.get(key), str)}
    return {key: without_paths(value) for key, value in record.items()} | named | commands


def hub_dataset(command: object) -> str | None:
    """Return the Hub data set that a command of `training/` reads, owner/name, or None if it reads another one."""
    match = _HUB_DATA.search(command) if isinstance(command, str) else None
    return match[1] if match else None


def last_component(word: str) -> str:
    """Return a word of a command with the last component of the path in it, also behind an option or `local-dir:`."""
    match = _NAME.match(word)
    name = match[0] if match else ""
    value = word.removeprefix(name)
    if name.removesuffix("=") in _NOT_PATHS:
        return word
    is_script = value.endswith(".py") and not value.startswith(("/", "~", ".."))
    if is_script or value.startswith("hf-hub:") or _DATA_OF_TIMM.match(value):
        return word
    return name + re.split(r"[/\\]", value.rstrip("/\\"))[-1]
