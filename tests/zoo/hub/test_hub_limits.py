"""Tests of how long the Hub is waited for and how much of it is read: no call goes beyond its limits."""

import gzip
import importlib
import math
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import close_session, constants, get_session
from huggingface_hub.errors import HTTPError

from limpq_hub.errors import HubOfflineError, HubUnavailableError
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.hub import limits as hub_limits
from limpq_hub.zoo.hub import repository as hub
from limpq_hub.zoo.hub.publishing import push_entry

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
WEIGHTS = "policies/large/model.safetensors"
http = importlib.import_module(HTTPError.__module__.partition(".")[0])


def session_that_answers(*answer, **named):
    """An HTTP session whose every answer is this one, without a connection."""
    return http.Client(transport=http.MockTransport(lambda request: http.Response(*answer, **named)))


@pytest.fixture
def impatient(monkeypatch):
    """The limits as they are, but for their size: 0.3 s where no byte comes, 2 s in all."""
    monkeypatch.setattr(hub_limits, "SECONDS", 0.3)
    monkeypatch.setattr(hub_limits, "SECONDS_IN_ALL", 2)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what is added to `now`."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(hub_limits, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def entry(on_hub):
    """The entry on the Hub, of which the cache holds `config.json`."""
    return find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache)


def test_a_body_that_drips_is_given_up_and_no_part_of_it_served(on_hub, entry, impatient, monkeypatch, tiny):
    monkeypatch.setattr(hub_limits, "SLOWEST_BYTES_PER_S", 1e9)
    on_hub.hub.fault(f"*/{WEIGHTS}", "drip", math.inf, seconds=0.05)
    began = time.perf_counter()
    with pytest.raises(HubUnavailableError, match=r"^you/tiny@\w{40}: the Hub did not answer in time \(limit: 2 s\); "):
        entry.checkpoint("large").read("model.safetensors")
    assert 1 < time.perf_counter() - began < 3
    assert not [path for path in Path(on_hub.cache).rglob("model.safetensors") if "locks" not in str(path)]
    on_hub.hub.mend()
    assert entry.checkpoint("large").read("model.safetensors") == (tiny.folder / WEIGHTS).read_bytes()


def test_a_slow_file_that_keeps_coming_is_not_cut(on_hub, entry, impatient, monkeypatch, tiny):
    size = (tiny.folder / WEIGHTS).stat().st_size
    monkeypatch.setattr(hub_limits, "SLOWEST_BYTES_PER_S", size)  # 1 s more: 3 s in all
    on_hub.hub.fault(f"*/{WEIGHTS}", "drip", at=1 - 100 / size, seconds=0.02)
    began = time.perf_counter()
    assert entry.checkpoint("large").read("model.safetensors") == (tiny.folder / WEIGHTS).read_bytes()
    assert time.perf_counter() - began > 1.8


@pytest.mark.parametrize(("size_bytes", "bytes_per_s", "ends_after_s"), [
    (10**6, 10_000, None), (10**6, 5_300, None), (10**6, 5_000, 191), (10**8, 10_000, None), (10**5, 1, 101),
])  # fmt: skip
def test_a_file_may_take_as_long_as_its_size_warrants(clock, size_bytes, bytes_per_s, ends_after_s):
    """120 s and 1 s for each 10 kB, of which the last 30 s are for a wait that began in time."""

    def body():
        for _ in range(0, size_bytes, bytes_per_s):
            clock.now += 1
            yield b"." * bytes_per_s

    session = session_that_answers(200, content=body())
    with hub_limits.limited(session, "you/net@main", file_bytes=size_bytes + bytes_per_s):
        if ends_after_s is None:
            assert session.get("http://127.0.0.1/file").num_bytes_downloaded >= size_bytes
        else:
            with pytest.raises(HubUnavailableError, match=r"^you/net@main: the Hub did not answer in time \(limit: "):
                session.get("http://127.0.0.1/file")
            assert clock.now == ends_after_s


@pytest.mark.parametrize(
    ("file_bytes", "status", "most_bytes"),
    [(1000, 200, 1000), (1000, 404, hub_limits.ANSWER_BYTES), (None, 200, hub_limits.ANSWER_BYTES)],
)
@pytest.mark.parametrize("too_many", [False, True])
def test_a_body_is_not_read_beyond_its_size(file_bytes, status, most_bytes, too_many):
    taken = []

    def body():
        for size in (most_bytes // 2, most_bytes - most_bytes // 2, *([1] * 5 * too_many)):
            taken.append(size)
            yield b"." * size

    session = session_that_answers(status, content=body())
    with hub_limits.limited(session, "you/net@main", file_bytes=file_bytes):
        if not too_many:
            assert len(session.get("http://127.0.0.1/file").content) == most_bytes
            return
        with pytest.raises(HubUnavailableError) as caught:
            session.get("http://127.0.0.1/file")
    assert str(caught.value) == f"you/net@main: what the Hub sent is damaged (more than {most_bytes} bytes); try again"
    assert sum(taken) == most_bytes + 1


def test_a_file_that_is_larger_than_listed_is_not_taken(on_hub, entry, tiny):
    content = (tiny.folder / WEIGHTS).read_bytes()
    commit = on_hub.hub.commit("you/tiny", {WEIGHTS: content + b"."})
    entry = find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache)
    with pytest.raises(HubUnavailableError) as caught:
        entry.checkpoint("large").read("model.safetensors")
    assert str(caught.value) == (
        f"you/tiny@{commit}: what the Hub sent is damaged (more than {len(content)} bytes); try again"
    )


def test_what_would_unpack_to_any_size_is_neither_asked_for_nor_taken():
    asked_for = []

    def answer(request):
        asked_for.append(request.headers["Accept-Encoding"])
        return http.Response(200, content=iter([gzip.compress(bytes(10**7))]), headers={"Content-Encoding": "gzip"})

    session = http.Client(transport=http.MockTransport(answer))
    with hub_limits.limited(session, "you/net@main"), pytest.raises(HubUnavailableError) as caught:
        session.get("http://127.0.0.1/file")
    assert str(caught.value) == "you/net@main: what the Hub sent is damaged (compressed); try again"
    assert asked_for == ["identity"]


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/api/models", lambda online: hub.list_repositories("you")),
        ("/api/models/you/tiny", lambda online: find_entry("hf-hub:you/tiny", cache_dir=online.cache)),
        (f"*/{WEIGHTS}", lambda online: hub.fetch_file("you/tiny", WEIGHTS, "main", online.cache, None)),
    ],
    ids=["list", "commit", "file"],
)
def test_a_rate_limit_that_lasts_longer_than_the_limit_is_told_at_once(on_hub, path, call):
    on_hub.hub.fault(path, "rate limited", math.inf, seconds=3600)
    with pytest.raises(HubUnavailableError) as caught:
        call(on_hub)
    assert str(caught.value).endswith(": the Hub did not answer (429) and asks to wait 3600 s; try again then")
    assert on_hub.pauses == []


def test_a_rate_limit_that_passes_soon_is_waited_out(on_hub):
    on_hub.hub.fault(f"*/{WEIGHTS}", "rate limited", 2, method="GET", seconds=7)
    assert hub.fetch_file("you/tiny", WEIGHTS, "main", on_hub.cache, None).is_file()
    assert on_hub.pauses == [8, 8]


@pytest.mark.parametrize(
    ("status", "headers", "pause_s"),
    [
        (503, {"Retry-After": "12345678901"}, 12345678901),
        (429, {"Retry-After": " 999999999 "}, 999999999),
        (429, {"RateLimit": '"api";r=00;t=3600'}, 3600),
        (429, {"RateLimit": '"api" ; r = 0 ; t = 3600'}, 3600),
        (429, {"RateLimit": '"api";r=10;t=3600'}, 0),
        (429, {"Retry-After": "Wed, 21 Oct 2099"}, 0),
        (200, {"Retry-After": "3600"}, 0),
        (429, {}, 0),
    ],
)
def test_the_pause_that_a_server_asks_for_is_read_as_the_client_reads_it(status, headers, pause_s):
    assert hub_limits._pause_s(http.Response(status, headers=headers)) == pause_s


@pytest.mark.parametrize("kind", ["stall", "drop", "unavailable"])
def test_a_dead_storage_is_given_up_in_time_and_nothing_is_committed(online, tiny, impatient, kind):
    online.hub.fault("/upload/*", kind, math.inf, seconds=60)
    began = time.perf_counter()
    with pytest.raises(
        HubUnavailableError, match="^you/net@main: the (Hub did not answer|connection to the Hub broke off)"
    ):
        push_entry(find_entry(tiny.name), "you/net")
    assert time.perf_counter() - began < 8  # the figures are drawn before anything is asked
    assert len(online.hub.history("you/net")) == 1
    online.hub.mend()
    assert push_entry(find_entry(tiny.name), "you/net").tag == "v1"


def test_requests_of_others_are_left_alone(on_hub):
    requests, session = [], get_session()
    session.event_hooks = session.event_hooks | {
        "request": [*session.event_hooks["request"], lambda request: requests.append(request)]
    }
    session.get(f"{on_hub.hub.url}/api/models/you/tiny")
    hub.tags_of("you/tiny")
    session.get(f"{on_hub.hub.url}/api/models/you/tiny", headers={"user-agent": "limpq-hub"})
    before, *ours, after = requests
    assert after.extensions["timeout"] == before.extensions["timeout"]
    assert after.headers["Accept-Encoding"] == before.headers["Accept-Encoding"]
    assert all(request.extensions["timeout"] != before.extensions["timeout"] for request in ours)
    assert all(request.headers["Accept-Encoding"] == "identity" for request in ours)
    assert "trace" not in after.extensions


def test_the_limits_of_a_request_are_ours_or_the_clients_own_if_those_are_shorter(on_hub):
    requests, session = [], get_session()
    hub.tags_of("you/tiny")
    session.event_hooks = session.event_hooks | {
        "request": [*session.event_hooks["request"], lambda request: requests.append(request)]
    }
    with hub_limits.limited(session, "you/tiny@main"):
        session.get(f"{on_hub.hub.url}/api/models/you/tiny", timeout=None)
        session.get(f"{on_hub.hub.url}/api/models/you/tiny", timeout=10)
    assert requests[0].extensions["timeout"] == {"connect": 5, "read": 30, "write": 30, "pool": 30}
    assert requests[1].extensions["timeout"] == {"connect": 5, "read": 10, "write": 10, "pool": 10}


def test_a_file_is_not_fetched_by_xet_within_a_call_of_ours():
    session = session_that_answers(200, headers={"X-Xet-Hash": "0" * 64})
    with hub_limits.limited(session, "you/net@main"):
        assert "X-Xet-Hash" not in session.head("http://127.0.0.1/file").headers
    assert "X-Xet-Hash" in session.head("http://127.0.0.1/file").headers


def test_an_upload_goes_by_http_where_the_client_could_use_xet(online, tiny, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    assert push_entry(find_entry(tiny.name), "you/net").tag == "v1"
    assert [request.method for request in online.hub.requests if request.path.startswith("/upload/")] == ["PUT"] * 3


@pytest.mark.parametrize("call", [lambda: hub.list_repositories("you"), lambda: hub.tags_of("you/tiny")])
def test_without_a_network_a_call_fails_at_once_and_silently(online, monkeypatch, capfd, call):
    close_session()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        HubUnavailableError, match=": the connection to the Hub was refused; check the internet"
    ) as caught:
        call()
    assert caught.value.client_error.startswith("ConnectError: ")
    assert online.pauses == []
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_while_connecting_is_ctrl_c(online, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    close_session()
    monkeypatch.setattr(socket, "create_connection", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hub.tags_of("you/tiny")


def test_a_list_offline_says_that_only_the_hub_knows(online, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubOfflineError) as caught:
        hub.list_repositories("you")
    assert str(caught.value) == "which models you has is for the Hub to say, and HF_HUB_OFFLINE is set; unset it"
    assert online.pauses == []
    assert online.hub.requests == []
