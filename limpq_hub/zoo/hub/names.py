"""Names on the Hub: which can be a repository, a branch, a tag or a commit, and which files are pickles."""

from __future__ import annotations

import re
from collections.abc import Iterable

from limpq_hub.errors import HubNotFoundError, HubUnavailableError, quoted

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth")


def check_repository(repo: str) -> None:
    """Raise `HubNotFoundError` unless `repo` is owner/name."""
    if not is_repository(repo):
        raise not_a_repository(repo, "owner/name")


def not_a_repository(repo: str, instead: str = "hf-hub:owner/name") -> HubNotFoundError:
    """Return the error for a name that no repository can have; `instead` is what to write."""
    return HubNotFoundError(f"{quoted(repo)} is not the name of a Hub repository: write {instead}")


def check_revision(repo: str, revision: str | None) -> None:
    """Raise `HubNotFoundError` unless `revision` can be the name of a branch, tag or commit."""
    if revision is not None and not (isinstance(revision, str) and _REVISION.fullmatch(revision)):
        raise HubNotFoundError(
            f"{repo}: {quoted(revision)} is not a branch, tag or commit; write for example main or v1"
        )


def is_repository(name: object) -> bool:
    """Return whether something is text of the form owner/name."""
    return isinstance(name, str) and bool(_REPOSITORY.fullmatch(name))


def is_commit(name: object) -> bool:
    """Return whether something is the whole name of a commit."""
    return isinstance(name, str) and bool(_COMMIT.fullmatch(name))


def checked_commit(repo: str, revision: str | None, name: object) -> str:
    """Return the commit that the Hub named, of which paths are made; raise `HubUnavailableError` if it is none."""
    if not isinstance(name, str) or not is_commit(name):
        raise HubUnavailableError(f"{repo}@{revision or 'main'}: what the Hub sent is damaged: no commit; try again")
    return name


def first_pickle(files: Iterable[str]) -> str | None:
    """Return the first file, by name, that is a pickle by its suffix; loading one can execute code."""
    return min((file for file in files if file.lower().endswith(_PICKLES)), default=None)
