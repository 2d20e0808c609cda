"""The processor of this machine, to be named beside what was timed on it; it needs no extra."""

from __future__ import annotations

import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Return the name of the processor, as well as the system knows it."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
