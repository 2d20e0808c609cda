"""What stands between the network and gradio: bodies have an end, no foreign page sees answers, nothing is fetched."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from _pictures_in import MOST_BYTES
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Bytes of a request: of one upload with its multipart frame, and of all else, which is JSON of a few fields.
MOST_UPLOADED, MOST_SENT = MOST_BYTES + 1_000_000, 1_000_000
_UPLOAD = "/gradio_api/upload"
_CREDENTIALS = b"access-control-allow-credentials"
# gradio's addresses of files, with another address in place of the path: it would be fetched by this server.
_ADDRESS = re.compile(r"/gradio_api/(file=|file/|proxy=)/*(\w+:/|//)", re.IGNORECASE)


class Boundary:
    """An application around gradio's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def without_credentials(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name, value) for name, value in message["headers"] if name.lower() != _CREDENTIALS]
                message = {**message, "headers": headers}
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _ADDRESS.match(scope["path"]):
            await PlainTextResponse("Not an address of a file here.", 403)(scope, receive, send)
        elif scope["path"] == _UPLOAD:
            await self._app(scope, _ending(receive, MOST_UPLOADED), without_credentials)
        elif _length(scope) > MOST_SENT:
            await PlainTextResponse(f"More than {MOST_SENT:,} bytes.", 413)(scope, receive, send)
        else:
            await self._app(scope, _ending(receive, MOST_SENT), without_credentials)


def _length(scope: Scope) -> int:
    """Return the bytes that a request announces; 0 where it does not say."""
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdecimal() else 0


def _ending(receive: Receive, most: int) -> Receive:
    """Return what receives a body like `receive`, and breaks off after `most` bytes of it, whatever was announced."""
    left = most

    async def receive_some() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return receive_some


@asynccontextmanager
async def bounded(app: Starlette) -> AsyncIterator[None]:
    """Put the boundary around gradio's application; its `lifespan`, which runs before the first request."""
    # By `add_middleware` it would stand inside of what gradio adds.
    if app.middleware_stack is not None:
        app.middleware_stack = Boundary(app.middleware_stack)
    yield


def hide_folders(uploads: Path) -> None:
    """Let answers name uploads by a relative path: make the folder of `uploads` the working folder, from here on.

    Call it before any component of the page is made.
    """
    uploads = uploads.resolve()
    uploads.mkdir(parents=True, exist_ok=True)
    os.chdir(uploads.parent)
    os.environ["GRADIO_TEMP_DIR"] = uploads.name
