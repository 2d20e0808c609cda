"""A solver in a process of its own, which ends with this one, and the files through which they talk."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

_IN_MEMORY = hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class SolverFiles:
    """The files of one call of a solver.

    Attributes:
        problem, answer: their paths, in this process and in the solver's.
        handles: what the solver's process must inherit for that.
    """

    problem: str
    answer: str
    handles: tuple[int, ...] = ()


@contextmanager
def solver_files() -> Iterator[SolverFiles]:
    """Give files for one call: in memory on Linux, where nothing is left of them however this process ends.

    Raises:
        OSError: there is no room for them.
    """
    with ExitStack() as stack:
        if not _IN_MEMORY:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="limpq-"))
            yield SolverFiles(os.path.join(folder, "problem.mps"), os.path.join(folder, "answer.sol"))
            return
        handles = []
        for name in ("problem", "answer"):
            handles.append(os.memfd_create(name))
            stack.callback(os.close, handles[-1])
        problem, answer = (f"/proc/self/fd/{handle}" for handle in handles)
        yield SolverFiles(problem, answer, tuple(handles))


def run_solver(command: Sequence[str], files: SolverFiles, seconds: float) -> None:
    """Run a solver, silently; it is killed after `seconds`, and on Linux when this process ends.

    Raises:
        OSError: it is not there, or cannot be run.
        subprocess.SubprocessError: it failed, or its time was over.
    """
    nothing = subprocess.DEVNULL
    subprocess.run(
        command,
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
        check=True,
        timeout=seconds,
        pass_fds=files.handles,
        preexec_fn=_die_with_parent if _LIBC else None,
    )


def _die_with_parent() -> None:
    """Ask Linux to kill this child process when its parent ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
