"""Whether the Hub answers, and where its cache is: asked by whom something does not work."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import HTTPError

from limpq_hub.errors import HubUnavailableError
from limpq_hub.zoo.hub.answers import http_session
from limpq_hub.zoo.hub.failures import failure_of
from limpq_hub.zoo.hub_address import without_credentials

_TIMEOUT_S = 3.0
_ALL_THE_SAME = "what is bundled or in the cache works all the same"


def answers() -> str:
    """Return in words whether the Hub answers; it is asked for a few seconds at most."""
    if constants.HF_HUB_OFFLINE:
        return "offline mode is on (HF_HUB_OFFLINE): only what is in the cache can be loaded"
    address = without_credentials(constants.ENDPOINT)
    try:
        answer = http_session(address).head(constants.ENDPOINT, timeout=_TIMEOUT_S)
    # A proxy or certificate that cannot be used.
    except HubUnavailableError as error:
        return f"{error}; {_ALL_THE_SAME}"
    except (HTTPError, OSError, ValueError) as error:
        failure = failure_of(error)
        asked = f"{address}, asked for {_TIMEOUT_S:g} s at most"
        return f"{asked}: {failure.what}; {failure.advice}; {_ALL_THE_SAME}"
    return f"{address} answers ({answer.status_code})"


def cache_folder() -> tuple[Path, bool]:
    """Return the folder of the cache, and whether it can be written."""
    folder = Path(constants.HF_HUB_CACHE)
    return folder, os.access(nearest_that_exists(folder), os.W_OK)


def nearest_that_exists(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
