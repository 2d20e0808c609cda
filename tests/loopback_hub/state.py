"""All that a Hub holds, and who may see or change which part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from loopback_hub.messages import Call, Refused, gated, refusal, unauthorised
from loopback_hub.repository import BRANCH, Commit, Repository, StoredFile

LARGE_BYTES = 10 * 2**20


@dataclass
class State:
    """Repositories and uploaded objects.

    Attributes:
        url: of the Hub.
        storage_url: of the storage, another origin.
        users: name of the user of each token.
        lfs: shell patterns of the files that go to the storage; others above 10 MiB do too.
        objects: what was uploaded to the storage, by sha256.
    """

    url: str
    storage_url: str
    users: Mapping[str, str]
    lfs: Sequence[str]
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def is_lfs(self, path: str, size_bytes: int) -> bool:
        """Return whether a file of this path and size goes to the storage; an empty one cannot."""
        large = bool(self.lfs) and size_bytes > LARGE_BYTES
        return size_bytes > 0 and (large or any(fnmatchcase(path, pattern) for pattern in self.lfs))

    def create(self, name: str, *, private: bool = False) -> Repository:
        """Return a new repository with its first commit, which says what goes to the storage."""
        repository = self.repositories[name] = Repository(name, private)
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in self.lfs)
        first = repository.commit({".gitattributes": StoredFile(attributes.encode())}, "initial commit", None)
        repository.references[BRANCH + "main"] = first.sha
        return repository

    def user(self, call: Call) -> str | None:
        """Return who asks, None if they show no token.

        Raises:
            Refused: the token is not one of this Hub.
        """
        token = call.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.users:
            raise refusal(401, "Invalid credentials in Authorization header")
        return self.users.get(token)

    def known_user(self, call: Call) -> str:
        """Return who asks; raises `Refused` like `user`, and if they show no token."""
        user = self.user(call)
        if user is None:
            raise unauthorised()
        return user

    def readable(self, name: str, user: str | None, *, content: bool = False) -> Repository:
        """Return a repository that the user may list; with `content`, whose files the user may read.

        Raises:
            Refused: there is none, or none that may be shown to the user.
        """
        repository = self.repositories.get(name)
        insider = repository is not None and user is not None and user in {repository.owner, *repository.readers}
        if repository is None or (repository.private and not insider):
            raise _hidden(user)
        if content and repository.gated and not insider:
            raise gated(name, user)
        return repository

    def writable(self, name: str, user: str) -> Repository:
        """Return a repository that the user may change; raises like `readable`."""
        repository = self.readable(name, user)
        if user != repository.owner:
            raise refusal(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return repository


def commit_of(repository: Repository, revision: str) -> Commit:
    """Return the commit of a revision.

    Raises:
        Refused: the repository has no such revision.
    """
    commit = repository.find(revision)
    if commit is None:
        raise no_revision(revision)
    return commit


def no_revision(revision: str) -> Refused:
    """Return what a Hub says of a revision that it does not have."""
    return refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def _hidden(user: str | None) -> Refused:
    return unauthorised() if user is None else refusal(404, "Repository not found", "RepoNotFound")
