"""Messages of the library for somebody at a shell: what they call `bitops="3G"` was typed as `--bitops 3G`."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator

from limpq_hub.plan.constraints import KINDS

# Keywords that the command line has as options; the constraints come on top.
_FLAGS = {
    "allow_gap": "--allow-gap",
    "alpha": "--alpha",
    "apart": "--apart",
    "arithmetic": "--arithmetic",
    "candidates": "--candidates",
    "counting": "--counting",
    "exclude": "--exclude",
    "fix": "--fix",
    "format": "--format",
    "images": "--images",
    "importance": "--importance",
    "pin": "--pin",
    "points": "--points",
    "policy": "--policy",
    "tie": "--tie",
    "time_limit_s": "--time-limit",
    "weights": "--weights",
} | {kind.name: kind.flag for kind in KINDS}
# What a shell has other words for: an option that takes no value, and a call.
_PHRASES = {
    "vnni=False": "--no-vnni",
    "vnni=True": "--vnni",
    "write model.limpq.plan.policy.to_json() to policy.json first": "limpq search --output policy.json writes it",
}
# A layer with its bits, as the library takes it and as a shell does.
_BIT_LIST = r"\[[0-9](?:, [0-9])*\]"
_ENTRY = (
    rf"(?:add \{{|give \{{'\*': {_BIT_LIST}, )(?P<layer>'[^']*'): (?P<bits>{_BIT_LIST})\}} "
    r"(?:at the end of|as) candidates"
)
_QUOTED = r"'[^']*'|\"[^\"]*\""
# What `quoted` shortened has lost its second quotation mark.
_CUT = r"['\"].{76}\.\.\."
_ITEM = rf"{_QUOTED}|[0-9]+"
# A number or a word, but not what goes on in brackets.
_PLAIN = r"(?:[\w.+%-]*\w%?)?(?![\w{(\[])"
# What may stand neither before a keyword nor behind its value: it is part of a name, such as that of a file.
_BEGINS, _ENDS = r"(?<![\w.\-/\\:'\"])", r"(?![\w/\\])"
_NO_PATH = r"(?![\w.+%-]*[/\\])"
# In quotation marks stands what was given, or what is to be typed; an apostrophe follows a letter.
_GIVEN = rf"(?<!\w)(?:{_CUT}|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
_WORDS = (
    rf"{_GIVEN}|{_ENTRY}|{_BEGINS}(?P<phrase>{'|'.join(map(re.escape, _PHRASES))}){_ENDS}"
    rf"|{_BEGINS}(?P<name>{'|'.join(sorted(_FLAGS, key=len, reverse=True))})={_NO_PATH}"
    rf"(?:\[(?P<listed>(?:{_ITEM})(?:, (?:{_ITEM}))*)\]|(?P<cut>{_CUT})|(?P<quoted>{_QUOTED})|(?P<plain>{_PLAIN})"
    rf"|\(table, (?P<of_table>{_QUOTED})\))"
)


def as_typed(message: str, command: Iterable[str] | None = None) -> str:
    """Return a message with each keyword argument in it as the option that stands for it.

    Dictionaries stay, as an option has them in a form of its own, but for the one layer to add to candidates. So does
    what is quoted, and what is part of a path.

    Args:
        command: the words of the command that the message is of, those of this process if None: a name among them,
            such as alpha=2.json, stays too.
    """
    names = sorted(_names(sys.argv[1:] if command is None else command), key=len, reverse=True)
    return re.sub("|".join([*map(re.escape, names), _WORDS]), _option, message)


def _names(command: Iterable[str]) -> Iterator[str]:
    """Yield what of a command could be taken for a keyword with its value, and is the name of a file or a folder."""
    for word in command:
        for name in (word, word.partition(":")[2], word.partition("=")[2]):
            if "=" in name:
                yield from (name, os.path.normpath(name))


def _option(match: re.Match[str]) -> str:
    if match["phrase"]:
        return _PHRASES[match["phrase"]]
    if match["layer"]:
        entry = f"{match['layer'][1:-1]}={match['bits'][1:-1].replace(', ', ',')}"
        return f"add {shlex.quote(entry)} to {_FLAGS['candidates']}"
    if not match["name"]:
        return match[0]
    flag = _FLAGS[match["name"]]
    if match["of_table"]:
        words = ["TABLE.csv", match["of_table"][1:-1]]
    elif match["listed"]:
        words = [text.strip("'\"") for text in re.findall(_ITEM, match["listed"])]
    elif match["cut"]:
        words = [match["cut"][1:]]
    elif match["quoted"]:
        words = [match["quoted"][1:-1]]
    else:
        words = [match["plain"]] if match["plain"] else []
    return " ".join([flag, *map(shlex.quote, words)])
