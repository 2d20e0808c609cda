"""The batches of each optimizer step, from any step of a run on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from accelerate import Accelerator

from limpq_hub.errors import DataError
from limpq_hub.train.data.picture_loader import Batch, TrainingLoader
from limpq_hub.train.training_settings import ScheduleSettings


@dataclass(frozen=True)
class StepPosition:
    """Where a batch stands in a run.

    Attributes:
        step: optimizer steps done before.
        epoch: epochs done before.
        share: of the step's images that this batch is, 0..1; the gradients are to be scaled by it.
    """

    step: int
    epoch: int
    share: float


@dataclass(frozen=True)
class RunLength:
    """How long a run is.

    Attributes:
        steps: optimizer steps of the whole run.
        steps_per_epoch: full steps that the images of an epoch give.
        images_per_step: on all processes together.
    """

    steps: int
    steps_per_epoch: int
    images_per_step: int

    @classmethod
    def of(cls, images: int, batch_size: int, schedule: ScheduleSettings, processes: int) -> RunLength:
        """Return the length of a run.

        Args:
            images: of an epoch.
            batch_size: images per process and pass.

        Raises:
            DataError: the images do not fill one step.
        """
        per_step = batch_size * processes * schedule.gradient_accumulation
        per_epoch = images // per_step
        if not per_epoch:
            parts = schedule.gradient_accumulation
            smaller = "--batch-size" if parts == 1 else f"--batch-size, or --gradient-accumulation than {parts}"
            raise DataError(f"{images} training images do not fill one step of {per_step}; use a smaller {smaller}")
        steps = per_epoch * schedule.epochs
        return cls(min(steps, schedule.max_steps or steps), per_epoch, per_step)


class StepBatches:
    """The batches of each step on this process.

    Attributes:
        seconds_waiting: time spent waiting for images.
    """

    def __init__(
        self, accelerator: Accelerator, loader: TrainingLoader, length: RunLength, parts: int, *, channels_last: bool
    ) -> None:
        """Prepare the loader.

        Args:
            parts: batches that a step accumulates.
            channels_last: memory format of the images.
        """
        self.loader, self.length, self.parts, self.channels_last = loader, length, parts, channels_last
        self.prepared = accelerator.prepare_data_loader(loader.batches, device_placement=True)
        self.seconds_waiting = 0.0

    def from_step(self, step: int) -> Iterator[tuple[StepPosition, list[Batch]]]:
        """Yield the batches of each step, from `step` to the end of the run.

        Raises:
            DataError: too many images cannot be decoded.
        """
        while step < self.length.steps:
            epoch, done = divmod(step, self.length.steps_per_epoch)
            self.loader.sampler.epoch, self.loader.sampler.start = epoch, done * self.length.images_per_step
            batches = iter(self.prepared)
            for _ in range(min(self.length.steps_per_epoch - done, self.length.steps - step)):
                yield StepPosition(step, epoch, 1 / self.parts), self._next_of(batches)
                step += 1

    def _next_of(self, batches: Iterator[Batch]) -> list[Batch]:
        began = time.monotonic()
        parts = list(islice(batches, self.parts))
        self.seconds_waiting += time.monotonic() - began
        self.loader.unreadable.check()
        if self.channels_last:
            return [(images.contiguous(memory_format=torch.channels_last), labels) for images, labels in parts]
        return parts
