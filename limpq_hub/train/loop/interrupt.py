"""SIGTERM and Ctrl-C: finish the step, save, and leave with an exit code that says "resume me"."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from limpq_hub.errors import LimpqError

_NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class RunInterruptedError(LimpqError):
    """A run was asked to stop, and can be resumed; no `RuntimeError`, which a library would take for its own."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


def stopped(signal_number: int, *, with_resume: bool = True) -> RunInterruptedError:
    """Return the error that says what stopped a run and how it goes on.

    Args:
        with_resume: whether the command has a `--resume`; the others look by themselves at what is there.
    """
    again = "run the same command with --resume to go on" if with_resume else "run the same command to go on"
    return RunInterruptedError(f"{_NAMES[signal.Signals(signal_number)]}: stopped; {again}")


@dataclass
class StopRequest:
    """Whether the run was asked to stop.

    Attributes:
        signal_number: of the signal that asked; SIGTERM where another process was asked.
    """

    made: bool = False
    signal_number: int = signal.SIGTERM


def stop_at_once(signal_number: int, frame: FrameType | None) -> None:
    """Raise `RunInterruptedError`: the handler of both signals wherever nothing is half done."""
    raise stopped(signal_number)


def stop_without_resume(signal_number: int, frame: FrameType | None) -> None:
    """Raise `RunInterruptedError`: the same for commands without `--resume`."""
    raise stopped(signal_number, with_resume=False)


def handled_signals() -> list[signal.Signals]:
    """Return SIGTERM, and SIGINT unless it is ignored: what a shell starts in the background has no Ctrl-C."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGINT]


@contextmanager
def stop_deferred() -> Iterator[StopRequest]:
    """Note SIGTERM and Ctrl-C instead of acting on them, while a step may be half done."""
    request = StopRequest()

    def note(signal_number: int, frame: FrameType | None) -> None:
        """Signal handler: note the request, and confirm Ctrl-C on stderr."""
        request.made, request.signal_number = True, signal_number
        if signal_number == signal.SIGINT:
            # A person waits, perhaps for a validation; a step that prints must not be cut into.
            os.write(2, b"Ctrl-C: finishing the step, then saving it\n")

    before = {number: signal.signal(number, note) for number in handled_signals()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
