"""Which training pictures an epoch reads, and in what order: a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler


class PictureOfEpoch(NamedTuple):
    """What the sampler asks a data set for: a picture, as it looks in one epoch.

    Attributes:
        epoch: epochs done before.
        picture: index in the data set.
    """

    epoch: int
    picture: int


class EpochSampler(Sampler[PictureOfEpoch]):
    """Pictures of one epoch in an order that depends on (seed, epoch).

    Attributes:
        chosen: indices of the pictures that the run uses, the same in every epoch.
        epoch: the epoch to sample, set by the training loop.
        start: how many of its pictures to leave out, those that were read before a run was cut off.
    """

    def __init__(self, size: int, *, seed: int, fraction: float = 1.0) -> None:
        """Choose the pictures of the run.

        Args:
            size: pictures in the data set.
            fraction: share of them that is used, 0..1.
        """
        shuffled = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        self.chosen = shuffled[: max(1, round(size * fraction))]
        self.seed = seed
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return len(self.chosen) - self.start

    def __iter__(self) -> Iterator[PictureOfEpoch]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch + 1)
        order = self.chosen[torch.randperm(len(self.chosen), generator=generator)]
        return (PictureOfEpoch(self.epoch, picture) for picture in order[self.start :].tolist())
