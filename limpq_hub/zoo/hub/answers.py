"""What the Hub and its client answer, told by case: one error each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import constants, get_session
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
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
    HubMovedError,
    HubNotFoundError,
    HubOfflineError,
    HubRefusedError,
    HubUnauthorizedError,
    HubUnavailableError,
    quoted,
)
from limpq_hub.zoo.hub.failures import client_error, failure_of
from limpq_hub.zoo.hub.limits import limited
from limpq_hub.zoo.hub.names import not_a_repository
from limpq_hub.zoo.hub_address import without_credentials

Result = TypeVar("Result")
# The statuses from 400 to 499 that do not mean a wrong request: the same request may succeed later.
_LATER = (408, 425, 429)


def ask_hub(
    repo: str,
    revision: str | None,
    call: Callable[[], Result],
    *,
    file: str | None = None,
    cache_dir: str | None = None,
    file_bytes: int | None = None,
    upload_bytes: int = 0,
) -> Result:
    """Return what `call` returns; every way in which the client can fail becomes one error of this package.

    `limpq_hub.zoo.hub.limits` says how long it may take.

    Args:
        call: calls the client of the Hub, once or more often.
        file: what is asked for, where it is one file.
        cache_dir: the cache of huggingface_hub; its default if None.
        file_bytes: size of that file, where it is known.
        upload_bytes: how much the call sends.

    Raises:
        HubError: says which repository and revision, and what to do.
    """
    where = _place(repo, revision)
    try:
        with limited(http_session(where), where, file_bytes=file_bytes, upload_bytes=upload_bytes):
            return call()
    except HubError as error:
        # The traceback starts here: without the many frames of the client in which the error was raised.
        raise error.with_traceback(None) from None
    # Where the JSON of an answer lacks what the client expects, it fails with one of the last three.
    except (HTTPError, OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError) as error:
        ours = _as_our_error(repo, revision, file, cache_dir, error)
        ours.client_error = ours.client_error or client_error(error)
        raise ours from None


def http_session(where: str) -> Any:
    """Return the HTTP session of the client, which reads certificates and the names of proxies when it is made.

    Raises:
        HubUnavailableError: those cannot be used; names `where`.
    """
    try:
        return get_session()
    except OSError as error:
        raise HubUnavailableError(
            f"{where}: the certificates cannot be read ({error.strerror or 'nothing says why'}); check what "
            "SSL_CERT_FILE and SSL_CERT_DIR name, or unset both"
        ) from None
    except (ValueError, ImportError) as error:
        raise HubUnavailableError(
            f"{where}: no connection can be set up ({quoted(str(error))}); check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
        ) from None


def _place(repo: str, revision: str | None) -> str:
    """Return what was asked about, as errors name it; an owner alone has no revision."""
    return f"{repo}@{revision or 'main'}" if "/" in repo else f"the models of {repo}"


def _as_our_error(
    repo: str, revision: str | None, file: str | None, cache_dir: str | None, error: Exception
) -> HubError:
    """Return the error of this package for one of the client."""
    where, cause = _place(repo, revision), error.__cause__
    match error:
        case HFValidationError():
            return not_a_repository(repo)
        case GatedRepoError():
            return HubGatedError(
                f"{where} is gated; ask for access on its page on the Hub, then give a token that has it"
            )
        case RepositoryNotFoundError():
            return HubNotFoundError(
                f"{where}: the Hub shows no such repository; check the name, or give a token that may read it"
            )
        case RevisionNotFoundError():
            return HubNotFoundError(
                f"{where}: the Hub has the repository, and no such revision; check the name of the branch, tag or "
                "commit"
            )
        case LocalTokenNotFoundError():
            return HubUnauthorizedError(f"{where}: no token; run `hf auth login`, or set HF_TOKEN")
        # The client raises these in place of what really went wrong, which is the cause.
        case LocalEntryNotFoundError() | RuntimeError() | ValueError() if isinstance(cause, HubError):
            return cause
        case LocalEntryNotFoundError() | RuntimeError() | ValueError() if isinstance(
            cause, HfHubHTTPError | HTTPError | FileMetadataError | OfflineModeIsEnabled
        ):
            return _as_our_error(repo, revision, file, cache_dir, cause)
        case LocalEntryNotFoundError() if cause is None:
            return HubOfflineError(
                f"{where} is not in the cache and the Hub was not reached; go online once, or unset HF_HUB_OFFLINE"
            )
        case EntryNotFoundError() if not isinstance(error, LocalEntryNotFoundError):
            return HubNotFoundError(
                f"{where} lacks {file or 'a file of a limpq-hub entry'}; tell its owner, or load another revision"
            )
        case HfHubHTTPError():
            return _refused(repo, revision, error)
        case OfflineModeIsEnabled():
            return HubOfflineError(
                f"{where} is not in the cache and HF_HUB_OFFLINE is set; go online once, or unset it"
            )
        case FileMetadataError():
            return HubUnavailableError(
                f"{where}: what answers is no Hub: its answer lacks the commit or the ETag; check HF_ENDPOINT and the "
                "proxy"
            )
        case HTTPError():
            failure = failure_of(error)
            return HubUnavailableError(f"{where}: {failure.what}; {failure.advice}")
        case OSError(errno=int()):
            ours = _of_this_machine(where, cache_dir, error)
            ours.errno = error.errno
            return ours
    # The client raises other errors where an answer is cut off, of another length than announced, or no JSON.
    return HubUnavailableError(
        f"{where}: what the Hub sent is damaged or cut off; try again, and check HF_ENDPOINT if it is set"
    )


def _of_this_machine(where: str, cache_dir: str | None, error: OSError) -> HubError:
    """Return the error for a file that cannot be read or written here: one of the cache, or another one."""
    file, cache = error.filename, os.path.realpath(cache_dir or constants.HF_HUB_CACHE)
    elsewhere = "name another folder by cache_dir or HF_HUB_CACHE"
    if not isinstance(file, str):
        return HubCacheError(
            f"{where}: a file on this machine cannot be read or written ({error.strerror}); free space, or {elsewhere}"
        )
    if Path(os.path.realpath(file)).is_relative_to(cache):
        return HubCacheError(
            f"{where}: the cache {quoted(file)} cannot be written ({error.strerror}); free space there, or {elsewhere}"
        )
    return HubUnavailableError(
        f"{where}: {quoted(file)} cannot be read or written ({error.strerror}); check its owner and its rights"
    )


def changed_meanwhile(repo: str, revision: str | None) -> HubMovedError:
    """Return the error for a branch that is not at the commit that a change was made from."""
    return HubMovedError(
        f"{_place(repo, revision)} was changed by somebody else meanwhile; nothing was changed; push again"
    )


def _refused(repo: str, revision: str | None, error: HfHubHTTPError) -> HubError:
    """Return the error for an answer that says no."""
    where, status = _place(repo, revision), error.response.status_code if error.response is not None else None
    if status in (401, 403):
        reason = f": {quoted(without_credentials(error.server_message))}" if error.server_message else ""
        return HubUnauthorizedError(
            f"{where}: the Hub answered {status}{reason}; give a token that may do this: run `hf auth login`, or set "
            "HF_TOKEN"
        )
    if status == 404:
        return HubNotFoundError(f"{where}: the Hub answered 404; check the name, and HF_ENDPOINT if it is set")
    if status == 412:
        return changed_meanwhile(repo, revision)
    if status is not None and 400 <= status < 500 and status not in _LATER:
        said = without_credentials(error.server_message or str(error))
        return HubRefusedError(f"{where}: the Hub answered {status}: {quoted(said)}; nothing was changed")
    status_told = f" ({status})" if status is not None else ""
    return HubUnavailableError(f"{where}: the Hub did not answer{status_told}; try again later")
