"""Names on the Hub: which can be a repository, a branch or a tag, and which files are pickles."""

from __future__ import annotations

import re
from collections.abc import Iterable

from limpq_hub.errors import HubNotFoundError, quoted

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*", re.ASCII)
_PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth")


def check_repository(repo: str) -> None:
    """Raise `HubNotFoundError` unless `repo` is owner/name."""
    if not isinstance(repo, str) or not _REPOSITORY.fullmatch(repo):
        raise HubNotFoundError(f"{quoted(repo)} is not the name of a Hub repository: write owner/name")


def check_revision(repo: str, revision: str | None) -> None:
    """Raise `HubNotFoundError` unless `revision` can be the name of a branch, tag or commit."""
    if revision is not None and not _REVISION.fullmatch(revision):
        raise HubNotFoundError(
            f"{repo}: {quoted(revision)} is not a branch, tag or commit; write for example main or v1"
        )


def first_pickle(files: Iterable[str]) -> str | None:
    """Return the first file, by name, that is a pickle by its suffix; loading one can execute code."""
    return min((file for file in files if file.lower().endswith(_PICKLES)), default=None)
