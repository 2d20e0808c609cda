"""Types of options: what a number on the command line must be. Loads nothing but the standard library."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def whole_number(at_least: int = 1) -> Callable[[str], int]:
    """Return an argparse type for whole numbers of at least so many."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < at_least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {at_least}")
        return int(text)

    return parse


def positive(text: str) -> float:
    """Return a number above 0, as an argparse type."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def at_least_zero(text: str) -> float:
    """Return a finite number of at least 0, as an argparse type."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def share(text: str) -> float:
    """Return a number from 0 to 1, as an argparse type."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value
