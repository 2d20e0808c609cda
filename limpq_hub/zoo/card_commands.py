"""Commands as a card shows them: on one line, as code, and without the folders of the machine that they ran on."""

from __future__ import annotations

import re
import shlex

# What follows them names something on the Hub, or a split, and no path.
_NOT_PATHS = ("--repo-id", "--push-to-hub", "--base-model", "--train-split", "--val-split")
_DATA_OF_TIMM = re.compile(r"(hfds|hfids|tfds|torch|wds|wids)/")
_NAMED = re.compile(r"(--[\w-]+=|local-dir:|[\w.-]+=)?(.*)", re.DOTALL)
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
        # What stands before a letter is the separator of a Windows path; POSIX quoting would take it away.
        words = shlex.split(_SEPARATOR.sub(r"\\\\", command))
    except ValueError:  # an open quote
        words = command.split()
    pairs = zip(["", *words], words, strict=False)
    return " ".join(shlex.quote(word if before in _NOT_PATHS else _last(word)) for before, word in pairs)


def hub_dataset(command: object) -> str | None:
    """Return the Hub data set that a command of the engine reads, owner/name, or None if it reads another one."""
    found = _HUB_DATA.search(command) if isinstance(command, str) else None
    return found[1] if found else None


def _last(word: str) -> str:
    name, value = _NAMED.fullmatch(word).groups(default="")
    if name.removesuffix("=") in _NOT_PATHS:
        return word
    is_script = value.endswith(".py") and not value.startswith(("/", "~", ".."))
    if is_script or value.startswith("hf-hub:") or _DATA_OF_TIMM.match(value):
        return word
    return name + re.split(r"[/\\]", value.rstrip("/\\"))[-1]
