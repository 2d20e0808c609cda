"""The order of the training pictures: a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Indices of one epoch in an order that depends on (seed, epoch), from `start` on."""

    def __init__(self, size: int, *, seed: int, fraction: float = 1.0) -> None:
        chosen = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        self.chosen = chosen[: max(1, round(size * fraction))]
        self.size, self.seed = size, seed
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return len(self.chosen) - self.start

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch + 1)
        order = self.chosen[torch.randperm(len(self.chosen), generator=generator)]
        return iter((order[self.start :] + self.epoch * self.size).tolist())
