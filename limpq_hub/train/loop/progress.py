"""What people see while a network trains: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 30


class TrainingProgress:
    """Loss, images/s, the share of time spent waiting for images, and the time left.

    Args:
        steps: of the whole run.
        done: steps done before this process started.
        images_per_step: on all processes together.
    """

    def __init__(self, accelerator: Accelerator, steps: int, done: int, images_per_step: int) -> None:
        self.steps, self.first, self.images_per_step = steps, done, images_per_step
        self.main = accelerator.is_main_process
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            disable=not self.main,
        )
        self.task = self.bar.add_task("training", total=steps, completed=done)
        self.terminal = self.bar.console.is_terminal
        self.began = self.spoke = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        if self.terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.terminal:
            self.bar.stop()

    def show(self, step: int, loss: float, seconds_waiting: float) -> None:
        """Show that `step` steps are done.

        Args:
            seconds_waiting: spent waiting for images since the start of this process.
        """
        now = time.monotonic()
        taken = max(now - self.began, 1e-9)
        rate = (step - self.first) * self.images_per_step / taken
        text = f"loss {loss:.3f} · {rate:.0f} images/s · {seconds_waiting / taken:.0%} waiting for data"
        self.bar.update(self.task, completed=step, description=text)
        if self.main and not self.terminal and (now - self.spoke > _SECONDS_BETWEEN_LINES or step == self.steps):
            left = (self.steps - step) * self.images_per_step / max(rate, 1e-9)
            print(f"step {step}/{self.steps} · {text} · {left / 60:.1f} min left", flush=True)
            self.spoke = now
