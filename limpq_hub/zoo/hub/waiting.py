"""How long a question to the Hub may take: what the client waits for is limited, bytes that keep coming are not.

The client sends most requests without a timeout, repeats some up to six times, and sleeps as long as a busy server
tells it to. Within `limited`, and only there, hooks of its HTTP session see to it that

- no wait for an answer lasts longer than `SECONDS`, none for a connection longer than `CONNECT_SECONDS` per address;
- all waits of one question together last no longer than `SECONDS_IN_ALL`: a pause that a server asks for (429, 503)
  and that would last longer is an error at once;
- a body that comes or goes at `SLOWEST_BYTES_PER_S` or faster does not count as waiting, however long it takes; what is
  slower does, so that a byte now and then ends too;
- what cannot connect is not tried again.

Not limited: the look-up of the host's name; response headers that come byte by byte; another process that downloads
the same file into the same cache, which is waited for; and, as the hooks sit on the session, the requests that remain
of a question whose session somebody else closes meanwhile, so that the client makes a new one. Files come by plain
HTTP, for the client's Xet transfers follow limits of their own.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from limpq_hub.errors import HubUnavailableError

SECONDS = 30.0
CONNECT_SECONDS = 5.0
SECONDS_IN_ALL = 120.0
SLOWEST_BYTES_PER_S = 10_000
_USED_UP = re.compile(r"\br\s*=\s*0+\s*;\s*t\s*=\s*([0-9]+)", re.ASCII)


class _Waiting:
    """How long one question has waited; what it was asked about is named in errors."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._began, self._moving_s = time.monotonic(), 0.0

    def left(self) -> float:
        """Return the seconds that the question may still wait."""
        return SECONDS_IN_ALL - (time.monotonic() - self._began - self._moving_s)

    def begin(self, seconds: float) -> None:
        """Raise `HubUnavailableError` where a wait of so many seconds would end too late."""
        if self.left() < seconds:
            raise HubUnavailableError(
                f"{self.where}: the Hub did not answer in time (limit: {SECONDS_IN_ALL:g} s); check the connection, or "
                "try again later"
            )

    def moved(self, count: int, since: float) -> float:
        """Forgive the time since the last bytes came, as far as so many bytes may take; return the time now."""
        now = time.monotonic()
        self._moving_s += min(now - since, count / SLOWEST_BYTES_PER_S)
        self.begin(SECONDS)
        return now

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Refuse to try again what cannot connect; the HTTP library calls this at each of its steps."""
        error = info.get("exception")
        # The client would try again with another session, without these limits. Ctrl-C is a failed step too.
        if event.endswith((".connect_tcp.failed", ".start_tls.failed")) and isinstance(error, Exception):
            raise HubUnavailableError(
                f"{self.where}: the Hub did not answer ({type(error).__name__}); check the connection, or try again "
                "later"
            )


_WAITING: ContextVar[_Waiting | None] = ContextVar("_WAITING", default=None)
_INSTALLING = threading.Lock()


@contextmanager
def limited(session: Any, where: str) -> Iterator[None]:
    """Limit the requests that this thread sends through an HTTP session of the client; it says nothing meanwhile.

    Args:
        where: what is asked about, as errors name it.

    Raises:
        HubUnavailableError: from within, as soon as a request would wait longer than the limits say.
    """
    with _INSTALLING:
        hooks = session.event_hooks
        if _before not in hooks["request"]:
            session.event_hooks = {
                "request": [*hooks["request"], _before],
                "response": [*hooks["response"], _after],
            }
    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.addFilter(_is_ours_to_say)
    token = _WAITING.set(_Waiting(where))
    try:
        yield
    finally:
        _WAITING.reset(token)


class UploadedFile(io.BufferedReader):
    """A file on its way up: the time in which its bytes go is no waiting.

    The client sends what it reads from an open file by HTTP, never by Xet.
    """

    def __init__(self, path: Path) -> None:
        """Open a file to read."""
        super().__init__(io.FileIO(path))
        self._last: float | None = None

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position; what the next attempt reads counts anew."""
        self._last = None
        return super().seek(position, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes: those before them are gone by now.

        Raises:
            HubUnavailableError: they went too slowly.
        """
        data, waiting = super().read(size), _WAITING.get()
        if waiting is not None:
            self._last = waiting.moved(len(data), time.monotonic() if self._last is None else self._last)
        return data


class _Timeouts(dict):
    """Timeouts of a request by kind; the HTTP library looks one up when each of its steps begins."""

    def __init__(self, given: Mapping[str, float | None], waiting: _Waiting) -> None:
        limits = {kind: CONNECT_SECONDS if kind == "connect" else SECONDS for kind in given}
        super().__init__({kind: min(limits[kind], limits[kind] if s is None else s) for kind, s in given.items()})
        self._waiting = waiting

    def get(self, kind: str, default: float | None = None) -> float | None:
        """Return the seconds that a step may take which begins now."""
        seconds = super().get(kind, default)
        return seconds if seconds is None else max(0.001, min(seconds, self._waiting.left()))


def _before(request: Any) -> None:
    waiting = _WAITING.get()
    if waiting is not None:
        waiting.begin(SECONDS)
        request.extensions["timeout"] = _Timeouts(request.extensions.get("timeout", {}), waiting)
        request.extensions["trace"] = waiting.trace


def _after(response: Any) -> None:
    waiting = _WAITING.get()
    if waiting is None:
        return
    pause = _pause(response)
    if pause + 1 > waiting.left():
        raise HubUnavailableError(
            f"{waiting.where}: the Hub did not answer ({response.status_code}) and asks to wait {pause} s; try again "
            "then"
        )
    # Without it, the client takes the file from its storage by HTTP instead of Xet.
    response.headers.pop("X-Xet-Hash", None)
    response.iter_raw = _watched(response.iter_raw, waiting)


def _watched(iter_raw: Any, waiting: _Waiting) -> Any:
    def watched(chunk_size: int | None = None) -> Iterator[bytes]:
        last = time.monotonic()
        for part in iter_raw(chunk_size):
            last = waiting.moved(len(part), last)
            yield part

    return watched


def _pause(response: Any) -> int:
    """Return for how many seconds a busy server wants nothing more to be asked, 0 if it does not say."""
    if response.status_code == 429 and (found := _USED_UP.search(response.headers.get("RateLimit", ""))):
        return int(found[1])
    asked = response.headers.get("Retry-After", "").strip()
    return int(asked) if response.status_code >= 400 and re.fullmatch("[0-9]+", asked) else 0


def _is_ours_to_say(record: logging.LogRecord) -> bool:
    """Return whether the client may log: what goes wrong within a question of ours is told by the error it becomes."""
    return _WAITING.get() is None or record.levelno >= logging.ERROR
