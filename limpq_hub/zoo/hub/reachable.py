"""Whether the Hub answers, and where its cache is: asked by whom something does not work."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

_TIMEOUT_S = 3.0


def answers() -> str:
    """Return in words whether the Hub answers; it is asked for a few seconds at most."""
    if constants.HF_HUB_OFFLINE:
        return "offline mode is on (HF_HUB_OFFLINE): only what is in the cache can be loaded"
    try:
        answer = get_session().head(constants.ENDPOINT, timeout=_TIMEOUT_S)
    # A proxy or certificate that cannot be used is an error of another kind.
    except (HTTPError, OfflineModeIsEnabled, OSError, ValueError, ImportError) as error:
        return (
            f"{constants.ENDPOINT} did not answer within {_TIMEOUT_S:g} s ({type(error).__name__}); what is bundled or "
            "in the cache works all the same"
        )
    return f"{constants.ENDPOINT} answers ({answer.status_code})"


def cache_folder() -> tuple[Path, bool]:
    """Return the folder of the cache, and whether it can be written."""
    folder = Path(constants.HF_HUB_CACHE)
    return folder, os.access(nearest_that_exists(folder), os.W_OK)


def nearest_that_exists(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
