"""What may go wrong on demand: which requests, how often, and what becomes of the answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from loopback_hub.messages import Answer, Call, refusal

# Status, message and X-Error-Code of the answers that stand for the one that was due.
REFUSALS = {
    "repository not found": (404, "Repository not found", "RepoNotFound"),
    "revision not found": (404, "Invalid rev id: main", "RevisionNotFound"),
    "entry not found": (404, "Entry not found", "EntryNotFound"),
    "unauthorised": (401, "Invalid username or password.", "RepoNotFound"),
    "invalid token": (401, "Invalid credentials in Authorization header", None),
    "gated": (403, "Access to this model is restricted and you are not in the authorized list.", "GatedRepo"),
    "forbidden": (403, "Forbidden: this token lacks the permission", None),
    "rate limited": (429, "Too Many Requests", None),
    "server error": (500, "Internal Error - We're working hard to fix this as soon as possible!", None),
    "unavailable": (503, "Service Unavailable", None),
}
# The request is not carried out: the connection is reset before any byte of an answer.
DROPPED = "drop"
# The request is carried out; of its answer half the body comes, and then
BROKEN = {
    "reset": "the connection is reset",
    "early close": "the connection is closed as if all had come",
    "drip": "one byte comes every so many seconds",
    "stall": "nothing for some seconds, then the rest; without a body, the headers come late",
}
# The answer is well-formed, and wrong.
WRONG = ("wrong length", "flipped byte", "changed etag")
KINDS = (*REFUSALS, DROPPED, *BROKEN, *WRONG)


@dataclass
class Fault:
    """A fault; `LoopbackHub.fault` says what the attributes mean."""

    path: str
    kind: str
    times: float
    method: str | None
    after: int
    at: float
    seconds: float

    def strikes(self, call: Call, path: str, answer: Answer | None) -> bool:
        """Return whether the fault befalls a call, and count it if so.

        Args:
            path: of the call, unquoted.
            answer: None while the call has not been carried out.
        """
        if self.times <= 0 or not fnmatchcase(path, self.path) or self.method not in (None, call.method):
            return False
        if (answer is None) != (self.kind in REFUSALS or self.kind == DROPPED):
            return False
        bodiless = answer is not None and (call.method == "HEAD" or not answer.body)
        if bodiless and self.kind not in ("stall", "changed etag"):
            return False
        if self.kind == "changed etag" and answer is not None and "ETag" not in answer.headers:
            return False
        self.after -= 1
        if self.after >= 0:
            return False
        self.times -= 1
        return True

    def answer(self) -> Answer:
        """Return the answer that stands for the one that was due; one of status 0 is not sent."""
        if self.kind == DROPPED:
            return Answer(0)
        status, message, code = REFUSALS[self.kind]
        limit = {"RateLimit": f'"api";r=0;t={self.seconds:.0f}'} if status == 429 else {}
        return refusal(status, message, code, **limit).answer

    def spoil(self, answer: Answer) -> Answer:
        """Return the answer with what is `WRONG` about it."""
        body = answer.body
        if self.kind == "wrong length":
            return replace(answer, body=body[:-1])
        if self.kind == "flipped byte":
            middle = len(body) // 2
            return replace(answer, body=body[:middle] + bytes([body[middle] ^ 0x10]) + body[middle + 1 :])
        if self.kind == "changed etag":
            changed = {name: value[:-2] + '0"' for name, value in answer.headers.items() if name.endswith("ETag")}
            return replace(answer, headers={**answer.headers, **changed})
        return answer


def struck(faults: Iterable[Fault], call: Call, path: str, answer: Answer | None) -> Fault | None:
    """Return the first fault that befalls a call; see `Fault.strikes`."""
    return next((fault for fault in faults if fault.strikes(call, path, answer)), None)
