"""Batches of pictures from worker processes, with the count of those that could not be decoded."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.train.data.sources import Source
from limpq_hub.train.data.unreadable import Unreadable

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PictureLoader:
    """Batches of pictures, and which pictures could not be decoded so far.

    Attributes:
        batches: images [batch, 3, height, width] and labels [batch].
        unreadable: to be checked for each batch, before its images are used.
    """

    batches: DataLoader[Batch]
    unreadable: Unreadable

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


@dataclass(frozen=True)
class TrainingLoader(PictureLoader):
    """Batches of one epoch after the other.

    Attributes:
        sampler: says which epoch comes next, and from which picture on.
        batch_size: pictures per process and batch.
        workers: processes that decode pictures.
        source: where the pictures come from; None where they are none.
    """

    sampler: EpochSampler
    batch_size: int
    workers: int
    source: Source | None = None

    @property
    def labelled(self) -> bool:
        """Whether the pictures have labels."""
        return self.source is None or bool(self.source.classes)


def batches_of(
    pictures: Dataset[Batch],
    batch_size: int,
    workers: int,
    *,
    sampler: Sampler[Any] | None = None,
    drop_last: bool = False,
) -> DataLoader[Batch]:
    """Return the batches of a data set, decoded by `workers` processes; in its own order without a sampler."""
    return DataLoader(
        pictures,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
        worker_init_fn=partial(_begin_worker, torch.get_default_dtype()),
    )


def loader_speed(batches: DataLoader[Batch], seconds: float = 3.0) -> float:
    """Return the images per second that a loader gives when nothing waits for it, measured for about `seconds`.

    Batches that were decoded while the worker processes started are left out, if there are more. Neither the sampler
    nor torch's random state is changed. Give the loader that is not yet prepared by Accelerate.
    """
    arrivals: list[tuple[float, int]] = []
    began = time.monotonic()
    with torch.random.fork_rng(devices=[]):  # an iterator of a loader draws a seed
        for images, _ in batches:
            arrivals.append((time.monotonic(), len(images)))
            if arrivals[-1][0] - (arrivals[0][0] if batches.num_workers else began) >= seconds:
                break
    skipped = min(batches.num_workers, len(arrivals) - 1)
    since = arrivals[skipped - 1][0] if skipped else began
    return sum(count for _, count in arrivals[skipped:]) / max(arrivals[-1][0] - since, 1e-9)


def _begin_worker(dtype: torch.dtype, worker: int) -> None:
    # That of the parent, which images become tensors of: only where workers are forked they have it already.
    torch.set_default_dtype(dtype)
    # A signal to the process group must not end the workers before the step is done that waits for them; nor is the
    # traceback of each of them worth reading after Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
