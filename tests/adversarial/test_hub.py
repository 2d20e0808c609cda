"""Attacks of a Hub that lies: names that become paths, answers without end, tokens that cannot be sent."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import random
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import _http

from limpq_hub.errors import (
    ArtifactFormatError,
    ArtifactIntegrityError,
    HubError,
    HubUnauthorizedError,
    HubUnavailableError,
)
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.folder import open_folder
from limpq_hub.zoo.hub import repository as hub
from limpq_hub.zoo.hub.limits import ANSWER_BYTES
from limpq_hub.zoo.hub.publishing import push_entry

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
http = importlib.import_module(HTTPError.__module__.partition(".")[0])
COMMIT, ETAG = "c" * 40, "e" * 40
EVIL_NAMES = [
    *(
        "../../../../victim.py",
        "..",
        ".",
        "/victim.py",
        "a/../../../../victim.py",
        "a/b",
        "..\\victim.py",
        "C:\\victim",
    ),
    *("e" * 39, "e" * 41, "E" * 40, "g" * 40, "e" * 40 + "/..", "e" * 40 + "\\", "e" * 64 + ".lock", "e" * 5000, " "),
]


@pytest.fixture
def lie(online):
    """A function that lets every request be answered by a function of the request.

    The one that the client makes by itself, once in a process, about the programs that use it, is answered with 404.
    """

    def start(answer) -> None:
        def answer_all(request):
            return http.Response(404) if request.url.path == "/api/agent-harnesses" else answer(request)

        factory = {"transport": http.MockTransport(answer_all), "follow_redirects": True}
        set_client_factory(lambda: http.Client(**factory))

    yield start
    set_client_factory(_http.default_client_factory)


def endless(piece: bytes, taken: list[int]):
    """A body without an end, which counts what is taken of it."""
    while True:
        taken.append(len(piece))
        yield piece


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# Names


@pytest.mark.parametrize("name", EVIL_NAMES)
@pytest.mark.parametrize("header", ["ETag", "X-Linked-ETag", "X-Repo-Commit"])
@pytest.mark.parametrize("status", [200, 302, 404])
def test_a_name_that_the_client_would_make_a_path_of_is_refused_and_nothing_is_written(
    lie, online, tmp_path, header, name, status
):
    (tmp_path / "victim.py").write_text("mine")

    def answer(request):
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{ETAG}"', header: f'"{name}"' if "ETag" in header else name}
        if status == 404:
            headers["X-Error-Code"] = "EntryNotFound"
        if status == 302:
            headers["Location"] = "http://127.0.0.1:9/storage"
        return http.Response(status if request.method == "HEAD" else 200, headers=headers, content=b"print('evil')")

    lie(answer)
    with pytest.raises(HubError) as caught:
        hub.fetch_file("you/tiny", "indicators.json", COMMIT, online.cache, None, size_bytes=100)
    # Of an answer that there is no such file the client makes no blob, and looks at no ETag.
    if not (status == 404 and "ETag" in header):
        what = "a commit named" if header == "X-Repo-Commit" else "an ETag of"
        assert f"what the Hub sent is damaged ({what} " in str(caught.value)
    assert str(caught.value).isprintable()
    assert (tmp_path / "victim.py").read_text() == "mine"
    assert {path for path in files_below(tmp_path) if not path.startswith("hub-cache")} == {"victim.py"}
    names = {part for path in files_below(tmp_path) for part in path.split("/")}
    known = {"hub-cache", "victim.py", "models--you--tiny", ".no_exist", COMMIT, "indicators.json", "refs"}
    assert names <= known


@pytest.mark.parametrize("etag", [ETAG, "e" * 64])
@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', "{}"])
def test_an_etag_of_the_hub_is_taken_in_every_form(lie, online, etag, form):
    headers = {"X-Repo-Commit": COMMIT, "ETag": form.format(etag)}
    lie(lambda request: http.Response(200, headers=headers, content=b"{}"))
    path = hub.fetch_file("you/tiny", "indicators.json", COMMIT, online.cache, None, size_bytes=2)
    assert path.read_bytes() == b"{}"
    assert path.resolve().name == etag


def test_the_etag_of_the_storage_may_be_anything(lie, online):
    """The client takes the name of a file from the Hub alone."""

    def answer(request):
        if request.method == "HEAD":
            return http.Response(200, headers={"X-Repo-Commit": COMMIT, "ETag": f'"{ETAG}"'})
        return http.Response(200, headers={"ETag": '"d41d8cd98f-12"'}, content=b"{}")

    lie(answer)
    assert hub.fetch_file("you/tiny", "x.json", COMMIT, online.cache, None, size_bytes=2).read_bytes() == b"{}"


@pytest.mark.parametrize("name", [*EVIL_NAMES, None, 5, ["c"]])
def test_a_commit_that_is_none_is_refused_wherever_the_hub_names_one(on_hub, tiny, tmp_path, monkeypatch, name):
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: SimpleNamespace(sha=name))
    with pytest.raises(HubUnavailableError, match="what the Hub sent is damaged: no commit; try again"):
        find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache)
    assert files_below(tmp_path) <= {"hub-cache"}


@pytest.mark.parametrize("name", EVIL_NAMES[:4])
def test_a_push_does_not_read_back_from_a_commit_that_is_none(online, tiny, tmp_path, monkeypatch, name):
    monkeypatch.setattr(HfApi, "create_commit", lambda *_, **__: SimpleNamespace(oid=name))
    with pytest.raises(HubUnavailableError, match="^you/net@main: what the Hub sent is damaged: no commit; try again$"):
        push_entry(find_entry(tiny.name), "you/net")
    assert "victim.py" not in str(files_below(tmp_path))


@pytest.mark.parametrize("name", ["../../x", "x", "", None, "you/\x1b[2J", "you/a b"])
def test_a_list_of_what_are_no_repositories_is_refused(lie, name):
    lie(lambda request: http.Response(200, json=[{"id": name, "modelId": name, "createdAt": None}]))
    with pytest.raises(HubUnavailableError) as caught:
        hub.list_repositories("you")
    assert str(caught.value).startswith("the models of you: what the Hub sent is damaged")


# Sizes


@pytest.mark.parametrize("size_bytes", [None, 1000, 10**6])
def test_a_file_without_an_end_is_cut_off_and_nothing_of_it_stays(lie, online, size_bytes):
    taken = []

    def answer(request):
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{ETAG}"'}
        if request.method == "HEAD":
            return http.Response(200, headers=headers)
        return http.Response(200, headers=headers, content=endless(bytes(2**16), taken))

    lie(answer)
    tracemalloc.start()
    with pytest.raises(HubUnavailableError, match=rf"\(more than {size_bytes or ANSWER_BYTES} bytes\); try again$"):
        hub.fetch_file("you/tiny", "config.json", COMMIT, online.cache, None, size_bytes=size_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(taken) <= (size_bytes or ANSWER_BYTES) + 2**16
    assert peak < 2 * ANSWER_BYTES
    assert not [path for path in Path(online.cache).rglob("*") if path.is_file() and path.stat().st_size > 1000]


CALLS = {
    "commit": lambda cache: find_entry("hf-hub:you/tiny", cache_dir=cache),
    "list": lambda cache: hub.list_repositories("you"),
    "tags": lambda cache: hub.tags_of("you/tiny"),
    "token": lambda cache: hub.token_holder("you/tiny"),
    "files": lambda cache: hub.refuse_pickles("you/tiny", COMMIT, None),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [200, 400, 403])
def test_an_answer_without_an_end_is_cut_off(lie, online, call, status):
    taken = []
    lie(lambda request: http.Response(status, content=endless(b"[" * 2**16, taken)))
    with pytest.raises(HubError):
        CALLS[call](online.cache)
    assert sum(taken) <= ANSWER_BYTES + 2**16


@pytest.mark.parametrize("call", ["list", "files"])
def test_pages_without_an_end_are_cut_off_together(lie, online, call):
    asked = itertools.count()
    page = json.dumps([{"id": "you/net", "type": "file", "path": "x" * 9999, "oid": ETAG, "size": 1}] * 50).encode()

    def answer(request):
        link = f'<http://127.0.0.1/api/more?cursor={next(asked)}>; rel="next"'
        return http.Response(200, headers={"Link": link}, content=iter([page]))

    lie(answer)
    with pytest.raises(HubUnavailableError, match=rf"\(more than {ANSWER_BYTES} bytes\); try again$"):
        CALLS[call](online.cache)
    assert next(asked) <= ANSWER_BYTES / len(page) + 2


def test_models_without_an_end_are_not_made_much_of(lie):
    lie(lambda request: http.Response(200, json=[{"id": "you/net"}] * 100_000))
    began = time.process_time()
    with pytest.raises(HubUnavailableError, match="^the models of you: more than 1,000, which cannot be listed; name"):
        hub.list_repositories("you")
    assert time.process_time() - began < 5


@pytest.mark.parametrize("size", [-1, 2**36 + 1, 10**18, 10**400])
@pytest.mark.parametrize("file", ["supernet.safetensors", "classes.json"])
def test_a_size_that_cannot_be_is_refused_before_anything_is_fetched(entry_copy, seal, file, size):
    config = json.loads((entry_copy / "config.json").read_text())
    config["files"][file]["bytes"] = size
    seal(entry_copy, config)
    with pytest.raises(
        ArtifactFormatError, match=rf"config\.json: '{file}' of .* bytes with sha256 .* cannot be; such"
    ):
        open_folder("x", lambda name, _: entry_copy / name, "entry")


# Tokens


@pytest.mark.parametrize("token", ["", " ", "\n", " hf_loopback", "hf_loopback\n", "\thf_loopback\r\n"])
def test_space_around_a_token_is_none_of_it_and_an_empty_one_is_none(on_hub, tmp_path, token):
    entry = find_entry("hf-hub:you/tiny", cache_dir=str(tmp_path / "other"), token=token)
    assert entry.indicators.model == "test_resnet"


BAD_TOKENS = ["hf_тест", "hf_ test", "hf_\ntest", "hf_\x00", "hf_\x7f", "“hf_test”", "hf_\xe9", "\ud800"]


@pytest.mark.parametrize("token", BAD_TOKENS)
@pytest.mark.parametrize("call", [
    lambda cache, token: find_entry("hf-hub:you/tiny", cache_dir=cache, token=token),
    lambda cache, token: find_entry(f"hf-hub:you/tiny@{COMMIT}", cache_dir=cache, token=token),
    lambda cache, token: hub.list_repositories("you", token),
    lambda cache, token: hub.token_holder("you/net", token),
    lambda cache, token: hub.tags_of("you/net", token),
])  # fmt: skip
def test_a_token_that_cannot_be_sent_is_to_blame_and_is_not_shown(on_hub, call, token):
    with pytest.raises(HubUnauthorizedError) as caught:
        call(on_hub.cache, token)
    assert str(caught.value) == (
        "the token given by token= cannot be sent: it has a space, or a character that is not ASCII; copy it again, it "
        "is hf_ and letters and digits"
    )
    assert on_hub.hub.requests == []


@pytest.mark.parametrize("token", ["hf_тест", "hf_ test"])
def test_one_that_was_set_is_to_blame_as_well_even_where_the_cache_knows_the_commit(on_hub, monkeypatch, token):
    find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubUnauthorizedError, match="^the token that HF_TOKEN or `hf auth login` set cannot be sent: "):
        find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache)


# Everything at random


def random_answer(random_: random.Random, request):
    """An answer of any status, with headers and a body that may fit, or not at all."""
    name = random_.choice([*EVIL_NAMES, COMMIT, ETAG])
    headers = {
        "X-Repo-Commit": random_.choice([*[COMMIT] * 9, name]),
        "ETag": random_.choice([f'"{ETAG}"', f'"{name}"', name]),
        "Content-Type": random_.choice(["application/json", "text/html"]),
    }
    for header, values in {
        "X-Linked-ETag": [name],
        "X-Linked-Size": ["-1", "1e9", "99999999999999999999"],
        "X-Error-Code": ["EntryNotFound", "RepoNotFound", "RevisionNotFound", "GatedRepo", "\x7f"],
        "X-Error-Message": ["no", "\x1b[2J", "x" * 9999],
        "Content-Range": ["bytes 0-1/9", "nonsense"],
        "Location": ["/", "http://127.0.0.1:9/x", "file:///etc/passwd", "//", "http://[", "a" * 9999],
    }.items():
        if random_.random() < 0.3:
            headers[header] = random_.choice(values)
    bodies = [b"", b"{}", b"[]", b"null", b'{"sha":"x"}', b"\xff", b"[" * 9999, json.dumps({"sha": COMMIT}).encode()]
    status = random_.choice([200, 200, 200, 204, 206, 302, 307, 400, 401, 403, 404, 412, 416, 500, 503])
    return http.Response(status, headers=headers, content=random_.choice(bodies))


def asked_twice(call, cache: str) -> None:
    """Ask what may have a random answer, and then what has not."""
    call(cache)
    find_entry(f"hf-hub:you/tiny@{COMMIT}", cache_dir=cache)


def any_answers_end_in_an_error_of_ours(lie, cache: str, folder: Path, seeds: range) -> None:
    for seed in seeds:
        random_ = random.Random(seed)
        lie(lambda request, random_=random_: random_answer(random_, request))
        call = random_.choice(list(CALLS.values()))
        began = time.process_time()
        with pytest.raises((HubError, ArtifactFormatError, ArtifactIntegrityError)) as caught:
            asked_twice(call, cache)
        assert str(caught.value).isprintable(), seed
        assert time.process_time() - began < 5, seed
    assert {path.split("/")[0] for path in files_below(folder)} <= {"hub-cache"}


def test_whatever_the_hub_answers_is_an_error_of_one_line_and_nothing_is_written_elsewhere(lie, online, tmp_path):
    any_answers_end_in_an_error_of_ours(lie, online.cache, tmp_path, range(150))


@pytest.mark.slow
def test_thousands_of_answers_end_in_an_error_of_one_line(lie, online, tmp_path):
    any_answers_end_in_an_error_of_ours(lie, online.cache, tmp_path, range(150, 5000))


def test_a_hub_that_is_down_from_now_on_serves_what_the_cache_holds(on_hub):
    before = find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache).indicators
    on_hub.hub.fault("*", "drop", math.inf)
    with pytest.warns(UserWarning, match="the commit that it named last is used"):
        assert find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache).indicators == before
