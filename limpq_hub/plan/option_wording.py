"""Messages of the library for somebody at a shell: what they call `bitops="3G"` was typed as `--bitops 3G`."""

from __future__ import annotations

import re
import shlex

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
    "points": "--points",
    "policy": "--policy",
    "time_limit_s": "--time-limit",
    "weights": "--weights",
} | {kind.name: kind.flag for kind in KINDS}
# What a shell has other words for: an option that takes no value, and a call.
_PHRASES = {
    "vnni=False": "--no-vnni",
    "vnni=True": "--vnni",
    "write model.limpq.plan.policy.to_json() to policy.json first": "limpq search --output policy.json writes it",
}
_QUOTED = r"'[^']*'|\"[^\"]*\""
# What `quoted` shortened has lost its second quotation mark.
_CUT = r"['\"].{76}\.\.\."
_ITEM = rf"{_QUOTED}|[0-9]+"
# A number or a word, but not what goes on in brackets.
_PLAIN = r"(?:[\w.+%-]*\w%?)?(?![\w{(\[])"
_KEYWORD = re.compile(
    rf"(?<![\w.\-])(?P<name>{'|'.join(sorted(_FLAGS, key=len, reverse=True))})="
    rf"(?:\[(?P<listed>(?:{_ITEM})(?:, (?:{_ITEM}))*)\]|(?P<cut>{_CUT})|(?P<quoted>{_QUOTED})|(?P<plain>{_PLAIN})"
    rf"|\(table, (?P<of_table>{_QUOTED})\))"
)


def as_typed(message: str) -> str:
    """Return a message with each keyword argument in it as the option that stands for it.

    Dictionaries stay: an option has them in a form of its own.
    """
    for call, typed in _PHRASES.items():
        message = message.replace(call, typed)
    return _KEYWORD.sub(_option, message)


def _option(match: re.Match[str]) -> str:
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
