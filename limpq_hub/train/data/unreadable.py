"""Pictures that cannot be decoded: each named once, counted over all worker processes, too many of them an error."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable

from limpq_hub.errors import DataError
from limpq_hub.pictures.reading import DAMAGED

UNREADABLE = -1
"""The label of a picture that could not be decoded; its pixels are zero, and it counts for nothing."""

# A data set of the Hub without bytes or path is an AssertionError of timm.
BROKEN = (*DAMAGED, AssertionError)
_TOLERATED_PER_THOUSAND = 1
_NAMED = 5


class Unreadable:
    """The unreadable pictures of one data set, shared by the process that made this object and its workers."""

    def __init__(self, size: int, path_of: Callable[[int], str], *, used: int | None = None) -> None:
        """Start with none.

        Args:
            size: pictures in the data set.
            path_of: what a message calls the picture of an index.
            used: pictures that are read, of which 0.1 % may be unreadable; `size` if not given.
        """
        self.used = size if used is None else used
        self._path_of = path_of
        self._unreadable = multiprocessing.RawArray("B", size)
        # Kept beside the flags, so that `check` after every step costs nothing.
        self._count = multiprocessing.RawValue("q", 0)
        self._lock = multiprocessing.Lock()

    @property
    def count(self) -> int:
        """Unreadable pictures that this process and its workers have met, each counted once."""
        return self._count.value

    @property
    def too_many(self) -> bool:
        """Whether they are more than 0.1 % of the pictures used."""
        return self._is_too_many(self.count)

    def add(self, index: int, error: BaseException) -> None:
        """Count the picture of `index`, and name it on stderr, unless that was done before."""
        with self._lock:
            if self._unreadable[index]:
                return
            self._unreadable[index] = 1
            self._count.value += 1
        # PIL quotes the file object in angle brackets; one write keeps the lines of several workers apart.
        reason = " ".join(str(error).split(" <")[0].split())[:80] or type(error).__name__
        sys.stderr.write(f"cannot be decoded, left out: {_printable(self._path_of(index))} ({reason})\n")
        sys.stderr.flush()

    def check(self, of_all_processes: int = 0) -> None:
        """Do nothing while they are few. Call it outside of workers, for each batch before its images are used.

        Args:
            of_all_processes: how many all processes of a run have met together, where that is known.

        Raises:
            DataError: more than 0.1 % of the pictures used are unreadable; names those that this process has met.
        """
        count = max(self.count, of_all_processes)
        if not self._is_too_many(count):
            return
        indices = [index for index, unreadable in enumerate(self._unreadable) if unreadable]
        names = ", ".join(_printable(self._path_of(index)) for index in indices[:_NAMED]) or "named above"
        left = count - min(len(indices), _NAMED)
        more = f" and {left} more" if indices and left else ""
        raise DataError(
            f"{count} of {self.used} images cannot be decoded, more than 0.1 %: {names}{more}; replace or remove them"
        )

    def _is_too_many(self, count: int) -> bool:
        return count * 1000 > self.used * _TOLERATED_PER_THOUSAND


def _printable(path: str) -> str:
    return path if path.isprintable() else repr(path)
