"""Standard output and error of a command: what is said where they take nothing, and what if one is closed."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import TextIO

from limpq_hub.plan.input_file import system_error_text

# What a shell makes of a programme that SIGPIPE ended.
CLOSED_PIPE = 141
_SYSTEM = 3
# Without the name of a file these are of what is printed; others are not: too many open files, no memory to fork.
_OF_PRINTING = {errno.EPIPE, errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def open_closed_streams() -> None:
    """Let what is printed go nowhere where this process was started with stdout or stderr closed: `limpq list >&-`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", errors="replace"))


def discard(stream: TextIO) -> None:
    """Let what is printed into a stream that takes nothing more go nowhere.

    Python would try once more at its end to print the rest, and complain.
    """
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def end_of_system_error(error: OSError) -> tuple[int, str | None]:
    """Return the exit code of a command that a file, or what is printed, ends, and what to say of it.

    Nothing is said where the reader of what is printed has gone away: `limpq list | head -1` is no error. A pipe to
    another process, such as one that decodes pictures, may break too where stdout is none.
    """
    of_printing = error.errno in _OF_PRINTING and (error.errno != errno.EPIPE or _prints_into_pipe())
    if error.filename is not None or not of_printing:
        return _SYSTEM, system_error_text(error)
    discard(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return CLOSED_PIPE, None
    return _SYSTEM, f"what is printed cannot be written: {error.strerror}; send it elsewhere"


def _prints_into_pipe() -> bool:
    """Return whether stdout is a pipe or a socket."""
    with suppress(OSError, ValueError):
        mode = os.fstat(sys.stdout.fileno()).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    return False
