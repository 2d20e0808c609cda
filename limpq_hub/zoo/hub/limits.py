"""How long a call of the client of the Hub may take, and how many bytes an answer may have.

huggingface_hub sends most requests without a timeout, repeats some of them up to six times, and sleeps for as long as
a busy server tells it to. Hooks on its HTTP session, which act within `limited` alone, set these limits:

- a wait for a byte, to come or to go: `SECONDS`; for a connection: `CONNECT_SECONDS` per address, and once;
- a call: `SECONDS_IN_ALL`, and one second more for every `SLOWEST_BYTES_PER_S` bytes of the file that it moves; a
  server that asks for a longer pause is an error at once;
- a file: the bytes that its entry lists; all other answers of a call together: `ANSWER_BYTES`; nothing compressed,
  which could unpack to any size; nothing by Xet, whose transfers follow limits of their own;
- names that the client makes paths of, the ETag of a file and the commit that it belongs to: hexadecimal digits.

Not limited: looking up a host's name; an upload, or the headers of an answer, that move a few bytes before each
timeout; waiting for a process that downloads the same file to the same cache; the rest of a call during which other
code closes the shared session; and Xet for a file of which another programme left the listing in the cache, so that
the client does not ask for it.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import parse_ratelimit_headers

from limpq_hub.errors import HubUnavailableError, quoted
from limpq_hub.zoo.hub.failures import client_error, failure_of

SECONDS = 30.0
CONNECT_SECONDS = 5.0
SECONDS_IN_ALL = 120.0
SLOWEST_BYTES_PER_S = 10_000
ANSWER_BYTES = 4 * 2**20
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
# As the client reads it: the sha1 of a file in git, the sha256 of one in the storage, perhaps marked as weak.
_ETAG = re.compile(r'(W/)?"?([0-9a-f]{40}|[0-9a-f]{64})"?', re.ASCII)
# The HTTP library of the client: httpx, or httpx2 since version 2 of huggingface_hub.
_http: Any = importlib.import_module(HTTPError.__module__.partition(".")[0])


@dataclass
class _Limits:
    """Limits of one call about `where`; no wait begins after `last_wait`, a time of the monotonic clock.

    Attributes:
        answer_bytes: how much all answers so far had that are no file.
    """

    where: str
    seconds: float
    last_wait: float
    file_bytes: int | None
    answer_bytes: int = 0

    def error(self, what: str, advice: str = "check the connection, or try again later") -> HubUnavailableError:
        return HubUnavailableError(f"{self.where}: {what}; {advice}")

    def check_time(self) -> None:
        if time.monotonic() > self.last_wait:
            raise self.error(f"the Hub did not answer in time (limit: {self.seconds:.0f} s)")

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Check each step of a request; the HTTP library calls this before and after it."""
        failure = info.get("exception")
        # The client would connect again with a new session, without these hooks. Ctrl-C is no `Exception`.
        if event.endswith((".connect_tcp.failed", ".start_tls.failed")) and isinstance(failure, Exception):
            told = failure_of(failure)
            error = self.error(told.what, told.advice)
            error.client_error = client_error(failure)
            raise error
        if event.endswith(("_headers.started", "_body.started")):
            self.check_time()


_LIMITS: ContextVar[_Limits | None] = ContextVar("_LIMITS", default=None)


@contextmanager
def limited(session: Any, where: str, *, file_bytes: int | None = None, upload_bytes: int = 0) -> Iterator[None]:
    """Limit the requests that this thread sends through the HTTP session of the client; other threads have no limits.

    Args:
        where: what is asked about, as errors name it.
        file_bytes: size of the file that is asked for, where it is known.
        upload_bytes: how much is sent.

    Raises:
        HubUnavailableError: from within, as soon as a request goes beyond a limit.
    """
    hooks = session.event_hooks
    if _limit_request not in hooks["request"]:
        session.event_hooks = {
            "request": [*hooks["request"], _limit_request],
            "response": [*hooks["response"], _limit_response],
        }
    seconds = SECONDS_IN_ALL + (upload_bytes + (file_bytes or 0)) / SLOWEST_BYTES_PER_S
    token = _LIMITS.set(_Limits(where, seconds, time.monotonic() + seconds - SECONDS, file_bytes))
    try:
        yield
    finally:
        _LIMITS.reset(token)


def _limit_request(request: Any) -> None:
    if limits := _LIMITS.get():
        limits.check_time()
        client_s = request.extensions.get("timeout", {})
        limits_s = {"connect": CONNECT_SECONDS, "read": SECONDS, "write": SECONDS, "pool": SECONDS}
        timeout = {step: min(seconds, client_s.get(step) or seconds) for step, seconds in limits_s.items()}
        request.extensions |= {"timeout": timeout, "trace": limits.trace}
        request.headers["Accept-Encoding"] = "identity"


def _limit_response(response: Any) -> None:
    if limits := _LIMITS.get():
        pause_s = _pause_s(response)
        if pause_s and time.monotonic() + pause_s > limits.last_wait:
            asks = f"the Hub did not answer ({response.status_code}) and asks to wait {pause_s} s"
            raise limits.error(asks, "try again then")
        _check_names(response, limits)
        response.headers.pop(constants.HUGGINGFACE_HEADER_X_XET_HASH, None)
        response.stream = _LimitedBody(response, limits)


def _check_names(response: Any, limits: _Limits) -> None:
    """Raise `HubUnavailableError` for a header that the client would make a path of and that is no plain name."""
    headers = response.headers
    commit = headers.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT)
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise limits.error(f"what the Hub sent is damaged (a commit named {quoted(commit)})", "try again")
    # Of other answers the client ignores the ETag, which the storage may write in another way.
    if response.request.method == "HEAD" and not response.is_error:
        etag = headers.get(constants.HUGGINGFACE_HEADER_X_LINKED_ETAG) or headers.get("ETag")
        if etag is not None and not _ETAG.fullmatch(etag):
            raise limits.error(f"what the Hub sent is damaged (an ETag of {quoted(etag)})", "try again")


def _pause_s(response: Any) -> int:
    """Return for how many seconds a busy server wants nothing more to be asked, 0 if it does not say."""
    rate = parse_ratelimit_headers(response.headers) if response.status_code == 429 else None
    if rate is not None and rate.remaining == 0:
        return rate.reset_in_seconds
    retry_after = response.headers.get("Retry-After", "").strip()
    return int(retry_after) if response.status_code >= 400 and retry_after.isdecimal() else 0


class _LimitedBody(_http.SyncByteStream):
    """The body of an answer, which ends with an error when it is too long or takes too long."""

    def __init__(self, response: Any, limits: _Limits) -> None:
        self.body, self.limits = response.stream, limits
        self.is_compressed = response.headers.get("Content-Encoding", "identity") != "identity"
        self.is_file = limits.file_bytes is not None and response.is_success
        self.most_bytes = limits.file_bytes if limits.file_bytes is not None and self.is_file else ANSWER_BYTES

    def __iter__(self) -> Iterator[bytes]:
        bytes_so_far = 0 if self.is_file else self.limits.answer_bytes
        for part in self.body:
            bytes_so_far += len(part)
            if not self.is_file:
                self.limits.answer_bytes = bytes_so_far
            if self.is_compressed or bytes_so_far > self.most_bytes:
                wrong = "compressed" if self.is_compressed else f"more than {self.most_bytes} bytes"
                raise self.limits.error(f"what the Hub sent is damaged ({wrong})", "try again")
            self.limits.check_time()
            yield part

    def close(self) -> None:
        self.body.close()
