"""The one transparent color of a PNG without an alpha channel, in the bits that Pillow decodes its pixels to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from PIL import Image, PngImagePlugin

# Pillow leaves the color as the file has it, while it decodes grey of 2 and 4 bits and color of 16 bits to 8. Of these
# 16 bits it drops the low 8, so that colors which differ in these alone are transparent too.
_TO_8_BITS: Mapping[str, Callable[[int], int]] = MappingProxyType(
    {
        "L;2": lambda value: value * 85,
        "L;4": lambda value: value * 17,
        "RGB;16B": lambda value: value >> 8,
    }
)


def scale_transparent_color_(picture: Image.Image) -> None:
    """Change the transparent color of an open PNG, whose pixels are not decoded yet, to what its pixels become."""
    color = picture.info.get("transparency")
    if color is None or not isinstance(picture, PngImagePlugin.PngImageFile) or not picture.tile:
        return
    raw_mode = picture.tile[0][3]
    to_8_bits = _TO_8_BITS.get(raw_mode) if isinstance(raw_mode, str) else None
    if to_8_bits is not None:
        picture.info["transparency"] = to_8_bits(color) if isinstance(color, int) else tuple(map(to_8_bits, color))
