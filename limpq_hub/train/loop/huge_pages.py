"""Large tensors in huge pages, which the system hands out and clears faster than small ones."""

from __future__ import annotations

import os

# torch reads it when it first allocates (c10/core/impl/alloc_cpu.cpp).
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def use_huge_pages() -> None:
    """Let torch ask for huge pages for tensors of 2 MB and more on CPUs, unless the variable says otherwise.

    glibc hands blocks of more than 32 MB back to the system when they are freed, and gets new ones in cleared pages;
    in pages of 4 kB that is a quarter of a training step at 224 pixels (`tests/benchmarks/huge_pages.py`). What is
    computed stays the same, and on systems without huge pages nothing changes. It holds for the whole process, and is
    therefore for commands, not for an import.
    """
    os.environ.setdefault(_HUGE_PAGES, "1")
