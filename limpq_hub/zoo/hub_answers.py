"""What the Hub and its client answer, told by case: one error each, and a limit to silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from huggingface_hub import get_session
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from limpq_hub.errors import (
    HubError,
    HubGatedError,
    HubNotFoundError,
    HubOfflineError,
    HubRefusedError,
    HubUnauthorizedError,
    HubUnavailableError,
    shown,
)

Result = TypeVar("Result")
# How long a request waits where no byte comes.
SECONDS, _SECONDS_WHERE_ASKED_AGAIN = 30, 10


def asked(repo: str, revision: str | None, ask: Callable[[], Result]) -> Result:
    """Return what `ask` returns; every way in which the client can fail becomes one error of this package.

    Raises:
        HubError: says which repository and revision, and what to do.
    """
    where = f"{repo}@{revision or 'main'}"
    _limit_waiting()
    try:
        return ask()
    except HFValidationError:
        raise HubNotFoundError(f"{shown(repo)} is not the name of a Hub repository: write hf-hub:owner/name") from None
    except GatedRepoError:
        raise HubGatedError(
            f"{where} is gated; ask for access on its page on the Hub, then give a token that has it"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise HubNotFoundError(
            f"{where}: the Hub shows no such repository or revision ({type(error).__name__}); check the name, or give "
            "a token that may read it"
        ) from None
    except LocalTokenNotFoundError:
        raise HubUnauthorizedError(f"{where}: no token; run `hf auth login`, or set HF_TOKEN") from None
    except LocalEntryNotFoundError as error:
        # The client says so of whatever kept it from the Hub: the cause tells.
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _refused(where, error.__cause__) from None
        if isinstance(error.__cause__, HTTPError):
            raise _unreachable(where, error.__cause__) from None
        raise HubOfflineError(
            f"{where} is not in the cache and the Hub was not reached; go online once, or unset HF_HUB_OFFLINE"
        ) from None
    except EntryNotFoundError:
        raise HubNotFoundError(f"{where} lacks a file of a limpq-hub entry; is it one?") from None
    except HfHubHTTPError as error:
        raise _refused(where, error) from None
    except OfflineModeIsEnabled:
        raise HubOfflineError(
            f"{where} is not in the cache and HF_HUB_OFFLINE is set; go online once, or unset it"
        ) from None
    except HTTPError as error:
        raise _unreachable(where, error) from None
    except (OSError, ValueError, RuntimeError) as error:  # cut off, of another length than announced, or no JSON
        raise HubUnavailableError(
            f"{where}: what the Hub sent is damaged ({type(error).__name__}: {shown(str(error))}); try again"
        ) from None


def _limit_waiting() -> None:
    """Let no request of the client wait without end: it sends most of them without a timeout, and some again."""
    session = get_session()
    hooks = session.event_hooks
    if _limited not in hooks["request"]:
        session.event_hooks = hooks | {"request": [*hooks["request"], _limited]}


def _limited(request: Any) -> None:
    """Shorten the timeouts of a request of httpx, if this package sent it."""
    if "limpq-hub" not in request.headers.get("user-agent", ""):
        return
    seconds = _SECONDS_WHERE_ASKED_AGAIN if request.method in ("HEAD", "GET") else SECONDS
    given = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        kind: seconds if value is None else min(value, seconds) for kind, value in given.items()
    }


def _unreachable(where: str, error: Exception) -> HubUnavailableError:
    return HubUnavailableError(
        f"{where}: the Hub did not answer ({type(error).__name__}); check the connection, or try again later"
    )


def _refused(where: str, error: HfHubHTTPError) -> HubError:
    """Return the error for an answer that says no."""
    status = error.response.status_code if error.response is not None else None
    if status in (401, 403):
        return HubUnauthorizedError(
            f"{where}: the Hub answered {status}; give a token that may do this: run `hf auth login`, or set HF_TOKEN"
        )
    if status in (400, 409, 412, 422):
        return HubRefusedError(
            f"{where}: the Hub answered {status}: {shown(error.server_message or str(error))}; nothing was changed"
        )
    if status == 404:
        return HubNotFoundError(f"{where}: the Hub answered 404; check the name, and HF_ENDPOINT if it is set")
    return HubUnavailableError(f"{where}: the Hub did not answer ({status or type(error).__name__}); try again later")
