"""The front door of the command: what nobody foresaw is one line too, and every terminal can show what is printed."""

from __future__ import annotations

import functools
import io
import sys
import traceback
from collections.abc import Callable, Sequence

from limpq_hub.errors import quoted
from limpq_hub.train.extras import advice_for

# What sysexits.h calls an error of the programme itself.
FAULT = 70
_INTERRUPTED = 130
_SYSTEM = 3

Main = Callable[[Sequence[str] | None], int]


def told_in_one_line(main: Main) -> Callable[..., int]:
    """Return `main` that tells an unforeseen error in one line, with its traceback before it if `--debug` was typed."""

    @functools.wraps(main)
    def told(argv: Sequence[str] | None = None) -> int:
        arguments = sys.argv[1:] if argv is None else argv
        _escape_what_cannot_be_shown()
        try:
            return main(argv)
        except KeyboardInterrupt:
            print("limpq: interrupted", file=sys.stderr)
            return _INTERRUPTED
        # The one place that takes whatever comes: a person at a terminal can do nothing with a traceback, and a script
        # tells the exit code from those of wrong arguments or data.
        except Exception as error:
            install = advice_for(error) if isinstance(error, ModuleNotFoundError) else None
            if install:
                print(f"limpq: {install}", file=sys.stderr)
                return _SYSTEM
            if "--debug" in arguments:
                traceback.print_exc()
            what = f"{type(error).__name__}: {quoted(str(error))}"
            advice = "" if "--debug" in arguments else "; run it again with --debug, and report what that prints"
            print(f"limpq: {what}, which is a fault of limpq-hub{advice}", file=sys.stderr)
            return FAULT

    return told


def _escape_what_cannot_be_shown() -> None:
    """Let what a stream cannot encode be escaped, as Python does on its own stderr: a path may hold anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
