"""The one OpenVINO of a process."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def openvino_core() -> Any:
    """Return the `openvino.Core` of this process.

    Each gives its thread a stack for signals and takes it away when it is freed, so that of several, freed in the order
    that they were made in, the stack of a freed one stays registered: the next signal that Python handles, Ctrl-C
    for instance, ends the process by a segmentation fault (OpenVINO 2026.4). So one is made, and never freed.
    """
    import openvino

    return openvino.Core()
