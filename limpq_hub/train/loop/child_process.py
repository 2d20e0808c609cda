"""A training in a process of its own, which a command waits for: what stops the command lets it save first."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence

from limpq_hub.train.loop.interrupt import stop_deferred, stop_without_resume

_SECONDS_BETWEEN_LOOKS = 0.1


def run_child(command: Sequence[str]) -> int:
    """Run a command to its end, and return its exit code; negative where a signal ended it.

    SIGTERM is passed on to it. The Ctrl-C of a terminal reaches it as well as this process. Either way it is waited
    for: it finishes its step and saves.

    Raises:
        RunInterruptedError: SIGTERM or Ctrl-C came to this process; the other has ended.
    """
    with stop_deferred(confirmed=False) as stop:
        child = subprocess.Popen(command)
        while child.poll() is None and not (stop.made and stop.signal_number == signal.SIGTERM):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        child.terminate()  # does nothing where it has ended
        code = child.wait()
    if stop.made:
        stop_without_resume(stop.signal_number, None)
    return code
