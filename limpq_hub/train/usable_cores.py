"""How many cores this process may use: those that taskset, a cpuset or Slurm gave it, which may be few of all."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return how many cores this process may run on; all of them where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_each(processes: int) -> int:
    """Return how many cores this process may use beside others that one launcher started, at least 1.

    Those of the launcher are divided among its processes; where each was given cores of its own, as by
    `torchrun --numa-binding`, they are not divided again.
    """
    own = usable_cores()
    try:
        launcher = len(os.sched_getaffinity(os.getppid()))
    except (AttributeError, OSError):  # no such call here, or it ended meanwhile
        launcher = own
    share = max(own, launcher) // processes
    return max(1, min(own, share))
