"""How often a JPEG passes over its pixels: the scans that a decoder would read, not bytes that only look like one."""

from __future__ import annotations

import re

# Markers whose segment says its length, and the end of the image. What a decoder reads over stays out: stuffed zeros,
# fill bytes, restarts, a second start of the image, and reserved ones, which it skips without a length.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])", re.DOTALL)
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"


def has_more_scans(content: bytes, most: int) -> bool:
    """Return whether the image with which a JPEG begins has more scans than so many; it stops there.

    What segments hold is passed over, such as a small picture in EXIF, and what follows the end of the image, such as
    the video of a motion photo.
    """
    scans, place = 0, 0
    while scans <= most and (marker := _MARKER.search(content, place)) and marker[1] != _END_OF_IMAGE:
        scans += marker[1] == _START_OF_SCAN
        # The length counts its own two bytes.
        place = marker.end() + max(2, int.from_bytes(content[marker.end() : marker.end() + 2], "big"))
    return scans > most
