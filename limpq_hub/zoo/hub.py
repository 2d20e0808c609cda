"""Files of a Hub repository, all from one commit: the only module that talks to the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from limpq_hub import __version__
from limpq_hub.errors import HubNotFoundError, HubOfflineError, HubUnavailableError, shown

_LIBRARY = {"library_name": "limpq-hub", "library_version": __version__}
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*", re.ASCII)
Result = TypeVar("Result")


def resolve_commit(repo: str, revision: str | None, cache_dir: str | None, token: str | None) -> str:
    """Return the commit that `revision` means now, with `config.json` of that commit in the cache.

    Args:
        revision: branch, tag or commit; the main branch if None.

    Raises:
        HubError: the Hub has no such repository, or cannot be reached.
    """
    if revision is not None and not _REVISION.fullmatch(revision):
        raise HubNotFoundError(f"{repo}: {shown(revision)} is not a branch, tag or commit")
    snapshot = _asked(
        repo,
        revision,
        lambda: snapshot_download(
            repo, revision=revision, allow_patterns=["config.json"], cache_dir=cache_dir, token=token, **_LIBRARY
        ),
    )
    return Path(snapshot).name


def fetch_file(repo: str, file: str, commit: str, cache_dir: str | None, token: str | None) -> Path:
    """Return the local path of a file of a commit, from the cache or the Hub; raises like `resolve_commit`."""
    return _asked(
        repo,
        commit,
        lambda: Path(
            hf_hub_download(repo, file, revision=commit, cache_dir=cache_dir, token=token, **_LIBRARY),
        ),
    )


def _asked(repo: str, revision: str | None, ask: Callable[[], Result]) -> Result:
    where = f"{repo}@{revision or 'main'}"
    try:
        return ask()
    except HFValidationError:
        raise HubNotFoundError(f"{shown(repo)} is not the name of a Hub repository: write hf-hub:owner/name") from None
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise HubNotFoundError(
            f"{where}: the Hub shows no such repository or revision ({type(error).__name__}); check the name, or give "
            "a token that may read it"
        ) from None
    except LocalEntryNotFoundError:
        raise HubOfflineError(
            f"{where} is not in the cache and the Hub was not reached; go online once, or unset HF_HUB_OFFLINE"
        ) from None
    except EntryNotFoundError:
        raise HubNotFoundError(f"{where} lacks a file of a limpq-hub entry; is it one?") from None
    except (HfHubHTTPError, HTTPError) as error:
        raise HubUnavailableError(
            f"{where}: the Hub did not answer ({type(error).__name__}); try again later"
        ) from None
