"""A Hugging Face Hub on this machine, in memory, for the real client to talk to; faults on demand."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

from loopback_hub.faults import KINDS, Fault, struck
from loopback_hub.messages import Answer, Call, Request
from loopback_hub.repository import BRANCH, TAG, Repository, StoredFile
from loopback_hub.routes import answer_call
from loopback_hub.server import Server
from loopback_hub.state import State

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class LoopbackHub:
    """A Hub while the `with` block lasts.

    Attributes:
        url: to be the client's HF_ENDPOINT.
        storage_url: where large files come from; another origin, as on the real Hub.
        user: whose token `token` is; `other_token` is another user's, "stranger".
        requests: all that came so far, in the order in which they were answered.
    """

    def __init__(self, *, user: str = "you", lfs: Sequence[str] = ("*.safetensors",)) -> None:
        """Set the Hub up.

        Args:
            lfs: shell patterns of the files to keep in the storage, apart from all above 10 MiB; () keeps every file
                in git.
        """
        self.user, self.token, self.other_token = user, "hf_loopback", "hf_stranger"
        self.requests: list[Request] = []
        self._servers = [Server(self._answer, storage=False), Server(self._answer, storage=True)]
        self.url, self.storage_url = (server.url for server in self._servers)
        users = {self.token: user, self.other_token: "stranger"}
        self._state = State(self.url, self.storage_url, users, tuple(lfs))
        self._faults: list[Fault] = []
        self._moves: list[tuple[int, str, Repository, str, str]] = []
        self._lock = threading.RLock()
        self._running = ExitStack()

    def __enter__(self) -> LoopbackHub:
        for server in self._servers:
            self._running.enter_context(server)
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.close()
        bugs = [bug for server in self._servers for bug in server.bugs]
        if bugs and exception[0] is None:
            raise RuntimeError(f"the loopback Hub itself failed:\n{bugs[0]}")

    def commit(
        self, repository: str, files: Mapping[str, bytes | None], branch: str | None = "main", title: str = "Commit"
    ) -> str:
        """Return the sha of a new commit, made without a request, in a repository that is created if need be.

        Args:
            files: what changes; None deletes a file.
            branch: to be moved to the commit; None makes one on top of main that no branch points to.
        """
        with self._lock:
            found = self._state.repositories.get(repository) or self._state.create(repository)
            changes = {
                path: None if data is None else StoredFile(data, self._state.is_lfs(path, len(data)))
                for path, data in files.items()
            }
            stored = (file for file in changes.values() if file is not None and file.lfs)
            self._state.objects.update({file.etag: file.data for file in stored})
            parent = found.references.get(BRANCH + (branch or "main")) or found.references[BRANCH + "main"]
            sha = found.commit(changes, title, parent).sha
            if branch is not None:
                found.references[BRANCH + branch] = sha
            return sha

    def tag(self, repository: str, name: str, revision: str = "main") -> None:
        """Point a tag to a commit, without a request."""
        with self._lock:
            found = self._state.repositories[repository]
            found.references[TAG + name] = found.find(revision).sha

    def restrict(
        self, repository: str, *, private: bool = False, gated: bool = False, readers: Sequence[str] = ()
    ) -> None:
        """Make a repository private or gated, for all but its owner and the users in `readers`."""
        with self._lock:
            found = self._state.repositories[repository]
            found.private, found.gated, found.readers = private, gated, set(readers)

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """Return path and content of every file of a commit."""
        return {path: file.data for path, file in self._state.repositories[repository].find(revision).files.items()}

    def history(self, repository: str, revision: str = "main") -> list[str]:
        """Return the shas of a commit and of all before it, newest first."""
        found = self._state.repositories[repository]
        return [commit.sha for commit in found.history(found.find(revision))]

    def references(self, repository: str) -> dict[str, str]:
        """Return the commit of each "refs/heads/...", "refs/tags/..." and "refs/pr/..."."""
        return dict(self._state.repositories[repository].references)

    def fault(
        self,
        path: str,
        kind: str,
        times: float = 1,
        *,
        method: str | None = None,
        after: int = 0,
        at: float = 0.5,
        seconds: float = 60,
    ) -> None:
        """Let something go wrong with requests to come; of several faults, the first that fits and is not used up.

        Args:
            path: shell pattern of the whole path, unquoted; "*/config.json" fits every request for that file.
            kind: one of `faults.KINDS`.
            times: how many requests; `math.inf` for all.
            method: of the requests; any if None.
            after: how many requests that fit are answered well before.
            at: share of the body that comes before a reset, an early close, a drip or a stall, 0..1.
            seconds: how long a stall lasts, from one byte of a drip to the next, or until when a rate limit holds.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of fault; there are {', '.join(KINDS)}")
        with self._lock:
            self._faults.append(Fault(path, kind, times, method, after, at, seconds))

    def mend(self) -> None:
        """Let nothing go wrong from now on."""
        with self._lock:
            self._faults.clear()
            self._moves.clear()

    def move_branch(self, repository: str, branch: str, revision: str, *, after: int = 0, path: str = "*") -> None:
        """Point a branch to another commit, once so many requests to `path` more have been answered."""
        with self._lock:
            found = self._state.repositories[repository]
            self._moves.append((after, path, found, BRANCH + branch, found.find(revision).sha))
            self._move(None)

    def fetched(self, pattern: str = "*") -> list[str]:
        """Return the files whose content was sent, or part of it, once for each time; sorted."""
        sent = [request.file for request in self.requests if request.method == "GET" and request.file is not None]
        return sorted(file for file in sent if fnmatchcase(file, pattern))

    def environment(self, cache: Path, **extra: str) -> dict[str, str]:
        """Return the whole environment of a child process whose client talks to this Hub, as `user`.

        Args:
            cache: to be HF_HOME.
            extra: variables to add or change; HF_TOKEN="" shows no token.
        """
        return {
            **os.environ,
            **dict.fromkeys((*_PROXIES, "HUGGING_FACE_HUB_TOKEN"), ""),
            **{"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_CACHE": str(cache / "hub")},
            **{"HF_TOKEN": self.token, "HF_HUB_OFFLINE": "0"},
            **{"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            **{"NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"},
            **extra,
        }

    def _answer(self, call: Call) -> tuple[Answer, Fault | None]:
        path = unquote(call.path)
        with self._lock:
            fault = struck(self._faults, call, path, None)
            if fault is not None:
                answer = fault.answer()
            else:
                answer = answer_call(self._state, call)
                fault = struck(self._faults, call, path, answer)
                answer = fault.spoil(answer) if fault is not None else answer
            server, agent = "storage" if call.storage else "hub", call.headers.get("user-agent", "")
            shown = {"authorized": "authorization" in call.headers, "range": call.headers.get("range")}
            request = Request(server, call.method, path, agent, **shown, status=answer.status, file=answer.file)
            self.requests.append(request)
            self._move(path)
        return answer, fault

    def _move(self, path: str | None) -> None:
        waiting = []
        for after, pattern, repository, reference, sha in self._moves:
            after -= path is not None and fnmatchcase(path, pattern)
            if after > 0:
                waiting.append((after, pattern, repository, reference, sha))
            else:
                repository.references[reference] = sha
        self._moves = waiting
