"""Commands that are interrupted or fail to write: unfinished files are removed, and one line says why."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from limpq_hub.cli.output import note
from limpq_hub.plan.standard_streams import end_of_system_error


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
    """Say why a file, or what is printed, cannot be read or written, and return the exit code."""
    code, text = end_of_system_error(error)
    if text is not None:
        note(f"limpq {command}: {text}")
    return code
