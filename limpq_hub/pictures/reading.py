"""The one reader of pictures, for `limpq predict`, training, validation and the demo: what a person sees, as RGB."""

from __future__ import annotations

import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from limpq_hub.errors import ImageError, InputFileError, quoted
from limpq_hub.pictures.formats import advice_for_content, picture_formats
from limpq_hub.pictures.jpeg_scans import has_more_scans
from limpq_hub.pictures.transparent_color import scale_transparent_color_
from limpq_hub.pictures.wide_grey import check_grey, is_wide_grey, rgb_of_wide_grey
from limpq_hub.plan.input_file import open_regular

MOST_PIXELS = 50_000_000
# Cameras write about ten. Each scan of a progressive JPEG passes over all pixels, and may have 40 bytes.
MOST_SCANS = 100
# A picture smaller than its tiles is decoded a whole tile at a time.
MOST_TILE_PIXELS = 2**22
_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # tags of TIFF

DAMAGED = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for files that are no pictures or damaged, by format; `ImageError` is a ValueError."""


def read_picture(
    path: str | os.PathLike[str], *, name: str | None = None, most_pixels: int = MOST_PIXELS
) -> Image.Image:
    """Return the picture in a file as upright RGB; transparency shows white, of an animation the first frame.

    Args:
        path: a JPEG, PNG, WebP, GIF, BMP or TIFF file; AVIF where Pillow reads it, HEIC where pillow-heif is there.
        name: what to call the file in an error; its path if None.
        most_pixels: a larger picture is refused from its header.

    Raises:
        ImageError: the file is missing, no picture, damaged, of more than `most_pixels`, would take far more to decode
            than its pixels, or is of grey in numbers of which nothing says what is white.
    """
    name = quoted(os.fspath(path)) if name is None else name
    try:
        with _opened(path, name) as file, _identified(file, name) as picture:
            return upright_rgb(picture, name=name, most_pixels=most_pixels)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+ pixels", str(error))
        raise ImageError(
            f"{name} has {pixels[0] if pixels else 'too many pixels'}, more than {most_pixels:,}; scale it down first"
        ) from None
    except (TypeError, AttributeError, ArithmeticError, LookupError):
        # Pillow trips over EXIF and TIFF fields of another type than they should have.
        raise ImageError(f"{name} is damaged: what it says of itself makes no sense; save it anew") from None
    except DAMAGED as error:
        raise ImageError(f"{name} is damaged and cannot be decoded: {str(error)[:80]}") from None


@contextmanager
def _opened(path: str | os.PathLike[str], name: str) -> Iterator[BinaryIO]:
    with ExitStack() as files:
        try:
            file = files.enter_context(open_regular(path))
        # The second: a zero byte in the path.
        except (FileNotFoundError, ValueError):
            raise ImageError(f"there is no file {name}; give the path of a picture") from None
        except (IsADirectoryError, InputFileError):
            raise ImageError(f"{name} is not a picture that can be read; give a JPEG, PNG, WebP or GIF file") from None
        except OSError as error:
            raise ImageError(f"{name} cannot be opened: {error.strerror}; give the path of a picture") from None
        yield file


def _identified(file: BinaryIO, name: str) -> Image.Image:
    try:
        return open_picture(file)
    except UnidentifiedImageError:
        file.seek(0)
        kind_and_advice = advice_for_content(file.read(12))
        if kind_and_advice:
            raise ImageError(f"{name} is a picture in {kind_and_advice}; or convert it to JPEG") from None
        raise ImageError(f"{name} is not a picture that can be read; give a JPEG, PNG, WebP or GIF file") from None


def open_picture(file: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Open a picture of one of the formats that `read_picture` reads; its header is read, its pixels are not."""
    with warnings.catch_warnings():
        # `upright_rgb` refuses what is too large; odd metadata does not change what the picture shows.
        warnings.simplefilter("ignore")
        return Image.open(file, formats=picture_formats())


def upright_rgb(picture: Image.Image, *, name: str = "the picture", most_pixels: int = MOST_PIXELS) -> Image.Image:
    """Return what `read_picture` returns, of a picture that is open; nothing is decoded before it was bounded.

    Args:
        picture: of any mode; turned upright in place.
        name: what to call it in an error.
        most_pixels: a larger picture is refused.

    Raises:
        ImageError: it is too large, would take far more to decode than its pixels, or is of grey in numbers of which
            nothing says what is white.
    """
    if picture.width * picture.height > most_pixels:
        raise ImageError(
            f"{name} has {picture.width} x {picture.height} pixels, more than {most_pixels:,}; scale it down first"
        )
    _check_decoding(picture, name)
    check_grey(picture, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scale_transparent_color_(picture)
        ImageOps.exif_transpose(picture, in_place=True)
        return _to_rgb(picture, name)


def _check_decoding(picture: Image.Image, name: str) -> None:
    """Raise `ImageError` where decoding would take far more time or memory than the pixels do."""
    file = picture.fp if isinstance(picture, ImageFile.ImageFile) else None
    if file is None:  # decoded already
        return
    if picture.format in ("JPEG", "MPO"):
        place = file.tell()
        file.seek(0)
        too_many = has_more_scans(file.read(), MOST_SCANS)
        file.seek(place)
        if too_many:
            raise ImageError(f"{name} is a JPEG of more than {MOST_SCANS} scans; save it anew")
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        width, height = (picture.tag_v2.get(tag, 0) for tag in (_TILE_WIDTH, _TILE_HEIGHT))
        if width * height > max(MOST_TILE_PIXELS, 2 * picture.width * picture.height):
            raise ImageError(
                f"{name} has {picture.width} x {picture.height} pixels in tiles of {width} x {height}; save it anew"
            )


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    if is_wide_grey(picture):
        return rgb_of_wide_grey(picture, name)
    if "A" in picture.getbands() or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")
