"""Names that are nearly right: the address of a repository's page, or a prefix as others write it."""

from __future__ import annotations

import re
from urllib.parse import unquote

# A page of the Hub, or of a mirror; the file that it may show is of no use here.
_PAGE = re.compile(
    r"(?:https?://[^/]+|(?:www\.)?huggingface\.co|hf\.co)/(?!datasets/|spaces/)([^/?#]+/[^/?#@]+)"
    r"(?:@([^?#]+)|/(?:tree|blob|resolve|commit)/([^/?#]+))?(?:[/?#].*)?",
    re.IGNORECASE,
)
_HUB = re.compile(r"hf(?:[-_ ]?hub)?:/{0,2}([^/]+/.+)", re.IGNORECASE)
_FOLDER = re.compile(r"local[-_ ]?dir:(.+)", re.IGNORECASE)


def with_prefix(name: str) -> str | None:
    """Return how a name is written that means a repository or a folder in another way; None where it does not."""
    page = _PAGE.fullmatch(name)
    if page:
        repo, revision = unquote(page[1]), unquote(page[2] or page[3] or "main").rstrip("/")
        return f"hf-hub:{repo}" + (f"@{revision}" if revision != "main" else "")
    for prefix, form in (("hf-hub", _HUB), ("local-dir", _FOLDER)):
        match = form.fullmatch(name)
        if match:
            return f"{prefix}:{match[1]}"
    return None
