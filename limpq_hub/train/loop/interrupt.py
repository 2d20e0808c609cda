"""SIGTERM and Ctrl-C: finish the step, save, and leave with an exit code that says "resume me"."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from limpq_hub.errors import LimpqError
from limpq_hub.train.loop.run_files import is_begun, saved_states, states_of

_RESUME, _AGAIN = "run the same command with --resume to go on", "run the same command to go on"
_NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class RunInterruptedError(LimpqError):
    """A run was asked to stop, and can be resumed; no `RuntimeError`, which a library would take for its own."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


def stopped(signal_number: int, advice: str = _RESUME) -> RunInterruptedError:
    """Return the error that says what stopped a run and how it goes on."""
    return RunInterruptedError(f"{_NAMES[signal.Signals(signal_number)]}: stopped; {advice}")


def how_to_resume() -> str:
    """Return how the command with a `--resume` that was typed goes on, wherever it was stopped."""
    output_option = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    output_option.add_argument("--output", type=Path, nargs="?")
    output = output_option.parse_known_args(sys.argv[1:])[0].output
    if output is None or saved_states(states_of(output)):
        return _RESUME
    return f"nothing was saved yet: the same command {'with --resume ' if is_begun(output) else ''}starts anew"


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
    raise stopped(signal_number, how_to_resume())


def stop_without_resume(signal_number: int, frame: FrameType | None) -> None:
    """Raise `RunInterruptedError`: the same for commands without `--resume`, which look at what is there."""
    raise stopped(signal_number, _AGAIN)


def handled_signals() -> list[signal.Signals]:
    """Return SIGTERM, and SIGINT unless it is ignored: what a shell starts in the background has no Ctrl-C."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGINT]


@contextmanager
def stop_deferred(*, confirmed: bool = True) -> Iterator[StopRequest]:
    """Note SIGTERM and Ctrl-C instead of acting on them, while a step of this process or a child may be half done.

    Args:
        confirmed: whether Ctrl-C is confirmed on stderr; False where the process that has the step does so.
    """
    request = StopRequest()

    def note(signal_number: int, frame: FrameType | None) -> None:
        """Signal handler: note the request, and confirm Ctrl-C."""
        request.made, request.signal_number = True, signal_number
        if confirmed and signal_number == signal.SIGINT:
            # A person waits, perhaps for a validation; a step that prints must not be cut into.
            os.write(2, b"Ctrl-C: finishing the step, then saving it\n")

    before = {number: signal.signal(number, note) for number in handled_signals()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
