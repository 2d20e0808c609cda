"""HiGHS inside this process, within a deadline, and without the lines that it prints."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pulp

from limpq_hub.errors import SearchError

_REINSTALL = "reinstall it: pip install --force-reinstall pulp highspy"
_STDOUT_LOCK = threading.Lock()


def run_highs(
    problem: pulp.LpProblem, deadline: float, *, relative_gap: float = 0.0, absolute_gap: float = 0.0
) -> None:
    """Solve `problem` with HiGHS, inside this process: no solver and no file outlives it.

    The number of threads is left to HiGHS: all programmes of a process share it, and where another one has set it,
    HiGHS refuses a different number.

    Args:
        deadline: when to give up, by `time.monotonic`.
        relative_gap, absolute_gap: how far above the bound an answer may lie that needs no improvement, as a share of
            its cost or as a cost; one of both is enough.

    Raises:
        SearchError: it could not be run, or gave up before the deadline.
    """
    try:
        problem.solve(_QuietHighs(deadline, relative_gap, absolute_gap))
    except pulp.PulpSolverError:
        raise SearchError(f"HiGHS could not be run; {_REINSTALL}") from None
    if problem.status == pulp.LpStatusNotSolved and time.monotonic() < deadline:
        raise SearchError(f"HiGHS gave up without an answer; {_REINSTALL}, or search in a process of its own")


class _QuietHighs(pulp.HiGHS):
    """HiGHS that keeps a deadline, without the banner that it prints, against its options, where it is first made."""

    def __init__(self, deadline: float, relative_gap: float, absolute_gap: float) -> None:
        super().__init__(msg=False, gapRel=relative_gap, gapAbs=absolute_gap)
        self._deadline = deadline

    def callSolver(self, lp: pulp.LpProblem) -> None:  # the name is PuLP's
        # Set last: what PuLP does before takes a part of the time.
        lp.solverModel.setOptionValue("time_limit", max(self._deadline - time.monotonic(), 0.01))
        super().callSolver(lp)

    def createAndConfigureSolver(self, lp: pulp.LpProblem) -> None:  # the name is PuLP's
        with silent_stdout():
            super().createAndConfigureSolver(lp)


@contextmanager
def silent_stdout() -> Iterator[None]:
    """Send what is written to the stdout of the process inside the block nowhere, whoever writes it."""
    # Stdout belongs to all threads: a second one would take the `/dev/null` of the first for the real one.
    with _STDOUT_LOCK:
        sys.stdout.flush()
        stdout, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 1)
            yield
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
            os.close(nowhere)
