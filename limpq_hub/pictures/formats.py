"""Which kinds of pictures can be read here: what every Pillow reads, AVIF by newer ones, HEIC by pillow-heif."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from PIL import features

# No PostScript: Pillow reads it by executing it.
_ALWAYS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# fmt: off
_ALWAYS_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm",
})
# fmt: on


@dataclass(frozen=True)
class _OptionalKind:
    """A kind of pictures that is read where something is installed.

    Attributes:
        name: as people say.
        pillow_name: as Pillow says.
        suffixes: of its files, in lower case.
        brands: of which one stands at bytes 8 to 12 of a file, behind "ftyp".
        is_here: whether it can be read; makes Pillow know it.
        advice: what makes it readable.
    """

    name: str
    pillow_name: str
    suffixes: frozenset[str]
    brands: frozenset[bytes]
    is_here: Callable[[], bool]
    advice: str


@cache
def _pillow_reads_avif() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an older Pillow has not heard of it
        return bool(features.check("avif"))


@cache
def _heif_is_registered() -> bool:
    if find_spec("pillow_heif") is None:
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


_KINDS = (
    _OptionalKind(
        "AVIF",
        "AVIF",
        frozenset({".avif"}),
        frozenset({b"avif", b"avis"}),
        _pillow_reads_avif,
        "pip install -U pillow, whose wheels read it since version 11.3",
    ),
    _OptionalKind(
        "HEIC",
        "HEIF",
        frozenset({".heic", ".heif", ".hif"}),
        frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}),
        _heif_is_registered,
        'pip install "limpq-hub[heic]"',
    ),
)


def picture_formats() -> tuple[str, ...]:
    """Return the formats that pictures are read in, by Pillow's names."""
    return (*_ALWAYS, *(kind.pillow_name for kind in _KINDS if kind.is_here()))


def picture_suffixes() -> frozenset[str]:
    """Return the suffixes of pictures that are read, in lower case."""
    return _ALWAYS_SUFFIXES.union(*(kind.suffixes for kind in _KINDS if kind.is_here()))


def advice_for_suffix(suffix: str) -> str | None:
    """Return what makes files of a suffix readable, or None where nothing is known or needed."""
    missing = (kind for kind in _KINDS if suffix in kind.suffixes and not kind.is_here())
    return next((f"{kind.name} is read after {kind.advice}" for kind in missing), None)


def advice_for_content(beginning: bytes) -> str | None:
    """Return of the first 12 bytes of a file what kind of picture it is and what makes it readable, or None."""
    brand = beginning[8:12] if beginning[4:8] == b"ftyp" else None
    missing = (kind for kind in _KINDS if brand in kind.brands and not kind.is_here())
    return next((f"{kind.name}, which is read after {kind.advice}" for kind in missing), None)
