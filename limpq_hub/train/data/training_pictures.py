"""Data sets that the loaders read: pictures decoded, transformed, every random choice a function of the seed."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from limpq_hub.train.data.sources import Source
from limpq_hub.train.data.unreadable import BROKEN, UNREADABLE, Unreadable

Transform = Callable[[Image.Image], Tensor]


class Pictures(Dataset):
    """Normalized images with their class index; one that cannot be decoded is zero, with the label `UNREADABLE`.

    timm replaces such a picture by its neighbour, and so measures another data set than the one it was given.

    Attributes:
        unreadable: the pictures that could not be decoded so far.
    """

    def __init__(
        self, source: Source, transform: Transform, shape: tuple[int, int, int], *, used: int | None = None
    ) -> None:
        """Read from `source`.

        Args:
            transform: gives images of `shape`.
            shape: (channels, height, width).
            used: pictures that will be read; all if not given.
        """
        self.source, self.transform, self.shape = source, transform, shape
        self.unreadable = Unreadable(len(source), source.path, used=used)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a normalized image [3, height, width] and its class index, or zeros and `UNREADABLE`."""
        picture = self.read(index)
        if picture is None:
            return torch.zeros(self.shape), UNREADABLE
        return self.transform(picture), self.source.labels[index]

    def read(self, index: int) -> Image.Image | None:
        """Return an RGB picture; None, after counting it, if it cannot be decoded."""
        try:
            with self.source.picture(index) as picture:
                return picture.convert("RGB")
        except BROKEN as error:
            # Raised in a worker process this would end the run with the traceback of that process.
            self.unreadable.add(index, error)
            return None


class SeededImages(Pictures):
    """Pictures whose random transform depends on (seed, epoch, index) alone.

    The sampler passes `epoch * len(self) + index`, so that workers need no state. A picture that cannot be decoded is
    replaced by the next one that can, with the label of that one.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        shape: tuple[int, int, int],
        seed: int,
        *,
        used: int | None = None,
    ) -> None:
        super().__init__(source, transform, shape, used=used)
        self.seed = seed

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an augmented image [3, height, width] and its class index.

        Once too many are unreadable the search for the next ends, with zeros and `UNREADABLE`: the run is to stop.
        """
        place, picture = index % len(self), self.read(index % len(self))
        while picture is None and not self.unreadable.too_many:
            place = (place + 1) % len(self)
            picture = self.read(place)
        if picture is None:
            return torch.zeros(self.shape), UNREADABLE
        drawn = random.Random(f"{self.seed} {index}").getrandbits(32)
        outer, outer_numpy = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(drawn)
            random.seed(drawn)
            np.random.seed(drawn)
            image = self.transform(picture)
        random.setstate(outer)
        np.random.set_state(outer_numpy)
        return image, self.source.labels[place]
