"""Data sets that the loaders read: pictures decoded, transformed, every random choice a function of the seed."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from limpq_hub.errors import ImageError
from limpq_hub.pictures.reading import upright_rgb
from limpq_hub.train.data.epoch_sampler import PictureOfEpoch
from limpq_hub.train.data.sources import Source
from limpq_hub.train.data.unreadable import BROKEN, UNREADABLE, Unreadable

Transform = Callable[[Image.Image], Tensor]
# Pillow opens no larger ones. More than `limpq predict` takes: there are large scans in data sets.
MOST_PIXELS = 178_956_970


class DecodedPictures(Dataset):
    """Pictures of a source, read as `limpq predict` reads them; `__getitem__` is left to the kinds of them.

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

    def read(self, index: int) -> Image.Image | None:
        """Return an upright RGB picture; None, after counting it, if it cannot be decoded."""
        try:
            with self.source.picture(index) as picture:
                return upright_rgb(picture, most_pixels=MOST_PIXELS)
        except BROKEN as error:
            # Raised in a worker process this would end the run with the traceback of that process.
            self.unreadable.add(index, error)
            return None


class WholePictures(DecodedPictures):
    """Normalized images with their class index; one that cannot be decoded is zero, with the label `UNREADABLE`.

    So is one that is too long and narrow to be scaled.

    timm replaces such a picture by its neighbour, and so measures another data set than the one it was given.
    """

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a normalized image [3, height, width] and its class index, or zeros and `UNREADABLE`."""
        picture = self.read(index)
        try:
            if picture is not None:
                return self.transform(picture), self.source.labels[index]
        except ImageError as error:
            self.unreadable.add(index, error)
        return torch.zeros(self.shape), UNREADABLE


class AugmentedPictures(DecodedPictures):
    """Pictures whose random transform depends on (seed, epoch, index) alone, so that workers need no state.

    A picture that cannot be decoded is replaced by the next one that can, with the label of that one.
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

    def __getitem__(self, wanted: PictureOfEpoch) -> tuple[Tensor, int]:
        """Return an augmented image [3, height, width] and its class index.

        Once too many are unreadable the search for the next ends, with zeros and `UNREADABLE`: the run is to stop.
        """
        index, picture = wanted.picture, self.read(wanted.picture)
        while picture is None and not self.unreadable.too_many:
            index = (index + 1) % len(self)
            picture = self.read(index)
        if picture is None:
            return torch.zeros(self.shape), UNREADABLE
        # One number for (epoch, picture): pictures counted on from epoch to epoch.
        drawn = random.Random(f"{self.seed} {wanted.epoch * len(self) + wanted.picture}").getrandbits(32)
        outer, outer_numpy = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            # That of the CPU, which transforms draw from: `torch.manual_seed` would leave those of devices changed.
            torch.default_generator.manual_seed(drawn)
            random.seed(drawn)
            np.random.seed(drawn)
            image = self.transform(picture)
        random.setstate(outer)
        np.random.set_state(outer_numpy)
        return image, self.source.labels[index]
