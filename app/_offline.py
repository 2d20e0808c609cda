"""The server itself asks nothing of the Hub: only fetches do, processes of their own that see what everybody sees."""

from __future__ import annotations

import os

_OFFLINE = "HF_HUB_OFFLINE"
# What the host has set of it, kept for the fetches.
_OF_HOST = "LIMPQ_DEMO_HUB_OFFLINE"
# What the client of the Hub would send for the one who runs the demo: visitors see what everybody sees.
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")


def go_offline() -> None:
    """Keep this process from the Hub; call it before the client of the Hub is imported, which reads it once."""
    os.environ.setdefault(_OF_HOST, os.environ.get(_OFFLINE, ""))
    os.environ[_OFFLINE] = "1"


def environment_of_fetch() -> dict[str, str]:
    """Return the environment of a fetch: on the Hub as far as the host is, and without its token."""
    environment = {key: value for key, value in os.environ.items() if key not in _TOKENS}
    if _OF_HOST in environment:
        environment[_OFFLINE] = environment.pop(_OF_HOST)
    return environment | {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
