"""Tests of how long the Hub is waited for: no question beyond its limit, and no steady download is cut."""

import io
import logging
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import close_session, constants, get_session, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from limpq_hub.errors import HubOfflineError, HubUnavailableError
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.hub import repository as hub
from limpq_hub.zoo.hub import waiting as hub_waiting
from limpq_hub.zoo.hub.publishing import push_entry

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
WEIGHTS = "policies/large/model.safetensors"


@contextmanager
def answering(factory: Callable[[], object]) -> Iterator[None]:
    """Let the client of the Hub make its sessions another way."""
    close_session()
    set_client_factory(factory)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)


@pytest.fixture
def impatient(monkeypatch):
    """The limits as they are, but for their size: 0.3 s where no byte comes, 1.5 s in all."""
    monkeypatch.setattr(hub_waiting, "SECONDS", 0.3)
    monkeypatch.setattr(hub_waiting, "SECONDS_IN_ALL", 1.5)


@pytest.fixture
def entry(on_hub):
    """The entry on the Hub, of which the cache holds `config.json`."""
    return find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache)


def test_a_body_that_drips_is_given_up_and_no_part_of_it_served(on_hub, entry, impatient, tiny):
    on_hub.hub.fault(f"*/{WEIGHTS}", "drip", math.inf, seconds=0.05)
    began = time.perf_counter()
    with pytest.raises(
        HubUnavailableError, match=r"^you/tiny@\w{40}: the Hub did not answer in time \(limit: 1\.5 s\); "
    ):
        entry.checkpoint("large").read("model.safetensors")
    assert 1 < time.perf_counter() - began < 3
    assert not [path for path in Path(on_hub.cache).rglob("model.safetensors") if "locks" not in str(path)]
    on_hub.hub.mend()
    assert entry.checkpoint("large").read("model.safetensors") == (tiny.folder / WEIGHTS).read_bytes()


def test_a_slow_body_that_keeps_coming_is_not_cut(on_hub, entry, impatient, monkeypatch, tiny):
    monkeypatch.setattr(hub_waiting, "SLOWEST_BYTES_PER_S", 10)
    size = (tiny.folder / WEIGHTS).stat().st_size
    on_hub.hub.fault(f"*/{WEIGHTS}", "drip", at=1 - 100 / size, seconds=0.02)
    began = time.perf_counter()
    assert entry.checkpoint("large").read("model.safetensors") == (tiny.folder / WEIGHTS).read_bytes()
    assert time.perf_counter() - began > 1.8


@pytest.mark.parametrize(
    ("bytes_per_s", "ends_after_s"), [(1_000_000, None), (20_000, None), (10_000, None), (5_000, 180), (1, 90)]
)
def test_what_comes_slower_than_the_limit_counts_as_waiting(monkeypatch, bytes_per_s, ends_after_s):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(hub_waiting, "time", SimpleNamespace(monotonic=lambda: clock.now))
    waiting, last = hub_waiting._Waiting("you/tiny@main"), 0.0

    def receive(seconds):
        nonlocal last
        for _ in range(seconds):
            clock.now += 1
            last = waiting.moved(bytes_per_s, last)

    if ends_after_s is None:
        receive(10_000)
        # Fast bytes buy no time for later.
        assert waiting.left() == pytest.approx(120)
    else:
        receive(ends_after_s - 2)
        with pytest.raises(HubUnavailableError, match=r"did not answer in time \(limit: 120 s\); check"):
            receive(4)


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("/api/models", lambda online: hub.list_repositories("you")),
        ("/api/models/you/tiny/refs", lambda online: hub.tags_of("you/tiny")),
        ("/api/models/you/tiny", lambda online: find_entry("hf-hub:you/tiny", cache_dir=online.cache)),
        (f"*/{WEIGHTS}", lambda online: hub.fetch_file("you/tiny", WEIGHTS, "main", online.cache, None, anew=True)),
    ],
    ids=["list", "tags", "commit", "file"],
)
def test_a_rate_limit_that_lasts_longer_than_the_limit_is_told_at_once(on_hub, path, question):
    on_hub.hub.fault(path, "rate limited", math.inf, seconds=3600)
    with pytest.raises(HubUnavailableError) as caught:
        question(on_hub)
    assert str(caught.value).endswith(": the Hub did not answer (429) and asks to wait 3600 s; try again then")
    assert on_hub.pauses == []


def test_a_rate_limit_that_passes_soon_is_waited_out(on_hub):
    on_hub.hub.commit("you/tiny", {"README.md": b"---\nlibrary_name: limpq-hub\ntags:\n- limpq-hub\n---\n"})
    # The first page is asked for once, so a file is what the client asks for again.
    on_hub.hub.fault(f"*/{WEIGHTS}", "rate limited", 2, method="GET", seconds=7)
    assert hub.fetch_file("you/tiny", WEIGHTS, "main", on_hub.cache, None, anew=True).is_file()
    assert on_hub.pauses == [8, 8]


@pytest.mark.parametrize("kind", ["stall", "drop", "unavailable"])
def test_a_dead_storage_is_given_up_in_time_and_nothing_is_committed(online, tiny, impatient, kind):
    online.hub.fault("/upload/*", kind, math.inf, seconds=60)
    began = time.perf_counter()
    with pytest.raises(HubUnavailableError, match=r"^you/net@main: the Hub did not answer"):
        push_entry(find_entry(tiny.name), "you/net")
    assert time.perf_counter() - began < 8  # the figures are drawn before anything is asked
    assert len(online.hub.history("you/net")) == 1
    online.hub.mend()
    assert push_entry(find_entry(tiny.name), "you/net").tag == "v1"


def test_an_upload_goes_by_http_and_its_steady_bytes_are_no_waiting(on_hub, tmp_path, monkeypatch):
    content = bytes(range(256)) * 1024
    (tmp_path / "data").write_bytes(content)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(hub_waiting, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with (
        hub_waiting.limited(get_session(), "you/net@main"),
        hub_waiting.UploadedFile(tmp_path / "data") as file,
    ):
        for _ in range(3):
            file.seek(0)
            read = b""
            while part := file.read(65536):
                read += part
                clock.now += 5
            assert read == content
        # 3 x 4 parts took 60 s; of the last of each attempt nobody knows when it was gone but by the next answer.
        file.seek(0)
        clock.now += 91
        with pytest.raises(
            HubUnavailableError, match=r"^you/net@main: the Hub did not answer in time \(limit: 120 s\)"
        ):
            file.read(1)


def test_requests_of_others_are_left_alone(on_hub):
    seen = []
    find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache)
    session = get_session()
    session.event_hooks = session.event_hooks | {
        "request": [*session.event_hooks["request"], lambda request: seen.append(dict(request.extensions))]
    }
    session.get(f"{on_hub.hub.url}/api/models/you/tiny")
    hub.tags_of("you/tiny")
    session.get(f"{on_hub.hub.url}/api/models/you/tiny", headers={"user-agent": "limpq-hub"})
    others, ours = [seen[0], seen[2]], seen[1]
    assert [set(other["timeout"].values()) for other in others] == [{None}, {None}]
    assert not any("trace" in other for other in others)
    assert ours["timeout"] == {"connect": 5, "read": 30, "write": 30, "pool": 30}


def test_a_file_is_not_fetched_by_xet_within_a_question_of_ours():
    client = pytest.importorskip(type(get_session()).__module__.partition(".")[0])
    answer = client.MockTransport(lambda request: client.Response(200, headers={"X-Xet-Hash": "0" * 64}))
    session = client.Client(transport=answer)
    with hub_waiting.limited(session, "you/net@main"):
        assert "X-Xet-Hash" not in session.head("http://127.0.0.1/file").headers
    assert "X-Xet-Hash" in session.head("http://127.0.0.1/file").headers


def test_an_upload_goes_by_http_where_the_client_could_use_xet(online, tiny, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    assert push_entry(find_entry(tiny.name), "you/net").tag == "v1"
    assert [asked.method for asked in online.hub.requests if asked.path.startswith("/upload/")] == ["PUT"] * 3


@pytest.mark.parametrize("question", [lambda: hub.list_repositories("you"), lambda: hub.tags_of("you/tiny")])
def test_without_a_network_a_question_fails_at_once_and_silently(online, monkeypatch, capfd, question):
    close_session()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        HubUnavailableError, match=r": the Hub did not answer \(ConnectError\); check the connection, or"
    ):
        question()
    assert online.pauses == []
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_while_connecting_is_ctrl_c(online, monkeypatch):
    def interrupted(*given, **named):
        raise KeyboardInterrupt

    close_session()
    monkeypatch.setattr(socket, "create_connection", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hub.tags_of("you/tiny")


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (503, {"Retry-After": "12345678901"}, "12345678901"),
        (429, {"Retry-After": " 999999999 "}, "999999999"),
        (429, {"RateLimit": '"api";r=00;t=3600'}, "3600"),
        (429, {"RateLimit": '"api" ; r = 0 ; t = 3600'}, "3600"),
    ],
)
def test_a_pause_of_any_length_that_is_too_long_is_told_at_once(online, monkeypatch, status, headers, seconds):
    client = pytest.importorskip(type(get_session()).__module__.partition(".")[0])
    answer = client.MockTransport(lambda request: client.Response(status, headers=headers))
    with answering(lambda: client.Client(transport=answer)), pytest.raises(HubUnavailableError) as caught:
        hub.list_repositories("you")
    assert str(caught.value) == (
        f"the models of you: the Hub did not answer ({status}) and asks to wait {seconds} s; try again then"
    )
    assert online.pauses == []


@pytest.mark.parametrize("headers", [{"RateLimit": '"api";r=10;t=3600'}, {"Retry-After": "Wed, 21 Oct 2099"}, {}])
def test_an_answer_that_asks_for_no_pause_is_not_taken_for_one(headers):
    assert hub_waiting._pause(SimpleNamespace(status_code=429, headers=headers)) == 0


def test_the_client_says_nothing_within_a_question_of_ours_and_all_it_has_to_say_outside(on_hub, monkeypatch):
    said, logger = io.StringIO(), logging.getLogger("huggingface_hub")
    monkeypatch.setattr(logger.handlers[0], "stream", said)
    on_hub.hub.fault(f"*/{WEIGHTS}", "rate limited", 2, method="GET", seconds=1)
    hub.fetch_file("you/tiny", WEIGHTS, "main", on_hub.cache, None, anew=True)
    assert on_hub.pauses == [2, 2]
    assert said.getvalue() == ""
    logger.getChild("utils._http").warning("Retrying")
    assert said.getvalue() == "Retrying\n"


def test_a_list_offline_says_that_only_the_hub_knows(online, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubOfflineError) as caught:
        hub.list_repositories("you")
    assert str(caught.value) == "which models you has is for the Hub to say, and HF_HUB_OFFLINE is set; unset it"
    assert online.pauses == []
    assert online.hub.requests == []
