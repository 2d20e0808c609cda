"""Grey of more than 8 bits and grey in floats: scaled by what the file says is white, or refused where nothing does."""

from __future__ import annotations

import numpy as np
from PIL import Image, TiffImagePlugin

from limpq_hub.errors import ImageError

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO = 0
_SIGNED = 2
_BIG_ENDIAN = b"MM"
_LARGEST = 2**16 - 1


def is_wide_grey(picture: Image.Image) -> bool:
    """Return whether Pillow holds the pixels as one number of more than 8 bits each, which it would clip to 8."""
    return picture.mode.startswith("I") or picture.mode == "F"


def check_grey(picture: Image.Image, name: str) -> None:
    """Raise `ImageError` for a TIFF of signed or 32-bit whole numbers: which of them is white is written nowhere.

    It is raised too for compressed floats of a TIFF that is big-endian, whose bytes Pillow takes in the wrong order.

    Args:
        picture: open; nothing of it is decoded.
        name: what to call it in the error.
    """
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return
    signed = _SIGNED in picture.tag_v2.get(_SAMPLE_FORMAT, ())
    if signed or picture.mode == "I":
        numbers = "signed numbers" if signed else "numbers of 32 bits"
        raise ImageError(
            f"{name} is not readable: its grey is in {numbers}, and nothing says which of them is white; save it as "
            "grey of 8 or 16 bits"
        )
    if (
        picture.mode == "F"
        and picture.tag_v2.prefix == _BIG_ENDIAN
        and picture.tile
        and picture.tile[0][0] == "libtiff"
    ):
        raise ImageError(
            f"{name} is not readable: it holds compressed floats in big-endian order, which Pillow mixes up; save it "
            "uncompressed, or as grey of 8 or 16 bits"
        )


def rgb_of_wide_grey(picture: Image.Image, name: str) -> Image.Image:
    """Return grey for which `is_wide_grey` holds as RGB; the transparent grey of a PNG becomes white.

    Raises:
        ImageError: floats beyond 0..1, or NaN.
    """
    if picture.mode == "F":
        _check_floats(picture, name)
    scale, black = _scale_and_black(picture)
    rgb = picture.convert("F").point(lambda value: value * scale + black).convert("L").convert("RGB")
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        is_transparent = [255 * (value == transparent) for value in range(_LARGEST + 1)]
        rgb.paste((255, 255, 255), mask=picture.convert("I").point(is_transparent, "L"))
    return rgb


def _check_floats(picture: Image.Image, name: str) -> None:
    values = np.asarray(picture)
    least, most = values.min(), values.max()
    if not (least >= 0 and most <= 1):  # this way round NaN is refused too
        raise ImageError(
            f"{name} is not readable: its grey goes from {least:g} to {most:g}, and of floats 0 is black and 1 is "
            "white; scale it to 0..1, or save it as grey of 8 or 16 bits"
        )


def _scale_and_black(picture: Image.Image) -> tuple[float, float]:
    """Return what a number is multiplied by, and what is added then, so that black is 0 and white 255."""
    white, white_is_zero = (1 if picture.mode == "F" else _LARGEST), False
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        white_is_zero = picture.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        if picture.mode != "F":
            white = 2 ** picture.tag_v2[_BITS][0] - 1
    return (-255 / white, 255.0) if white_is_zero else (255 / white, 0.0)
