"""Pictures decoded once into memory that all worker processes share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from limpq_hub.errors import DataError
from limpq_hub.pictures.reading import upright_rgb
from limpq_hub.train.data.decoded_pictures import MOST_PIXELS
from limpq_hub.train.data.sources import Source
from limpq_hub.train.data.unreadable import BROKEN
from limpq_hub.train.progress import tracked

_SAMPLE = 256
_CHUNK = 32


class CachedSource(Source):
    """A source that holds some of its pictures as upright RGB bytes, each in its own height and width."""

    def __init__(self, source: Source, indices: Sequence[int], workers: int) -> None:
        """Decode the pictures of `indices`; the others, and those that cannot be decoded, stay with `source`.

        Args:
            workers: processes that decode; 0 decodes in this one.

        Raises:
            DataError: they need more than half of the free memory.
        """
        # Checked when it was opened, and not again: its pictures may be of some of the classes of a network.
        self.where, self.classes, self.labels = source.where, source.classes, source.labels
        self.source = source
        # Headers of a few first: a data set that is far too large is refused at once.
        few = indices[:: max(1, len(indices) // _SAMPLE)]
        _memory_for([_pixel_count(source, index) for index in few], len(indices))
        sizes = list(_each(partial(_pixel_count, source), indices, workers, "reading sizes"))
        need_bytes = _memory_for(sizes, len(indices))
        # Forked workers read the pages of this process; others get the tensor through torch's shared memory.
        self._pixels = torch.empty(need_bytes, dtype=torch.uint8)
        self._places: dict[int, tuple[int, int, int]] = {}
        offset = 0
        decoded = _each(partial(_rgb, source), indices, workers, f"decoding {need_bytes / 1e9:.2f} GB of pictures")
        for index, size, pixels in zip(indices, sizes, decoded, strict=True):
            # The number alone: a picture that lies on its side is turned when it is decoded.
            if pixels is not None and pixels.size == 3 * size:
                self._places[index] = (offset, *pixels.shape[:2])
                self._view(index)[...] = pixels
            offset += 3 * size

    @contextmanager
    def picture(self, index: int) -> Iterator[Image.Image]:
        """Return a picture, decoded."""
        if index in self._places:
            yield Image.fromarray(self._view(index))
        else:
            with self.source.picture(index) as picture:
                yield picture

    def name(self, index: int) -> str:
        """Return what tells a picture from the others of the source."""
        return self.source.name(index)

    def path(self, index: int) -> str:
        """Return what a message of the source calls a picture."""
        return self.source.path(index)

    def size_bytes(self, index: int) -> int | None:
        """Return the bytes of a picture as the source stores it; None where that is not known without reading it."""
        return self.source.size_bytes(index)

    def content(self, index: int) -> bytes:
        """Return a picture as the source stores it; nothing where it is not a file of its own."""
        return self.source.content(index)

    def _view(self, index: int) -> np.ndarray:
        offset, height, width = self._places[index]
        return self._pixels[offset : offset + 3 * height * width].numpy().reshape(height, width, 3)


def _memory_for(sizes: Sequence[int], count: int) -> int:
    """Return the bytes that `count` pictures need in this process, if some of them have so many pixels."""
    need_bytes = 3 * sum(sizes) * count // len(sizes)
    free_bytes = psutil.virtual_memory().available
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if 2 * need_bytes * processes > free_bytes:
        each = f" in each of {processes} processes" if processes > 1 else ""
        raise DataError(
            f"--cache-images needs {need_bytes / 1e9:.3g} GB{each} for {count} images, more than half of the "
            f"{free_bytes / 1e9:.3g} GB that are free; leave it out, or use a smaller --data-fraction"
        )
    return need_bytes


def _pixel_count(source: Source, index: int) -> int:
    """Return how many pixels a picture has, zero for one without a readable header."""
    try:
        with source.picture(index) as picture:
            return picture.height * picture.width
    except BROKEN:
        return 0


def _rgb(source: Source, index: int) -> np.ndarray | None:
    """Return pixels [height, width, 3], None for a picture that will be counted and named when it is read."""
    try:
        with source.picture(index) as picture:
            return np.asarray(upright_rgb(picture, most_pixels=MOST_PIXELS))
    except BROKEN:
        return None


class _Work(Dataset):
    """A function of an index, for the worker processes of a loader."""

    def __init__(self, function: Callable[[int], Any], indices: Sequence[int]) -> None:
        self.function, self.indices = function, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Any:
        return self.function(self.indices[position])


def _each(function: Callable[[int], Any], indices: Sequence[int], workers: int, description: str) -> Iterator[Any]:
    """Yield `function` of each index, in order, and show how far that is.

    Threads would not do: on small pictures they are slower than one, for the lock of the interpreter.
    """
    # A generator of its own leaves torch's random state alone; results that are no tensors need no /dev/shm.
    loader = DataLoader(
        _Work(function, indices), _CHUNK, num_workers=workers, collate_fn=list, generator=torch.Generator()
    )
    chunks = iter(loader)  # starts the workers before the bar starts its thread
    yield from tracked(chain.from_iterable(chunks), description, "images", len(indices))
