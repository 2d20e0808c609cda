"""Which part of the Hub answers a request."""

from __future__ import annotations

from urllib.parse import unquote

from loopback_hub.api import answer_api
from loopback_hub.content import answer_storage, lfs_batch, lfs_verify, resolve, resolve_kept
from loopback_hub.messages import Answer, Call, Refused, refusal
from loopback_hub.state import State


def answer_call(state: State, call: Call) -> Answer:
    """Return the answer to a request, after it has been carried out; that of a refusal, if it has not."""
    try:
        return _carried_out(state, call)
    except Refused as refused:
        return refused.answer


def _carried_out(state: State, call: Call) -> Answer:
    # A revision may have slashes of its own, which come quoted.
    segments = [unquote(segment) for segment in call.path.strip("/").split("/")]
    if call.storage:
        return answer_storage(state, call, segments)
    match segments:
        case ["api", "resolve-cache", "models", owner, name, sha, *path]:
            return resolve_kept(state, call, f"{owner}/{name}", sha, "/".join(path))
        case ["api", *rest]:
            return answer_api(state, call, rest)
        case [owner, name, "resolve", revision, *path]:
            return resolve(state, call, f"{owner}/{name}", revision, "/".join(path))
        case [owner, name, "info", "lfs", "objects", ("batch" | "verify") as step]:
            answer_step = lfs_batch if step == "batch" else lfs_verify
            return answer_step(state, call, f"{owner}/{name.removesuffix('.git')}")
    raise refusal(404, "Sorry, we can't find the page you are looking for.")
