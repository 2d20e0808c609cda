"""Memory that a training frees stays with the process: the next step needs the same again."""

from __future__ import annotations

import ctypes
import sys

# Names of glibc's <malloc.h>, and the largest int: what `mallopt` takes.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep large tensors' memory when they are freed, where the C library can; return whether it does.

    glibc hands blocks of more than 32 MB back to the system, which gives out new ones page by page and cleared: half
    of the time of a training on CPUs at 224 pixels. What is computed stays the same. It holds for the whole process
    and is therefore for commands, not for a library's import.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return bool(mallopt and mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _LARGEST))
