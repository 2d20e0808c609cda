"""Tests of entries of the Hub that visitors name: fetched once, within bounds, as anybody may, and kept to a few."""

import asyncio
import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _hub_fetch
import _hub_models
import _zoo
import gradio as gr
import pytest
from _actions import find_bits
from _hub_models import fetch_entry, fetched_folder, short_name
from _limits import Limiter
from _model_cache import Networks
from _offline import environment_of_fetch, go_offline
from _request import Request
from _zoo import entry_of, searched_plan

from limpq_hub.errors import ArtifactError, HubError, HubUnavailableError, UnknownModelError
from limpq_hub.zoo.hub import repository

APP = Path(__file__).parents[2] / "app"


@pytest.fixture
def there(hub, tiny, tmp_path, monkeypatch):
    """A Hub that processes which are started from here talk to, as its owner, with the tiny entry in you/tiny."""
    for name, value in hub.environment(tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    files = [path for path in tiny.folder.rglob("*") if path.is_file()]
    hub.commit("you/tiny", {path.relative_to(tiny.folder).as_posix(): path.read_bytes() for path in files})
    yield hub
    _hub_models._temporary().cleanup()
    _hub_models._temporary.cache_clear()
    _zoo._opened.cache_clear()


def folder(name: str, commit: str) -> str:
    """What the folder of owner/name at a commit is called."""
    return f"{name.removeprefix('hf-hub:').replace('/', '@')}@{commit}"


def folders() -> list[str]:
    return sorted(path.name for path in _hub_models._folder().iterdir())


@pytest.mark.filterwarnings("ignore::limpq_hub.zoo.loading.NotFineTunedWarning")
def test_an_entry_is_fetched_whole_once_and_without_the_token_of_the_host(there, tiny):
    name = fetch_entry(" hf-hub:you/tiny ")
    commit = there.history("you/tiny")[0]
    assert (name, short_name(name)) == (f"hf-hub:you/tiny@{commit}", "hf-hub:you/tiny")
    assert there.requests
    assert not any(request.authorized for request in there.requests)
    came = len(there.requests)
    request = Request(name, 0.05)
    assert entry_of(name).indicators.to_json() == tiny.indicators.to_json()
    assert "smaller" in find_bits(request).headline
    assert Networks().get(name, searched_plan(request).policy) is not None
    assert len(there.requests) == came, "all that is needed was fetched"
    assert folders() == [folder("you/tiny", commit)]
    # Others were fetched since: the server itself fetches nothing, though the entry was open.
    shutil.rmtree(_hub_models._folder() / folder("you/tiny", commit))
    for use in (lambda: entry_of(name), lambda: find_bits(request), lambda: Networks().get(name, None)):
        with pytest.raises(UnknownModelError, match="there is no model .* here; fetch it again, or take another one"):
            use()
    assert len(there.requests) == came


@pytest.mark.filterwarnings("ignore::limpq_hub.zoo.loading.NotFineTunedWarning")
def test_a_commit_that_two_repositories_share_is_fetched_for_each_and_the_server_asks_nothing(there, online):
    repositories = there._state.repositories
    repositories["you/mirror"] = repositories["you/tiny"]
    first, second = fetch_entry("you/tiny"), fetch_entry("you/mirror")
    commit = there.history("you/tiny")[0]
    assert folders() == [folder("you/mirror", commit), folder("you/tiny", commit)]
    came = len(there.requests)
    for name in (first, second):
        request = Request(name, 0.05)
        assert "smaller" in find_bits(request).headline
        assert Networks().get(name, searched_plan(request).policy) is not None
    assert len(there.requests) == came
    # As the server is while a fetched entry goes between two looks at it: what it would ask, it asks without a token.
    shutil.rmtree(_hub_models._folder() / folder("you/tiny", commit))
    _zoo._opened.cache_clear()
    _zoo._opened(first, str(_hub_models._folder() / "other"))
    assert len(there.requests) > came
    assert not any(request.authorized for request in there.requests)


@pytest.mark.parametrize("of_host", [{}, {"HF_HUB_OFFLINE": "0"}, {"HF_HUB_OFFLINE": "1"}], ids=str)
def test_the_server_is_offline_and_its_fetches_are_as_the_host_has_set_it(monkeypatch, of_host):
    monkeypatch.setattr(os, "environ", {"PATH": "/bin", "HF_TOKEN": "hf_secret", **of_host})
    go_offline()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    fetch = environment_of_fetch()
    assert fetch.pop("HF_HUB_OFFLINE") == of_host.get("HF_HUB_OFFLINE", "")
    assert fetch == {"PATH": "/bin", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}


def test_the_server_is_offline_before_the_client_of_the_hub_is_imported():
    start = (
        "import runpy, sys; sys.argv = ['app.py', '--help']\n"
        "try: runpy.run_path('app.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "from huggingface_hub import constants; print('offline:', constants.HF_HUB_OFFLINE)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", start], cwd=APP, capture_output=True, text=True, env=environment)
    assert "offline: True" in done.stdout, done.stderr


def test_an_entry_that_claims_fewer_multiplications_than_its_network_has_is_refused(
    on_hub, entry_copy, reseal, tmp_path
):
    indicators = json.loads((entry_copy / "indicators.json").read_text())
    for layer in indicators["layers"].values():
        layer["macs"] = 1
    (entry_copy / "indicators.json").write_text(json.dumps(indicators))
    reseal(entry_copy)
    files = [path for path in entry_copy.rglob("*") if path.is_file()]
    on_hub.hub.commit("you/liar", {path.relative_to(entry_copy).as_posix(): path.read_bytes() for path in files})
    with pytest.raises(
        ArtifactError, match="indicators.json does not fit test_resnet at 32 pixels: layer .*, a recount gives"
    ):
        _hub_fetch.fetch("hf-hub:you/liar", tmp_path / "fetched", tmp_path / "kept")
    assert not list((tmp_path / "fetched").glob(f"*/{_hub_fetch.COMPLETE}"))


@pytest.mark.slow
def test_a_private_repository_of_the_host_is_not_shown(there):
    there.restrict("you/tiny", private=True)
    with pytest.raises(HubError, match=r"not fetched: you/tiny@main: the Hub shows no such repository"):
        fetch_entry("you/tiny")
    assert folders() == []


@pytest.mark.parametrize(
    "text", ["", "tiny", "/etc/passwd", "local-dir:/etc", "a/b/c", "you/tiny --help", "-x/y", "../a"]
)
def test_what_is_no_name_of_a_repository_is_refused_before_anything_is_started(text, monkeypatch):
    monkeypatch.setattr(_hub_models.subprocess, "run", None)
    with pytest.raises(UnknownModelError, match="is not the name of a Hub repository: write hf-hub:owner/name"):
        fetch_entry(text)


def test_a_fetch_that_takes_too_long_is_ended_and_leaves_nothing(there, monkeypatch):
    there.fault("*supernet.safetensors", "stall", seconds=60)
    monkeypatch.setattr(_hub_models, "FETCH_LIMIT_S", 3)
    began = time.monotonic()
    with pytest.raises(HubUnavailableError, match="hf-hub:you/tiny took more than 3 s to fetch; try again later"):
        fetch_entry("you/tiny")
    assert time.monotonic() - began < 10
    assert folders() == []


def test_an_entry_that_is_too_large_is_refused_before_its_weights_are_fetched(on_hub, tmp_path, monkeypatch):
    for bound, value, message in (
        ("MOST_BYTES", 1_000, r"has \d+ MB, the demo takes 0; run it on your machine"),
        ("MOST_MACS", 1_000, r"multiplies 0\.0 billion times for one picture, the demo takes 0 billion"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(_hub_fetch, bound, value)
            with pytest.raises(ArtifactError, match=message):
                _hub_fetch.fetch("hf-hub:you/tiny", tmp_path, tmp_path / "kept")
    assert not on_hub.hub.fetched("*.safetensors")


def commit_of(name: str) -> str:
    """The commit that the fetches of `fetching` find: forty times the last character of the name."""
    return 40 * name[-1]


def folder_of(name: str) -> str:
    return folder(name, commit_of(name))


@pytest.fixture
def fetching(tmp_path, monkeypatch) -> dict[str, threading.Event]:
    """Fetches without a Hub: each leaves a whole entry, one that has an event here once that is set."""
    waits: dict[str, threading.Event] = {}

    def run(command, **options):
        name, unfinished, kept = command[2:]
        if not (Path(kept) / folder_of(name)).exists():
            Path(unfinished, folder_of(name)).mkdir()
            if name in waits:
                assert waits[name].wait(20)
            Path(unfinished, folder_of(name), _hub_fetch.COMPLETE).touch()
        return subprocess.CompletedProcess(command, 0, json.dumps({"name": f"{name}@{commit_of(name)}"}), "")

    monkeypatch.setattr(_hub_models, "_folder", lambda: tmp_path)
    monkeypatch.setattr(_hub_models.subprocess, "run", run)
    return waits


def test_only_the_last_few_are_kept_and_an_older_one_is_asked_for_again(fetching, tmp_path):
    names = [f"hf-hub:you/net-{digit}" for digit in range(_hub_models.MOST_FETCHED + 2)]
    for age, name in enumerate(names):
        fetch_entry(name)
        os.utime(tmp_path / folder_of(name) / _hub_fetch.COMPLETE, (1_000 + age, 1_000 + age))
    assert folders() == [folder_of(name) for name in names[2:]]
    assert fetched_folder(f"{names[2]}@{commit_of(names[2])}") == str(tmp_path / folder_of(names[2]))
    with pytest.raises(UnknownModelError, match="there is no model .* here; fetch it again, or take another one"):
        entry_of(f"{names[0]}@{commit_of(names[0])}")
    with pytest.raises(UnknownModelError, match="there is no model"):
        entry_of(f"hf-hub:you/other@{commit_of(names[2])}")
    # One that is asked for again is the newest.
    fetch_entry(names[2])
    fetch_entry("hf-hub:you/net-a")
    assert folders() == sorted(map(folder_of, [*names[4:], names[2], "hf-hub:you/net-a"]))


def test_a_fetch_that_ends_leaves_alone_what_another_one_is_fetching(fetching):
    slow = "hf-hub:you/slow"
    fetching[slow] = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fetch_entry, slow)
        while not list(_hub_models._folder().glob(f".unfinished-*/{folder_of(slow)}")):
            time.sleep(0.01)
        fetch_entry("hf-hub:you/net-1")
        fetching[slow].set()
        assert answer.result(20) == f"{slow}@{commit_of(slow)}"
    assert folders() == sorted(map(folder_of, ("hf-hub:you/net-1", slow)))


def test_many_fetches_at_once_keep_the_last_few_whole(fetching):
    gate = threading.Barrier(16)

    def visit(number: int) -> str:
        gate.wait()
        return fetch_entry(f"hf-hub:you/net-{number:x}")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(visit, range(16)))
    assert answers == [f"hf-hub:you/net-{number:x}@{commit_of(f'{number:x}')}" for number in range(16)]
    kept = folders()
    assert len(kept) == _hub_models.MOST_FETCHED
    assert all((_hub_models._folder() / name / _hub_fetch.COMPLETE).exists() for name in kept)


def test_an_entry_that_went_while_it_was_asked_for_again_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(_hub_models, "_folder", lambda: tmp_path)
    done = subprocess.CompletedProcess([], 0, json.dumps({"name": f"hf-hub:you/net@{commit_of('a')}"}), "")
    monkeypatch.setattr(_hub_models.subprocess, "run", lambda *command, **options: done)
    with pytest.raises(HubUnavailableError, match="^others were fetched meanwhile, and it has gone; fetch it again$"):
        fetch_entry("you/net")


@pytest.mark.parametrize("model", ["local-dir:/tmp", "hf-hub:you/tiny", "hf-hub:you/tiny@main", "../x", "resnet18"])
def test_no_entry_is_opened_but_bundled_and_fetched_ones(model):
    with pytest.raises(UnknownModelError, match="there is no model"):
        entry_of(model)


def test_the_process_prints_a_refusal_as_json(on_hub, tmp_path, capsys):
    _hub_fetch.main(["hf-hub:you/nothing", str(tmp_path), str(tmp_path / "kept")])
    printed = json.loads(capsys.readouterr().out)
    assert "you/nothing@main: the Hub shows no such repository" in printed["error"]
    assert (printed["kind"], printed["client"]) == ("HubNotFoundError", "RepositoryNotFoundError")


OTHERS = "only public repositories can be fetched here; run the demo on your machine for others"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda hub: hub.restrict("you/tiny", private=True),
            f"the Hub shows no such repository; check the name: {OTHERS}",
        ),
        (lambda hub: hub.restrict("you/tiny", gated=True), f"is gated; {OTHERS}"),
        (
            lambda hub: hub.fault("*", "forbidden", math.inf),
            f"the Hub answered 403: 'Forbidden: this token lacks the .*'; {OTHERS}",
        ),
        (lambda hub: hub.fault("*", "drop", math.inf), "the connection to the Hub broke off; try again later"),
        (
            lambda hub: hub.fault("*", "revision not found", math.inf),
            "no such revision; check the name of the branch, tag or commit",
        ),
        (None, "this server fetches nothing from the Hub; run the demo on your machine, or take another model"),
    ],
    ids=["private", "gated", "forbidden", "broken off", "no revision", "offline"],
)
def test_a_visitor_is_given_advice_that_a_visitor_can_follow(on_hub, monkeypatch, capsys, tmp_path, spoil, told):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(_hub_models, "_folder", lambda: tmp_path)
    if spoil is None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        spoil(on_hub.hub)

    def run(command, **options):
        _hub_fetch.main(command[2:])
        return subprocess.CompletedProcess(command, 0, capsys.readouterr().out, "")

    monkeypatch.setattr(_hub_models.subprocess, "run", run)
    with pytest.raises(HubError, match=f"^not fetched: .*{told}$") as caught:
        fetch_entry("you/tiny")
    assert not re.search("token|HF_", str(caught.value).replace("this token lacks", ""))


@pytest.mark.parametrize(
    ("error", "kind", "client", "told"),
    [
        ("x: format 9; upgrade limpq-hub", "ArtifactVersionError", "", "x: format 9; run the demo on your machine, .*"),
        ("x: 404; check the name, and HF_ENDPOINT", "HubNotFoundError", "HfHubHTTPError", "x: 404; check the name"),
        ("x: 403: 'no; no'; give a token", "HubUnauthorizedError", "HfHubHTTPError", f"x: 403: 'no; no'; {OTHERS}"),
        ("x is slow", "HubUnavailableError", "", "x is slow; try again later"),
        ("x has 200 MB, the demo takes 150; run it", "ArtifactError", "", "x has 200 MB, the demo takes 150; run it"),
    ],
)  # fmt: skip
def test_advice_for_who_runs_a_server_gives_way_to_that_for_a_visitor(error, kind, client, told):
    assert re.fullmatch(told, _hub_models._for_visitors({"error": error, "kind": kind, "client": client}))


def test_an_entry_of_a_factory_of_its_own_is_refused_with_where_it_can_run(on_hub, entry_copy, tmp_path, monkeypatch):
    files = {path.relative_to(entry_copy).as_posix(): path.read_bytes() for path in entry_copy.rglob("*.json")}
    on_hub.hub.commit("you/own", files)
    monkeypatch.setattr(_hub_fetch, "factory_of", lambda architecture: ("nets", "Net"))
    with pytest.raises(ArtifactError, match="is of a network that timm does not have; load it on your machine, by its"):
        _hub_fetch.fetch("hf-hub:you/own", tmp_path / "fetched", tmp_path / "kept")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("metrics.json", {"float": 3, "joint": []}, "metrics.json: float must be an object, found 3"),
        ("classes.json", [{"id": "a", "name": "a"}] * 10, "classes.json: the id 'a' stands twice"),
        ("policies/small/metrics.json", {"top1": 101}, "policies/small/metrics.json: top1 must be percent"),
    ],
)
def test_an_entry_that_every_answer_would_fail_of_is_refused_when_it_is_fetched(
    on_hub, entry_copy, reseal, tmp_path, file, content, told
):
    (entry_copy / file).write_text(json.dumps(content))
    reseal((entry_copy / file).parent)
    files = [path for path in entry_copy.rglob("*") if path.is_file()]
    on_hub.hub.commit("you/odd", {path.relative_to(entry_copy).as_posix(): path.read_bytes() for path in files})
    with pytest.raises(ArtifactError, match=told):
        _hub_fetch.fetch("hf-hub:you/odd", tmp_path / "fetched", tmp_path / "kept")
    assert not list((tmp_path / "fetched").glob(f"*/{_hub_fetch.COMPLETE}"))


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "The server has no room for this now; try again later"),
        (errno.EACCES, "The server could not read or write a file; upload yours again, or try again later"),
    ],
)
@pytest.mark.parametrize("inside", [True, False], ids=["of the cache", "elsewhere"])
def test_what_fails_on_this_machine_is_told_without_a_path(on_hub, tmp_path, monkeypatch, capsys, number, told, inside):
    seen = []

    def failing(*given, cache_dir, **named):
        raise OSError(number, os.strerror(number), f"{cache_dir if inside else tmp_path}/secret")

    monkeypatch.setattr(repository.HfApi, "hf_hub_download", failing)

    def run(command, **options):
        _hub_fetch.main(command[2:])
        return subprocess.CompletedProcess(command, 0, capsys.readouterr().out, "")

    monkeypatch.setattr(_hub_models.subprocess, "run", run)

    def fetched() -> str:
        try:
            return fetch_entry("you/tiny")
        except OSError as error:
            seen.append(error)
            raise

    with pytest.raises(gr.Error) as caught:
        asyncio.run(Limiter(20, workers=1, most_waiting=1).guarded(fetched)())
    assert caught.value.message == told
    assert "'/tmp/" in str(seen[0]), "who runs the demo is to see which file"
