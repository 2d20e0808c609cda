"""What a client asks and what a Hub answers, with the headers by which the client tells one refusal from another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        storage: the request came to the storage, not to the Hub.
        path: as sent, still quoted, without the query.
        headers: by name in lower case.
    """

    storage: bool
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """A response; `file` is the path in the repository of the file whose content is the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    file: str | None = None


@dataclass(frozen=True)
class Request:
    """A request that came, and what was answered.

    Attributes:
        server: "hub" or "storage".
        path: unquoted, without the query.
        status: 0 if the connection was reset instead.
        file: as in `Answer`.
    """

    server: str
    method: str
    path: str
    user_agent: str
    authorized: bool
    range: str | None
    status: int
    file: str | None


class Refused(Exception):
    """Raised where a request is not carried out; holds the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(content: Any, status: int = 200) -> Answer:
    """Return an answer with a JSON body."""
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json; charset=utf-8"})


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Refused:
    """Return a refusal as the Hub words one: in headers, for a HEAD has no body, and in the body.

    Args:
        code: of the header X-Error-Code, which makes the class of the client's exception.
        headers: more of them, `_` in a name for `-`.
    """
    answer = json_answer({"error": message}, status)
    more = {name.replace("_", "-"): value for name, value in headers.items()} | {"X-Error-Message": message}
    if code is not None:
        more["X-Error-Code"] = code
    return Refused(Answer(status, answer.body, {**answer.headers, **more}))


def unauthorised() -> Refused:
    """Return what a Hub says to who shows no token, whether or not the repository exists."""
    # The real Hub gives no code here: the client knows the case by an address with https, which this one lacks.
    return refusal(401, "Invalid username or password.", "RepoNotFound")


def gated(repository: str, user: str | None) -> Refused:
    """Return what a Hub says to who has not been let into a gated repository."""
    if user is None:
        advice = "You must have access to it and be authenticated to access it. Please log in."
        return refusal(401, f"Access to model {repository} is restricted. {advice}", "GatedRepo")
    return refusal(
        403, f"Access to model {repository} is restricted and you are not in the authorized list.", "GatedRepo"
    )
