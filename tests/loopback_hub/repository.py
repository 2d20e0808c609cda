"""What a Hub keeps of one repository, in memory: commits that never change, branches and tags that point to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

BRANCH, TAG, PULL_REQUEST = "refs/heads/", "refs/tags/", "refs/pr/"


@dataclass(frozen=True)
class StoredFile:
    """Content of one file, in git itself or, if `lfs`, in the storage beside it."""

    data: bytes
    lfs: bool = False

    @cached_property
    def _in_git(self) -> bytes:
        if not self.lfs:
            return self.data
        version = "https://git-lfs.github.com/spec/v1"
        return f"version {version}\noid sha256:{self.etag}\nsize {len(self.data)}\n".encode()

    @cached_property
    def etag(self) -> str:
        """Sha256 of a file in the storage, git's sha1 of another: what the client names its cached copy by."""
        return hashlib.sha256(self.data).hexdigest() if self.lfs else self.blob_id

    @cached_property
    def blob_id(self) -> str:
        """Git's sha1 of the file, or of the pointer that stands in git for it."""
        return hashlib.sha1(b"blob %d\0" % len(self._in_git) + self._in_git).hexdigest()

    def described(self) -> dict[str, object]:
        """Return what a listing says of the file, besides its path."""
        described: dict[str, object] = {"type": "file", "oid": self.blob_id, "size": len(self.data)}
        if self.lfs:
            described["lfs"] = {"oid": self.etag, "size": len(self.data), "pointerSize": len(self._in_git)}
        return described


@dataclass(frozen=True)
class Commit:
    """A snapshot of all files."""

    sha: str
    title: str
    parent: str | None
    files: Mapping[str, StoredFile]


@dataclass
class Repository:
    """Commits and the references to them.

    Attributes:
        name: "owner/name".
        readers: users besides the owner who may read the repository though it is private or gated.
        references: commit of each full name: "refs/heads/main", "refs/tags/v1", "refs/pr/1".
    """

    name: str
    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The user or organisation that the repository belongs to."""
        return self.name.partition("/")[0]

    def full_name(self, revision: str) -> str | None:
        """Return the full name of a branch, pull request or tag, None if there is no such reference."""
        names = (BRANCH + revision, TAG + revision, revision)
        return next((name for name in names if name in self.references), None)

    def find(self, revision: str) -> Commit | None:
        """Return the commit of a branch, tag, pull request or sha, of which 7 digits are enough."""
        name = self.full_name(revision)
        if name is not None:
            return self.commits[self.references[name]]
        shas = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        return self.commits[shas[0]] if len(shas) == 1 else None

    def commit(self, changes: Mapping[str, StoredFile | None], title: str, parent: str | None) -> Commit:
        """Return a new commit that no reference points to yet; a file that changes to None is deleted."""
        before = self.commits[parent].files if parent else {}
        files = {path: file for path, file in sorted({**before, **changes}.items()) if file is not None}
        content = [self.name, title, str(parent), str(len(self.commits)), *files]
        content += [file.etag for file in files.values()]
        sha = hashlib.sha1("\n".join(content).encode()).hexdigest()
        self.commits[sha] = Commit(sha, title, parent, files)
        return self.commits[sha]

    def history(self, commit: Commit) -> list[Commit]:
        """Return the commit and all before it, newest first."""
        found = [commit]
        while found[-1].parent is not None:
            found.append(self.commits[found[-1].parent])
        return found
