"""Pictures of visitors: refused by their size and header before anything is decoded, then read as the package does."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from limpq_hub.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 10_000_000
MOST_PIXELS = 25_000_000
_NAME = "the picture"
# One at a time: 25 megapixels in several modes take some hundred megabytes.
_DECODING = threading.Lock()


def picture_from(path: str | os.PathLike[str] | None) -> Image:
    """Return an uploaded picture as upright RGB; transparency shows white, of an animation the first frame.

    Raises:
        ImageError: there is none, or it is too large, of no known format, or damaged.
    """
    if path is None:
        raise ImageError("there is no picture yet; upload one or take an example")
    if not os.path.isfile(path):
        raise ImageError("the picture is no longer there; upload it again")
    size = Path(path).stat().st_size
    if size > MOST_BYTES:
        raise ImageError(f"{_NAME} has {size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f} MB; scale it down first")
    # torch and timm come with this: the page is up before they are needed.
    from limpq_hub.pictures import read_picture

    with _DECODING:
        return read_picture(path, name=_NAME, most_pixels=MOST_PIXELS)
