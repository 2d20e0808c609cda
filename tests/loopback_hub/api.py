"""The addresses below /api/: repositories, listings, commits, branches and tags, answered in JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from loopback_hub.messages import Answer, Call, json_answer, refusal
from loopback_hub.repository import BRANCH, PULL_REQUEST, TAG, Commit, Repository, StoredFile
from loopback_hub.state import State, commit_of, no_revision

DATE = "2026-01-01T00:00:00.000Z"


def answer_api(state: State, call: Call, segments: list[str]) -> Answer:
    """Return the answer to a call.

    Args:
        segments: of the path below /api/, unquoted.

    Raises:
        Refused: the call is not carried out.
    """
    user = state.user(call)
    match (call.method, *segments):
        case "GET", "agent-harnesses":
            return json_answer({"standardEnvVars": [], "harnesses": {}})
        case "GET", "whoami-v2":
            return json_answer({"type": "user", "name": state.known_user(call), "orgs": []})
        case "POST", "validate-yaml":
            warned = [] if call.json()["content"].startswith("---") else ["empty or missing yaml metadata in repo card"]
            return json_answer({"errors": [], "warnings": [{"message": message} for message in warned]})
        case "POST", "repos", "create":
            return _create(state, call.json(), state.known_user(call))
        case "GET", "models":
            return _models(state, call.query, user)
        case method, "models", owner, name, *rest:
            return _repository(state, call, f"{owner}/{name}", user, (method, *rest))
    raise refusal(404, "Sorry, we can't find the page you are looking for.")


def _create(state: State, asked: Mapping[str, Any], user: str) -> Answer:
    owner = asked.get("organization") or user
    name = f"{owner}/{asked['name']}"
    if owner != user:
        raise refusal(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
    url = {"url": f"{state.url}/{name}"}
    if name in state.repositories:
        return json_answer({"error": "You already created this model repo", **url}, 409)
    state.create(name, private=asked.get("visibility") == "private" or asked.get("private", False))
    return json_answer({"name": name, **url})


def _models(state: State, query: Mapping[str, str], user: str | None) -> Answer:
    found = [
        _info(repository, commit_of(repository, "main"))
        for repository in state.repositories.values()
        if not repository.private or user in {repository.owner, *repository.readers}
        if query.get("author", repository.owner) == repository.owner and query.get("search", "") in repository.name
    ]
    return json_answer([info for info in found if query.get("filter") in {None, *info["tags"]}])


def _repository(state: State, call: Call, name: str, user: str | None, asked: tuple[str, ...]) -> Answer:
    repository = state.readable(name, user)
    match asked:
        case ("GET",) | ("GET", "revision", _):
            commit = commit_of(repository, asked[2] if len(asked) > 1 else "main")
            return json_answer(_info(repository, commit))
        case "GET", "tree", revision:
            files = commit_of(repository, revision).files
            return json_answer([{"path": path, **file.described()} for path, file in files.items()])
        case "GET", "commits", revision:
            history = repository.history(commit_of(repository, revision))
            described = {"authors": [{"user": repository.owner}], "date": DATE, "message": ""}
            return json_answer([{"id": commit.sha, "title": commit.title, **described} for commit in history])
        case "GET", "refs":
            return json_answer(_references(repository) | {"converts": []})
        case "POST", "preupload", revision:
            files = commit_of(state.readable(name, state.known_user(call), content=True), revision).files
            return json_answer({"files": [_upload_mode(state, files, file) for file in call.json()["files"]]})
        case "POST", "commit", revision:
            return _commit(state, repository, revision, call)
    repository = state.writable(name, state.known_user(call))
    match asked:
        case "POST", ("tag" | "branch") as kind, given:
            prefix, revision = (TAG, given) if kind == "tag" else (BRANCH, call.json().get("startingPoint", "main"))
            full_name = prefix + (call.json()["tag"] if kind == "tag" else given)
            if full_name in repository.references:
                raise refusal(409, f"{kind.capitalize()} {full_name.removeprefix(prefix)} already exists")
            repository.references[full_name] = commit_of(repository, revision).sha
            return Answer()
        case "DELETE", ("tag" | "branch") as kind, given:
            if repository.references.pop((TAG if kind == "tag" else BRANCH) + given, None) is None:
                raise no_revision(given)
            return Answer()
    raise refusal(404, "Sorry, we can't find the page you are looking for.")


def _info(repository: Repository, commit: Commit) -> dict[str, Any]:
    card = commit.files.get("README.md", StoredFile(b"")).data.decode()
    front_matter = card.split("---\n")[1] if card.startswith("---\n") else ""
    return {
        **{"id": repository.name, "modelId": repository.name, "author": repository.owner, "sha": commit.sha},
        **{"private": repository.private, "gated": "auto" if repository.gated else False, "disabled": False},
        **{"downloads": 0, "likes": 0, "createdAt": DATE, "lastModified": DATE},
        "siblings": [{"rfilename": path} for path in commit.files],
        # Every item of a list of the front matter, where the real Hub takes only some lists, and the library.
        "tags": re.findall(r"^(?:\s*- |library_name: )(.+)$", front_matter, re.MULTILINE),
    }


def _references(repository: Repository) -> dict[str, list[dict[str, str]]]:
    kinds = {"branches": BRANCH, "tags": TAG, "pullRequests": PULL_REQUEST}
    return {
        kind: [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha}
            for ref, sha in repository.references.items()
            if ref.startswith(prefix)
        ]
        for kind, prefix in kinds.items()
    }


def _upload_mode(state: State, files: Mapping[str, StoredFile], asked: Mapping[str, Any]) -> dict[str, Any]:
    mode = "lfs" if state.is_lfs(asked["path"], asked["size"]) else "regular"
    described = {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}
    return described | ({"oid": files[asked["path"]].etag} if asked["path"] in files else {})


def _commit(state: State, repository: Repository, revision: str, call: Call) -> Answer:
    pull_request, user = "create_pr" in call.query, state.known_user(call)
    if not pull_request:
        state.writable(repository.name, user)
    reference = repository.full_name(revision)
    if reference is None or reference.startswith(TAG):
        raise no_revision(revision)
    parent = repository.commits[repository.references[reference]]
    header, *operations = (json.loads(line) for line in call.body.splitlines())
    if not parent.sha.startswith(header["value"].get("parentCommit", "")):
        raise refusal(412, "A commit has happened since. Please refresh and try again.")
    changes: dict[str, StoredFile | None] = {}
    for operation in operations:
        changes |= _change(state, parent, operation["key"], operation["value"])
    commit = repository.commit(changes, header["value"]["summary"], parent.sha)
    made = {"success": True, "commitOid": commit.sha, "commitUrl": f"{state.url}/{repository.name}/commit/{commit.sha}"}
    if pull_request:
        number = 1 + sum(name.startswith(PULL_REQUEST) for name in repository.references)
        reference = f"{PULL_REQUEST}{number}"
        made["pullRequestUrl"] = f"{state.url}/{repository.name}/discussions/{number}"
    repository.references[reference] = commit.sha
    return json_answer(made)


def _change(state: State, parent: Commit, kind: str, value: Mapping[str, Any]) -> dict[str, StoredFile | None]:
    path = value["path"]
    match kind:
        case "file":
            return {path: StoredFile(base64.b64decode(value["content"]))}
        case "lfsFile":
            if value["oid"] not in state.objects:
                raise refusal(400, f"LFS pointer of {path} pointed to a file that does not exist")
            return {path: StoredFile(state.objects[value["oid"]], lfs=True)}
        case "deletedFile" | "deletedFolder":
            gone = [file for file in parent.files if file == path or file.startswith(f"{path.rstrip('/')}/")]
            if not gone:
                raise refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            return dict.fromkeys(gone)
    raise refusal(400, f"Unknown operation {kind}")
