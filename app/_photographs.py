"""The photographs that come with the demo, and whom each is of: shown beside them, and kept in one file with them."""

from __future__ import annotations

import base64
import html
import io
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from PIL import Image

_FOLDER = Path(__file__).parent / "photographs"
_THUMBNAIL_PIXELS = 88


@dataclass(frozen=True)
class Photograph:
    """A photograph that may be shown with its credit.

    Attributes:
        file: name in the folder.
        title: what it shows.
        class_id: of what it shows, in ImageNet.
        author, source, licence, licence_url: its credit; two addresses.
        changes: what was done to it.
    """

    file: str
    title: str
    class_id: str
    author: str
    source: str
    licence: str
    licence_url: str
    changes: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return _FOLDER / self.file

    @cached_property
    def thumbnail(self) -> str:
        """A small version as a `data:` address."""
        with Image.open(self.path) as picture:
            small = picture.convert("RGB").resize((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
        content = io.BytesIO()
        small.save(content, "JPEG", quality=80)
        return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


@lru_cache(maxsize=1)
def photographs() -> tuple[Photograph, ...]:
    """Return the photographs, as they are shown."""
    return tuple(Photograph(**record) for record in _credits()["photographs"])


def credits_text() -> str:
    """Return whom each photograph is of, as HTML."""
    links = ", ".join(
        f"{html.escape(photograph.title.lower())} by {_link(photograph.source, photograph.author)}"
        for photograph in photographs()
    )
    licences = dict.fromkeys((photograph.licence_url, photograph.licence) for photograph in photographs())
    changes = dict.fromkeys(photograph.changes for photograph in photographs())
    return (
        f"<p class='note'>Photographs: {links}; {', '.join(_link(*licence) for licence in licences)}; "
        f"{html.escape(', '.join(changes))}.</p>"
    )


def choice_text() -> str:
    """Return how the photographs were chosen."""
    return _credits()["chosen"]


def thumbnails_css() -> str:
    """Return the style that shows each photograph on the button that takes it."""
    return "".join(
        f"#examples button:nth-child({place}) {{ background-image: url({photograph.thumbnail}); }}\n"
        for place, photograph in enumerate(photographs(), 1)
    )


@lru_cache(maxsize=1)
def _credits() -> dict:
    return json.loads((_FOLDER / "credits.json").read_text(encoding="utf-8"))


def _link(address: str, text: str) -> str:
    return f"<a href='{html.escape(address)}' target='_blank' rel='noopener'>{html.escape(text)}</a>"
