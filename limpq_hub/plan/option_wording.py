"""Messages of the library for somebody at a shell: what they call `bitops="3G"` was typed as `--bitops 3G`."""

from __future__ import annotations

import re
import shlex

from limpq_hub.plan.constraints import KINDS

# Keywords that the command line has as options; the constraints come on top.
_FLAGS = {
    "allow_gap": "--allow-gap",
    "alpha": "--alpha",
    "counting": "--counting",
    "exclude": "--exclude",
    "fix": "--fix",
    "format": "--format",
    "importance": "--importance",
    "time_limit_s": "--time-limit",
    "weights": "--weights",
} | {kind.name: kind.flag for kind in KINDS}
# Those whose option takes no value.
_SWITCHES = {"vnni=False": "--no-vnni"}
_QUOTED = r"'[^']*'|\"[^\"]*\""
# A number or a word, but not what goes on in brackets.
_PLAIN = r"(?:[\w.+%-]*\w%?)?(?![\w{(\[])"
_KEYWORD = re.compile(
    rf"(?<![\w.\-])(?P<name>{'|'.join(sorted(_FLAGS, key=len, reverse=True))})="
    rf"(?:\[(?P<listed>(?:{_QUOTED})(?:, (?:{_QUOTED}))*)\]|(?P<quoted>{_QUOTED})|(?P<plain>{_PLAIN}))"
)


def as_typed(message: str) -> str:
    """Return a message with each keyword argument in it as the option that stands for it.

    Dictionaries stay: an option has them in a form of its own.
    """
    for keyword, switch in _SWITCHES.items():
        message = message.replace(keyword, switch)
    return _KEYWORD.sub(_option, message)


def _option(match: re.Match[str]) -> str:
    flag = _FLAGS[match["name"]]
    if match["listed"]:
        words = [text[1:-1] for text in re.findall(_QUOTED, match["listed"])]
    elif match["quoted"]:
        words = [match["quoted"][1:-1]]
    else:
        words = [match["plain"]] if match["plain"] else []
    return " ".join([flag, *map(shlex.quote, words)])
