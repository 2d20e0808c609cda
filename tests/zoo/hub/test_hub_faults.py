"""The fault table: whatever goes wrong at the Hub, the right model is served or one sentence says what happened."""

import math
import re
import time
import warnings
from types import SimpleNamespace

import pytest
from huggingface_hub import close_session, constants, set_client_factory
from huggingface_hub.errors import HTTPError
from loopback_hub.faults import KINDS

from limpq_hub.errors import (
    ArtifactIntegrityError,
    HubGatedError,
    HubNotFoundError,
    HubUnauthorizedError,
    HubUnavailableError,
    LimpqError,
)
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.hub import limits as hub_limits
from limpq_hub.zoo.hub import repository as client
from limpq_hub.zoo.hub import upload as hub_upload
from limpq_hub.zoo.loading import load

PATHS = {
    "commit": "/api/models/you/tiny*",
    "config.json": "*/config.json",
    "indicators.json": "*/indicators.json",
    "model.safetensors": "*/policies/large/model.safetensors",
}
FILES = [file for file in PATHS if file != "commit"]
SERVED = (None, "")
ABSENT = (HubNotFoundError, ": the Hub shows no such repository; check the name, or give a token that may read it")
NO_REVISION = (HubNotFoundError, " no such revision; check the name of the branch, tag or commit")
LACKS = (HubNotFoundError, " lacks {}; tell its owner, or load another revision")
UNAUTHORIZED = (
    HubUnauthorizedError,
    ": the Hub answered {}; give a token that may do this: run `hf auth login`, or set",
)
GATED = (HubGatedError, " is gated; ask for access on its page on the Hub, then give a token that has it")
BROKEN = (HubUnavailableError, ": the connection to the Hub broke off; check the connection, or try again later")
SLOW = (HubUnavailableError, ": the Hub did not answer in time; check the connection, or try again later")
BUSY = (HubUnavailableError, ": the Hub did not answer ({}); try again later")
DAMAGED = (
    HubUnavailableError,
    ": what the Hub sent is damaged or cut off; try again, and check HF_ENDPOINT if it is set",
)


def of(outcome, word):
    return outcome[0], outcome[1].format(word)


# What a cold cache comes to while the fault lasts, whichever request it befalls.
COLD = {
    "repository not found": ABSENT,
    "revision not found": NO_REVISION,
    "entry not found": LACKS,
    "unauthorised": ABSENT,
    "invalid token": of(UNAUTHORIZED, "401: 'Invalid credentials in Authorization header'"),
    "gated": GATED,
    "forbidden": of(UNAUTHORIZED, "403: 'Forbidden: this token lacks the permission'"),
    "rate limited": of(BUSY, 429),
    "server error": of(BUSY, 500),
    "unavailable": of(BUSY, 503),
    "drop": BROKEN,
    "reset": BROKEN,
    "early close": BROKEN,
    "drip": SLOW,
    "stall": SLOW,
    "wrong length": DAMAGED,
    "flipped byte": (
        ArtifactIntegrityError,
        "; tell the owner of you/tiny, or load another revision: hf-hub:you/tiny@v1",
    ),
    "changed etag": SERVED,
}
# The request for the commit: a byte flipped in the list of files changes nothing, and nothing there has an ETag.
COLD_COMMIT = COLD | {"flipped byte": SERVED}
# What a fault that comes once leaves behind: the client asks again after some, `limpq_hub` after damage to a file.
PASSING = ("rate limited", "server error", "unavailable", "early close", "stall", "flipped byte", "changed etag")
# The Hub says no, so what it once said does not count; where it says nothing, the commit that it named last is used.
SAYS_NO = ("repository not found", "revision not found", "entry not found", "unauthorised", "invalid token")
SAYS_NO += ("gated", "forbidden")


@pytest.fixture
def served(on_hub, tiny):
    """A function that says what a search and a load read from a cache, as (None, "") if it is all the right thing."""

    def attempt(place: str, kind: str):
        on_hub.pauses.clear()
        began = time.perf_counter()
        try:
            entry = find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache)
            found = [entry.indicators.to_json(), entry.checkpoint("large").read("model.safetensors")]
        except LimpqError as error:
            outcome = type(error), str(error)
        else:
            weights = (tiny.folder / "policies/large/model.safetensors").read_bytes()
            assert found == [tiny.indicators.to_json(), weights]
            outcome = SERVED
        assert time.perf_counter() - began + sum(on_hub.pauses) < 60
        return outcome

    return attempt


def check(found, expected):
    assert found[0] is expected[0], found
    assert expected[1] in found[1]
    if found[0] is not None:
        assert found[1].startswith(("you/tiny@", "hf-hub:you/tiny@")), found[1]
        assert "\n" not in found[1]
        assert "hf_loopback" not in found[1]
        assert "127.0.0.1" not in found[1]
        assert not re.search("Error|Timeout|Exception", found[1]), "a class of Python's, not words"


@pytest.mark.parametrize(
    ("place", "kind", "times"),
    [
        *((place, kind, math.inf) for place in PATHS for kind in KINDS),
        *((place, kind, 1) for place in FILES for kind in PASSING),
    ],
)
def test_with_a_cold_cache_a_fault_is_one_sentence_or_passes(on_hub, served, monkeypatch, place, kind, times):
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.setattr(constants, name, 0.2)
    monkeypatch.setattr(hub_limits, "SECONDS", 0.2)
    on_hub.hub.fault(PATHS[place], kind, times, seconds=0.6)
    expected = (COLD_COMMIT if place == "commit" else COLD)[kind]
    if times == 1:
        expected = SERVED
    if expected is LACKS:
        asked_for = {"commit": "a file of a limpq-hub entry", "model.safetensors": "policies/large/model.safetensors"}
        expected = of(LACKS, asked_for.get(place, place))
    if place == "config.json" and expected[0] is HubNotFoundError:
        # The repository was there a moment ago.
        expected = (HubNotFoundError, " holds no config.json; is it an entry of limpq-hub?")
    check(served(place, kind), expected)
    on_hub.hub.mend()
    assert served(place, kind) == SERVED


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_warm_cache_what_the_hub_does_not_say_is_as_before_and_said_so(on_hub, served, monkeypatch, kind):
    monkeypatch.setattr(hub_limits, "SECONDS", 0.2)
    assert served("commit", kind) == SERVED
    on_hub.hub.fault(PATHS["commit"], kind, math.inf, seconds=0.6)
    expected = of(COLD_COMMIT[kind], "a file of a limpq-hub entry") if kind == "entry not found" else COLD_COMMIT[kind]
    if kind in SAYS_NO or expected == SERVED:
        check(served("commit", kind), expected)
        return
    with pytest.warns(UserWarning, match="^you/tiny@main: ") as caught:
        assert served("commit", kind) == SERVED
    commit = on_hub.hub.references("you/tiny")["refs/heads/main"]
    (said,) = [str(warning.message) for warning in caught]
    check((expected[0], said), expected)
    assert said.endswith(f"; the commit that it named last is used: {commit[:12]}")


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_warm_cache_no_fault_of_a_file_is_even_noticed(on_hub, served, kind):
    assert served("file", kind) == SERVED
    came = len(on_hub.hub.requests)
    for file in FILES:
        on_hub.hub.fault(PATHS[file], kind, math.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert served("file", kind) == SERVED
    assert [request.path for request in on_hub.hub.requests[came:]] == ["/api/models/you/tiny"]


def test_a_branch_that_moves_between_two_files_gives_all_of_one_commit(on_hub, tiny):
    old = on_hub.hub.references("you/tiny")["refs/heads/main"]
    new = on_hub.hub.commit("you/tiny", {"indicators.json": b"{}", "classes.json": b"[]"}, branch=None)
    on_hub.hub.move_branch("you/tiny", "main", new, after=1, path="*/config.json")
    model = load("hf-hub:you/tiny", policy=tiny.policies["large"], cache_dir=on_hub.cache)
    assert on_hub.hub.references("you/tiny")["refs/heads/main"] == new
    assert (model.limpq.revision, model.limpq.weights) == (old, "finetuned")
    assert [found["id"] for found in model.limpq.classes] == [f"n{index:04d}" for index in range(10)]


@pytest.mark.parametrize("sha", [None, "", "main", "../../../secret", "f" * 39, "F" * 40])
def test_an_answer_that_names_no_commit_is_refused_and_not_remembered(on_hub, monkeypatch, sha):
    class Info:
        pass

    Info.sha = sha
    monkeypatch.setattr(client.HfApi, "model_info", lambda *given, **named: Info)
    with pytest.raises(HubUnavailableError, match="you/tiny@main: what the Hub sent is damaged"):
        client.resolve_commit("you/tiny", None, on_hub.cache, None)


@pytest.mark.parametrize("damage", [b"", b"\0", b"\xff", b"main", b"../../../secret", b"f" * 39])
def test_a_damaged_memory_of_the_last_commit_serves_nothing(on_hub, served, tmp_path, damage):
    assert served("commit", "drop") == SERVED
    (reference,) = (tmp_path / "hub-cache").glob("models--you--tiny/refs/main")
    reference.write_bytes(damage)
    on_hub.hub.fault(PATHS["commit"], "drop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = served("commit", "drop")
    assert found[0] is not None
    on_hub.hub.mend()
    assert served("commit", "drop") == SERVED


# How long a Hub that takes a connection and never answers is waited for, with the settings that users have.

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CALLS = {
    "commit": lambda folder: client.resolve_commit("you/tiny", None, str(folder / "c"), None),
    "file": lambda folder: client.fetch_file("you/tiny", "indicators.json", COMMIT, str(folder / "c"), None),
    "file anew": lambda folder: client.fetch_file("you/tiny", "a.json", COMMIT, str(folder / "c"), None, anew=True),
    "list": lambda folder: client.list_repositories("you"),
    "tags": lambda folder: client.tags_of("you/tiny"),
    "tag": lambda folder: hub_upload.create_tag("you/tiny", "v1", COMMIT),
    "upload": lambda folder: hub_upload.upload_folder(folder, "you/tiny", message="m"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_hub_that_never_answers_is_given_up_within_two_minutes(online, monkeypatch, tmp_path, call):
    http = pytest.importorskip(HTTPError.__module__.partition(".")[0])
    (tmp_path / "config.json").write_text("{}")
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.setattr(constants, name, 10)
    waited = online.pauses
    monkeypatch.setattr(hub_limits, "time", SimpleNamespace(monotonic=lambda: sum(waited)))

    def never(request):
        seconds = request.extensions["timeout"].get("read")
        waited.append(math.inf if seconds is None else seconds)
        raise http.ReadTimeout("nothing came", request=request)

    close_session()
    set_client_factory(lambda: http.Client(transport=http.MockTransport(never), timeout=None))
    try:
        with pytest.raises(HubUnavailableError, match=r"^(you/tiny@\w+|the models of you): the Hub did not answer "):
            CALLS[call](tmp_path)
    finally:
        from huggingface_hub.utils._http import default_client_factory

        set_client_factory(default_client_factory)
    assert sum(waited) <= 120, waited
    assert max(waited) <= 30
