"""The outermost layer of the command: an unforeseen error is one line, and what a stream cannot encode is escaped."""

from __future__ import annotations

import functools
import io
import sys
import traceback
from collections.abc import Callable, Sequence

from limpq_hub.cli.output import note
from limpq_hub.errors import quoted
from limpq_hub.plan.standard_streams import open_closed_streams
from limpq_hub.train.extras import advice_for
from limpq_hub.zoo.hub_address import address_fault

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
        open_closed_streams()
        _escape_what_cannot_be_shown()
        try:
            return main(argv)
        except KeyboardInterrupt:
            note("limpq: interrupted")
            return _INTERRUPTED
        # The one place that catches every exception: to a user the traceback is of no use, and the exit code is not
        # that of wrong arguments or data.
        except Exception as error:
            install = advice_for(error) if isinstance(error, ModuleNotFoundError) else None
            if install:
                note(f"limpq: {install}")
                return _SYSTEM
            # timm and the client of the Hub read it when they are imported, for a bundled model too.
            address = address_fault() if isinstance(error, ValueError) else None
            if address:
                note(f"limpq: {address}")
                return address.exit_code
            if "--debug" in arguments:
                for line in traceback.format_exc().splitlines():
                    note(line)
            what = f"{type(error).__name__}: {quoted(str(error))}"
            advice = "" if "--debug" in arguments else "; run it again with --debug, and report what that prints"
            note(f"limpq: {what}, which is a fault of limpq-hub{advice}")
            return FAULT

    return told


def _escape_what_cannot_be_shown() -> None:
    """Escape characters that stdout or stderr cannot encode, as in the name of a file, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
