"""Tests of entries of the Hub that visitors name: fetched once, within bounds, as anybody may, and kept to a few."""

import json
import os
import shutil
import time

import _hub_fetch
import _hub_models
import _zoo
import pytest
from _actions import find_bits
from _hub_models import fetch_entry, fetched_folder, short_name
from _model_cache import Networks
from _request import Request
from _zoo import entry_of, learned_plan

from limpq_hub.errors import ArtifactError, HubError, HubUnavailableError, UnknownModelError


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
    assert Networks().get(name, learned_plan(request).policy) is not None
    assert len(there.requests) == came, "all that is needed was fetched"
    assert folders() == [commit]
    # Others were fetched since: the server itself fetches nothing, though the entry was open.
    shutil.rmtree(_hub_models._folder() / commit)
    for use in (lambda: entry_of(name), lambda: find_bits(request), lambda: Networks().get(name, None)):
        with pytest.raises(UnknownModelError, match="there is no model .* here; fetch it again, or take another one"):
            use()
    assert len(there.requests) == came


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
        _hub_fetch.fetch("hf-hub:you/liar", tmp_path / "fetched")
    assert not list((tmp_path / "fetched").glob(f"*/{_hub_fetch.COMPLETE}"))


def test_a_private_repository_of_the_host_is_not_shown(there):
    there.restrict("you/tiny", private=True)
    with pytest.raises(HubError, match=r"not fetched: you/tiny@main: the Hub shows no such repository or revision"):
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
                _hub_fetch.fetch("hf-hub:you/tiny", tmp_path)
    assert not on_hub.hub.fetched("*.safetensors")


def test_only_the_last_few_are_kept_and_an_older_one_is_asked_for_again(tmp_path, monkeypatch):
    monkeypatch.setattr(_hub_models, "_folder", lambda: tmp_path)
    names = [f"{digit}" * 40 for digit in range(_hub_models.MOST_FETCHED + 2)]
    for age, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / _hub_fetch.COMPLETE).touch()
        os.utime(tmp_path / name / _hub_fetch.COMPLETE, (1_000 + age, 1_000 + age))
    (tmp_path / "unfinished").mkdir()
    _hub_models._tidy()
    assert folders() == names[2:]
    assert fetched_folder(f"hf-hub:you/tiny@{names[2]}") == str(tmp_path / names[2])
    with pytest.raises(UnknownModelError, match="there is no model .* here; fetch it again, or take another one"):
        entry_of(f"hf-hub:you/tiny@{names[0]}")


@pytest.mark.parametrize("model", ["local-dir:/tmp", "hf-hub:you/tiny", "hf-hub:you/tiny@main", "../x", "resnet18"])
def test_no_entry_is_opened_but_bundled_and_fetched_ones(model):
    with pytest.raises(UnknownModelError, match="there is no model"):
        entry_of(model)


def test_the_process_prints_a_refusal_as_json(on_hub, tmp_path, capsys):
    _hub_fetch.main(["hf-hub:you/nothing", str(tmp_path)])
    assert "you/nothing@main: the Hub shows no such repository" in json.loads(capsys.readouterr().out)["error"]
