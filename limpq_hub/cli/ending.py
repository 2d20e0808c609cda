"""Commands that are interrupted or fail to write: unfinished files are removed, and one line says why."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from limpq_hub.cli.output import note
from limpq_hub.plan.input_file import system_error_text

# What a shell makes of a programme that SIGPIPE ended.
CLOSED_PIPE = 141
_SYSTEM = 3


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that what it has begun to write is removed.

    Raises:
        SystemExit: from within; 128 and the number of the signal.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        signals = [signal.SIGTERM, *filter(None, [getattr(signal, "SIGHUP", None)])]
        # A handler that is not the default was set by others, by nohup for instance: it stays.
        before = {
            number: signal.signal(number, _end) for number in signals if signal.getsignal(number) == signal.SIG_DFL
        }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one would cut the removal short
    raise SystemExit(128 + number)


def tell_system_error(command: str, error: OSError) -> int:
    """Say why a file, or what is printed, cannot be read or written, and return the exit code.

    Nothing is said where the reader of what is printed has gone away: `limpq list | head -1` is no error.
    """
    if error.filename is None:
        # Python would try once more at its end to print the rest, and complain.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return CLOSED_PIPE
        note(f"limpq {command}: what is printed cannot be written: {error.strerror or error}; send it elsewhere")
    else:
        note(f"limpq {command}: {system_error_text(error)}")
    return _SYSTEM
