"""SIGTERM: finish the step, save, and leave with an exit code that says "resume me"."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from limpq_hub.errors import LimpqError

WHAT_NEXT = "SIGTERM: stopped; run the same command with --resume to go on"


class RunInterruptedError(LimpqError):
    """A run was asked to stop, and can be resumed; no `RuntimeError`, which a library would take for its own."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


@dataclass
class StopRequest:
    """Whether the run was asked to stop."""

    made: bool = False


def stop_at_once(signal_number: int, frame: FrameType | None) -> None:
    """Raise `RunInterruptedError`: the handler of SIGTERM wherever nothing is half done."""
    raise RunInterruptedError(WHAT_NEXT)


@contextmanager
def sigterm_deferred() -> Iterator[StopRequest]:
    """Note SIGTERM instead of acting on it, while a step may be half done."""
    request = StopRequest()

    def note(signal_number: int, frame: FrameType | None) -> None:
        request.made = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
