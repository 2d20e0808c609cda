"""The deadline of a search: one point in time for all of its parts, checked in each of its loops."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from limpq_hub.errors import BudgetError, SearchError, quoted
from limpq_hub.plan.quantities import python_number

NEVER = float("inf")
# A day: a longer limit is taken for a typing error.
LONGEST_TIME_LIMIT_S = 86_400
# What is said where the time is over, and what to do then.
NOT_IN_TIME = "no proven optimum in time"
_FEWER_CANDIDATES = ", or use fewer candidates"
MORE_TIME = f"raise time_limit_s={_FEWER_CANDIDATES}"

Item = TypeVar("Item")


class NotInTimeError(SearchError):
    """The time was over before an optimum was proven; the message advises keywords of `search`."""


def deadline_in(time_limit_s: float) -> float:
    """Return when a search that begins now gives up, by `time.monotonic`.

    Raises:
        BudgetError: the time limit is no number of seconds above 0 and up to a day.
    """
    seconds = python_number(time_limit_s)
    if seconds is None or not 0 < seconds <= LONGEST_TIME_LIMIT_S:
        raise BudgetError(
            f"time_limit_s={quoted(time_limit_s)} cannot be: use a number of seconds above 0 and up to "
            f"{LONGEST_TIME_LIMIT_S}, for example 10"
        )
    return time.monotonic() + seconds


def seconds_left(deadline: float) -> float:
    """Return the time limit of what must end by `deadline`, in seconds above 0.

    Raises:
        SearchError: the time is over.
    """
    check_time(deadline)
    return min(max(deadline - time.monotonic(), 1e-6), LONGEST_TIME_LIMIT_S)


def check_time(deadline: float) -> None:
    """Raise `SearchError` if the time is over.

    Args:
        deadline: by `time.monotonic`.
    """
    if time.monotonic() > deadline:
        raise NotInTimeError(f"{NOT_IN_TIME}; {MORE_TIME}")


def until(deadline: float, items: Iterable[Item]) -> Iterator[Item]:
    """Yield `items` while there is time left.

    Raises:
        SearchError: the time is over.
    """
    for item in items:
        check_time(deadline)
        yield item


@contextmanager
def with_all_candidates() -> Iterator[None]:
    """Leave the advice to use fewer candidates out of the errors of a block: for what takes none."""
    try:
        yield
    except SearchError as error:
        raise type(error)(str(error).replace(_FEWER_CANDIDATES, "")) from None
