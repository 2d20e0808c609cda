"""What the Hub and its client answer, told by case: one error each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

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
    HubCacheError,
    HubError,
    HubGatedError,
    HubNotFoundError,
    HubOfflineError,
    HubRefusedError,
    HubUnauthorizedError,
    HubUnavailableError,
    shown,
)
from limpq_hub.zoo.hub_waiting import limited

Result = TypeVar("Result")


def asked(repo: str, revision: str | None, ask: Callable[[], Result], *, file: str | None = None) -> Result:
    """Return what `ask` returns; every way in which the client can fail becomes one error of this package.

    How long it may take is what `hub_waiting` says.

    Args:
        file: what is asked for, where it is one file.

    Raises:
        HubError: says which repository and revision, and what to do.
    """
    try:
        with limited(get_session(), _place(repo, revision)):
            return ask()
    except HubError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise _told(repo, revision, file, error) from None


def _place(repo: str, revision: str | None) -> str:
    """Return what was asked about, as errors name it; an owner alone has no revision."""
    return f"{repo}@{revision or 'main'}" if "/" in repo else f"the models of {repo}"


def _told(repo: str, revision: str | None, file: str | None, error: Exception) -> HubError:
    """Return the error of this package for one of the client."""
    where, cause = _place(repo, revision), error.__cause__
    match error:
        case HFValidationError():
            return HubNotFoundError(f"{shown(repo)} is not the name of a Hub repository: write hf-hub:owner/name")
        case GatedRepoError():
            return HubGatedError(
                f"{where} is gated; ask for access on its page on the Hub, then give a token that has it"
            )
        case RepositoryNotFoundError() | RevisionNotFoundError():
            return HubNotFoundError(
                f"{where}: the Hub shows no such repository or revision ({type(error).__name__}); check the name, or "
                "give a token that may read it"
            )
        case LocalTokenNotFoundError():
            return HubUnauthorizedError(f"{where}: no token; run `hf auth login`, or set HF_TOKEN")
        # The client says so of whatever kept it from the Hub, and of what went wrong in an upload: the cause tells.
        case LocalEntryNotFoundError() | RuntimeError() | ValueError() if isinstance(cause, HubError):
            return cause
        case LocalEntryNotFoundError() | RuntimeError() | ValueError() if isinstance(cause, HfHubHTTPError | HTTPError):
            return _told(repo, revision, file, cause)
        case LocalEntryNotFoundError():
            return HubOfflineError(
                f"{where} is not in the cache and the Hub was not reached; go online once, or unset HF_HUB_OFFLINE"
            )
        case EntryNotFoundError():
            return HubNotFoundError(
                f"{where} lacks {file or 'a file of a limpq-hub entry'}; tell its owner, or load another revision"
            )
        case HfHubHTTPError():
            return _refused(where, error)
        case OfflineModeIsEnabled():
            return HubOfflineError(
                f"{where} is not in the cache and HF_HUB_OFFLINE is set; go online once, or unset it"
            )
        case HTTPError():
            return HubUnavailableError(
                f"{where}: the Hub did not answer ({type(error).__name__}); check the connection, or try again later"
            )
        case OSError(errno=int()):
            file = f"the cache {shown(str(error.filename))}" if error.filename else "the cache of the Hub"
            return HubCacheError(
                f"{where}: {file} cannot be written ({error.strerror}); free space there, or name another folder by "
                "cache_dir or HF_HUB_CACHE"
            )
    # Cut off, of another length than announced, or no JSON.
    return HubUnavailableError(
        f"{where}: what the Hub sent is damaged ({type(error).__name__}: {shown(str(error))}); try again"
    )


def _refused(where: str, error: HfHubHTTPError) -> HubError:
    """Return the error for an answer that says no."""
    status = error.response.status_code if error.response is not None else None
    if status in (401, 403):
        return HubUnauthorizedError(
            f"{where}: the Hub answered {status}; give a token that may do this: run `hf auth login`, or set HF_TOKEN"
        )
    if status == 412:
        return HubRefusedError(f"{where} was changed by somebody else meanwhile; nothing was changed; push again")
    if status in (400, 409, 422):
        return HubRefusedError(
            f"{where}: the Hub answered {status}: {shown(error.server_message or str(error))}; nothing was changed"
        )
    if status == 404:
        return HubNotFoundError(f"{where}: the Hub answered 404; check the name, and HF_ENDPOINT if it is set")
    return HubUnavailableError(f"{where}: the Hub did not answer ({status or type(error).__name__}); try again later")
