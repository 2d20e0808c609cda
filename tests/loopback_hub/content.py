"""The content of files: downloads through the Hub and from its storage, uploads to the storage."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from loopback_hub.messages import Answer, Call, json_answer, refusal
from loopback_hub.repository import Commit, Repository, StoredFile
from loopback_hub.state import State, commit_of

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def resolve(state: State, call: Call, name: str, revision: str, path: str) -> Answer:
    """Return a file, or where it is: a large one in the storage, one of a public repository below its commit.

    Raises:
        Refused: there is no such file, or the user may not read it.
    """
    repository = state.readable(name, state.user(call), content=True)
    commit, file = _found(repository, revision, path)
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    linked = {**headers, "X-Linked-Size": str(len(file.data)), "X-Linked-ETag": f'"{file.etag}"'}
    if file.lfs:
        # The name comes last, so that one pattern finds a file on the Hub and in the storage.
        return Answer(302, headers={**linked, "Location": f"{state.storage_url}/{name}/{file.etag}/{quote(path)}"})
    if repository.private or repository.gated or not file.data:
        return _content(call, file, path, headers)
    kept = f"/api/resolve-cache/models/{name}/{commit.sha}/{quote(path)}?etag={quote(headers['ETag'])}"
    return Answer(307, headers={**linked, "Location": kept})


def resolve_kept(state: State, call: Call, name: str, sha: str, path: str) -> Answer:
    """Return a file of a commit of a public repository; raises like `resolve`."""
    repository = state.readable(name, state.user(call), content=True)
    commit, file = _found(repository, sha, path)
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    return _content(call, file, path, headers)


def answer_storage(state: State, call: Call, segments: list[str]) -> Answer:
    """Return the answer of the storage, whose addresses are signed: it wants no token.

    Raises:
        Refused: there is no such object, or a token came along.
    """
    if "authorization" in call.headers:
        raise refusal(400, "Only one auth mechanism allowed")
    match (call.method, *segments):
        case "PUT", "upload", oid:
            if hashlib.sha256(call.body).hexdigest() != oid:
                raise refusal(400, "The content is not the one that was announced")
            state.objects[oid] = call.body
            return Answer(headers={"ETag": f'"{oid}"'})
        case (("GET" | "HEAD"), owner, name, oid, *path):
            stored = state.repositories[f"{owner}/{name}"].commits.values()
            file = next((file for commit in stored for file in commit.files.values() if file.etag == oid), None)
            if file is not None:
                return _content(call, file, "/".join(path), {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})
    raise refusal(404, "NoSuchKey")


def lfs_batch(state: State, call: Call, name: str) -> Answer:
    """Return where to upload each object, nothing for one that the storage has; raises `Refused` like `readable`."""
    repository = state.readable(name, state.known_user(call), content=True)
    verify = {"href": f"{state.url}/{repository.name}.git/info/lfs/objects/verify"}
    answered = []
    for asked in call.json()["objects"]:
        answered.append({"oid": asked["oid"], "size": asked["size"], "authenticated": True})
        if asked["oid"] not in state.objects:
            upload = {"href": f"{state.storage_url}/upload/{asked['oid']}"}
            answered[-1]["actions"] = {"upload": upload, "verify": verify}
    return json_answer({"transfer": "basic", "objects": answered})


def lfs_verify(state: State, call: Call, name: str) -> Answer:
    """Return whether an object was uploaded whole; raises `Refused` if not."""
    state.readable(name, state.known_user(call), content=True)
    asked = call.json()
    if len(state.objects.get(asked["oid"], b"")) != asked["size"]:
        raise refusal(404, "The object was not uploaded")
    return json_answer({})


def _found(repository: Repository, revision: str, path: str) -> tuple[Commit, StoredFile]:
    commit = commit_of(repository, revision)
    file = commit.files.get(path)
    if file is None:
        raise refusal(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.sha)
    return commit, file


def _content(call: Call, file: StoredFile, path: str, headers: dict[str, str]) -> Answer:
    size, asked = len(file.data), _RANGE.fullmatch(call.headers.get("range", ""))
    if asked is None:
        return Answer(200, file.data, headers, file=path)
    start, end = int(asked[1]), min(int(asked[2] or size), size - 1)
    if start > end:
        raise refusal(416, "Requested Range Not Satisfiable", Content_Range=f"bytes */{size}")
    headers = {**headers, "Content-Range": f"bytes {start}-{end}/{size}"}
    return Answer(206, file.data[start : end + 1], headers, file=path)
