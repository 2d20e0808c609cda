"""A training in a process of its own, which a command waits for: what stops the command lets it save first."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from limpq_hub.train.loop.interrupt import stop_deferred, stop_without_resume

_SECONDS_BETWEEN_LOOKS = 0.1
# Long enough for a process that a terminal interrupted to have noted it: a second signal changes nothing then.
_SECONDS_FOR_A_TERMINAL = 2


def run_child(command: Sequence[str]) -> int:
    """Run a command to its end, and return its exit code; negative where a signal ended it.

    Either signal is passed on to it, Ctrl-C after a while: that of a terminal reaches it by itself. It is waited for: a
    training finishes its step and saves.

    Raises:
        RunInterruptedError: SIGTERM or Ctrl-C came to this process; the other has ended.
    """
    with stop_deferred(confirmed=False) as stop:
        child = subprocess.Popen(command)
        while child.poll() is None and not stop.made:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if stop.signal_number == signal.SIGINT:
            with suppress(subprocess.TimeoutExpired):
                child.wait(_SECONDS_FOR_A_TERMINAL)
        child.terminate()  # does nothing where it has ended
        code = child.wait()
    if stop.made:
        stop_without_resume(stop.signal_number, None)
    return code
