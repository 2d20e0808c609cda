"""What stands between the network and gradio: no foreign page sees the answers, and no address is fetched."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

        if scope["type"] == "http" and _ADDRESS.match(scope["path"]):
            await PlainTextResponse("Not an address of a file here.", 403)(scope, receive, send)
        else:
            await self._app(scope, receive, without_credentials)


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
