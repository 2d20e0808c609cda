"""A solver in a process of its own, which ends with this one, and the files through which they talk."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

_IN_MEMORY = hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")
# A process that asks Linux to kill it when its parent ends, however that ends, and becomes the solver: Python code
# between fork and exec could hang where other threads run.
_STARTER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


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
        OSError: no process can be started.
        subprocess.SubprocessError: the solver is not there, failed, or its time was over.
    """
    if sys.platform == "linux" and sys.executable:
        command = [sys.executable, "-ISc", _STARTER, str(os.getpid()), *command]
    nothing = subprocess.DEVNULL
    subprocess.run(
        command, stdin=nothing, stdout=nothing, stderr=nothing, check=True, timeout=seconds, pass_fds=files.handles
    )
