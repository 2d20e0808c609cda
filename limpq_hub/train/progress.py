"""Progress of long work: a bar on a terminal, a line at intervals where there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 30
_WORTH_SHOWING = 100  # fewer are done before anybody has read of them

Item = TypeVar("Item")


class ProgressDisplay:
    """How far something is, and how long it still takes.

    Args:
        unit: what is counted, for example "step".
        total: how many there are.
        done: how many were done before this process started.
        hidden: show nothing, on every process but the main one.
        aside: show it on stderr, and take the bar away at the end.
    """

    def __init__(self, unit: str, total: int, *, done: int = 0, hidden: bool = False, aside: bool = False) -> None:
        self.unit, self.total, self.first, self.hidden = unit, total, done, hidden
        self.console = Console(stderr=aside)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=aside,
            disable=hidden,
        )
        self.task = self.bar.add_task("", total=total, completed=done)
        self.began = self.last_line = time.monotonic()

    def __enter__(self) -> ProgressDisplay:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            if kind is None:
                self.bar.update(self.task, completed=self.total)
            self.bar.stop()

    @property
    def seconds(self) -> float:
        """Seconds since the start, above 0."""
        return max(time.monotonic() - self.began, 1e-9)

    def show(self, done: int, text: str) -> None:
        """Show that so many are done, and what `text` says of them."""
        self.bar.update(self.task, completed=done, description=text)
        due = time.monotonic() - self.last_line > _SECONDS_BETWEEN_LINES or done == self.total
        if due and not self.hidden and not self.console.is_terminal:
            minutes = (self.total - done) * self.seconds / max(done - self.first, 1e-9) / 60
            line = f"{self.unit} {done}/{self.total} · {text} · {minutes:.1f} min left"
            print(line, file=self.console.file, flush=True)
            self.last_line = time.monotonic()


def tracked(
    items: Iterable[Item], description: str, unit: str, total: int, *, each_takes_long: bool = False
) -> Iterator[Item]:
    """Yield the items; if they are many or take long, show how far that is on stderr, from the main process alone."""
    hidden = (total <= _WORTH_SHOWING and not each_takes_long) or os.environ.get("RANK", "0") != "0"
    with ProgressDisplay(unit, total, hidden=hidden, aside=True) as progress:
        if not hidden:
            _begin(progress, description, f"{total} {unit}")
        for done, item in enumerate(items):
            progress.show(done, description)
            yield item


@contextmanager
def progress_teller(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that is called with how many are done, and of how many, and shows that on stderr.

    Where its first call tells of some, these were done before.
    """
    with ExitStack() as shown:
        displays: list[ProgressDisplay] = []

        def tell(done: int, total: int) -> None:
            """Show how far it is; the first call begins the display."""
            if not displays:
                displays.append(shown.enter_context(ProgressDisplay(unit, total, done=done, aside=True)))
                _begin(displays[0], description, f"{total} {unit}" + (f", {done} done" if done else ""))
            displays[0].show(done, description)

        yield tell


def _begin(progress: ProgressDisplay, description: str, what: str) -> None:
    """Print what begins where there is no terminal, whose bar shows it."""
    if not progress.console.is_terminal:
        print(f"{description}: {what}", file=progress.console.file, flush=True)
