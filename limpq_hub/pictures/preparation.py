"""From an RGB picture to the image that a network takes: the same steps at validation, calibration and prediction."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from PIL import Image
from torch import Tensor

from limpq_hub.errors import ImageError
from limpq_hub.zoo.network import NetworkSpec

MOST_SCALED_PIXELS = 16_000_000
"""A picture with more once it is scaled, and more than it had before, is refused: 64 MB, and as much in between."""


def preparation_of(spec: NetworkSpec) -> Callable[[Image.Image], Tensor]:
    """Return the function from an RGB picture to the normalized image of a network, [3, input_size, input_size].

    It scales the shorter side and keeps the square in the middle. It raises `ImageError` before it scales a picture so
    long and narrow that all but a sliver of the scaled one would be cut off: a line of 200,000 x 1 pixels would take
    4 GB. A panorama of 10:1 stays below the bound at any input of up to 1,264 pixels.
    """
    side = math.floor(spec.input_size / spec.crop_pct)
    # No closure: worker processes that are not forked get it pickled.
    return partial(_prepared, spec.transform(), side, spec.crop_mode)


def check_scaled(size: tuple[int, int], side: int, crop_mode: str = "center") -> None:
    """Raise `ImageError` unless a picture can be scaled for a network.

    Args:
        size: its width and height before, in pixels.
        side: what is scaled to, in pixels: the shorter side for "center", the longer for "border", both for "squash".
        crop_mode: of timm.

    Raises:
        ImageError: it would grow beyond the bound, or to less than one pixel.
    """
    if crop_mode == "squash":
        return
    # "center" rounds down in torchvision, "border" to the nearest in timm.
    width, height = (
        round(side * edge / max(size)) if crop_mode == "border" else side * edge // min(size) for edge in size
    )
    of = f"the picture of {size[0]} x {size[1]} pixels is too long and narrow: scaled for the network it would have"
    if not width * height:
        raise ImageError(f"{of} {width} x {height} pixels; crop it first")
    if width * height > max(MOST_SCALED_PIXELS, size[0] * size[1]):
        raise ImageError(f"{of} {width} x {height}, more than {MOST_SCALED_PIXELS:,} pixels; crop it first")


def _prepared(transform: Callable[[Image.Image], Tensor], side: int, crop_mode: str, picture: Image.Image) -> Tensor:
    check_scaled(picture.size, side, crop_mode)
    return transform(picture)
