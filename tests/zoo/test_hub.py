"""Tests of the Hub, offline: a miss fails at once and says so, a cached commit is verified and reported."""

import importlib
import json
import re
import shutil

import pytest
from huggingface_hub import errors

from limpq_hub.errors import (
    ArtifactIntegrityError,
    HubError,
    HubNotFoundError,
    HubOfflineError,
    HubUnavailableError,
    UnknownModelError,
)
from limpq_hub.zoo import hub
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.loading import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tiny, tmp_path):
    """A Hub cache that holds one commit of nobody/tiny, on its branch main and its tag v1."""
    repository = tmp_path / "cache" / "models--nobody--tiny"
    shutil.copytree(tiny.folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    for reference in ("main", "v1"):
        (repository / "refs" / reference).write_text(COMMIT)
    return tmp_path / "cache"


@pytest.fixture
def snapshot(cache):
    return cache / "models--nobody--tiny" / "snapshots" / COMMIT


def test_an_offline_miss_fails_within_a_second_and_says_what_to_do(run_python, tmp_path):
    code = (
        "import json, time\n"
        "import limpq_hub, limpq_hub.zoo.loading, limpq_hub.zoo.hub\n"
        "began = time.perf_counter()\n"
        "try:\n"
        "    limpq_hub.load('hf-hub:nobody/nothing', bitops='3G')\n"
        "except limpq_hub.LimpqError as error:\n"
        "    seconds = time.perf_counter() - began\n"
        "    print(json.dumps([type(error).__name__, str(error), isinstance(error, OSError), seconds]))\n"
    )
    result = run_python(code, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    assert result.returncode == 0, result.stderr
    kind, message, is_os_error, seconds = json.loads(result.stdout)
    assert kind == "HubOfflineError"
    assert is_os_error
    assert message == (
        "nobody/nothing@main is not in the cache and the Hub was not reached; go online once, or unset HF_HUB_OFFLINE"
    )
    assert seconds < 1
    assert result.stderr == ""


@pytest.mark.parametrize("revision", ["v9", "f" * 40, "refs/pr/1"])
def test_a_revision_that_is_not_in_the_cache_is_named(cache, revision):
    with pytest.raises(
        HubOfflineError, match=f"nobody/tiny@{revision} is not in the cache and the Hub was not reached"
    ):
        find_entry(f"hf-hub:nobody/tiny@{revision}", cache_dir=str(cache))


@pytest.mark.parametrize(
    "repo",
    [
        *("", "a/b/c", "/name", "owner/", "../name", "owner/..", "owner/na me", "owner/name?x=1", "own\ner/name"),
        *("owner/name.git", "-owner/name", "owner/na--me", "o" * 97 + "/name", "https://huggingface.co/owner/name"),
    ],
)
def test_a_malformed_repository_name_is_answered_with_the_grammar(repo):
    with pytest.raises(
        HubNotFoundError, match=r"is not the name of a Hub repository: write hf-hub:owner/name$"
    ) as caught:
        find_entry(f"hf-hub:{repo}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("revision", ["../../../../secret", "/etc/passwd", "..", "a\0b", " "])
def test_a_revision_that_is_a_path_is_refused(cache, revision):
    (cache.parent / "secret").write_text(COMMIT)
    with pytest.raises((HubError, UnknownModelError), match="nobody/tiny"):
        find_entry("hf-hub:nobody/tiny", revision=revision, cache_dir=str(cache))


def test_two_different_revisions_are_refused(cache):
    with pytest.raises(
        UnknownModelError, match=r"'hf-hub:nobody/tiny@v1' and revision='v2' name two revisions; give one"
    ):
        find_entry("hf-hub:nobody/tiny@v1", revision="v2", cache_dir=str(cache))


@pytest.mark.parametrize(
    ("name", "revision"), [("", None), ("@v1", None), ("", "v1"), ("@v1", "v1"), (f"@{COMMIT}", None), ("@", None)]
)
def test_a_cached_commit_is_found_offline_and_reported(cache, tiny, name, revision):
    entry = find_entry(f"hf-hub:nobody/tiny{name}", revision=revision, cache_dir=str(cache))
    assert (entry.source, entry.revision) == ("hub", COMMIT)
    assert entry.indicators.to_json() == tiny.indicators.to_json()
    assert [published.name for published in entry.published] == ["small", "large"]


def test_load_takes_every_file_from_the_cached_commit(cache, tiny):
    model = load("hf-hub:nobody/tiny", policy=tiny.policies["large"], cache_dir=str(cache))
    assert (model.limpq.source, model.limpq.revision) == ("hub", COMMIT)
    assert (model.limpq.weights, model.limpq.top1) == ("finetuned", 72.25)


@pytest.mark.parametrize("file", ["indicators.json", "policies/large/model.safetensors"])
def test_a_cached_file_that_is_damaged_is_refused_by_name(cache, snapshot, tiny, file):
    for damaged in (b"", (snapshot / file).read_bytes()[:-1]):
        (snapshot / file).write_bytes(damaged)
        with pytest.raises(
            ArtifactIntegrityError, match=rf"nobody/tiny/{re.escape(file)} is damaged: its {len(damaged)} "
        ):
            load("hf-hub:nobody/tiny", policy=tiny.policies["large"], cache_dir=str(cache))


def test_a_file_that_is_missing_in_the_cache_is_refused(cache, snapshot, tiny):
    (snapshot / "policies/large/model.safetensors").unlink()
    with pytest.raises(HubOfflineError, match=f"nobody/tiny@{COMMIT} is not in the cache and the Hub was not reached"):
        load("hf-hub:nobody/tiny", policy=tiny.policies["large"], cache_dir=str(cache))


def test_a_repository_without_a_config_is_refused(cache, snapshot):
    (snapshot / "config.json").unlink()
    with pytest.raises(HubError, match="nobody/tiny@"):
        find_entry("hf-hub:nobody/tiny", cache_dir=str(cache))


def hub_answer(error: str) -> Exception:
    """An error as huggingface_hub or its HTTP client raises it."""
    client = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])
    request = client.Request("GET", "https://huggingface.co/nobody/tiny")
    if error in ("ConnectError", "ReadTimeout"):
        return getattr(client, error)("no", request=request)
    status = {"GatedRepoError": 403, "HfHubHTTPError": 503}.get(error, 404)
    return getattr(errors, error)("no", response=client.Response(status, request=request))


@pytest.mark.parametrize(
    ("answer", "expected", "message"),
    [
        (
            "RepositoryNotFoundError",
            HubNotFoundError,
            "the Hub shows no such repository or revision (RepositoryNotFound",
        ),
        ("GatedRepoError", HubNotFoundError, "the Hub shows no such repository or revision (GatedRepoError); check"),
        ("RevisionNotFoundError", HubNotFoundError, "the Hub shows no such repository or revision (RevisionNotFoundEr"),
        ("RemoteEntryNotFoundError", HubNotFoundError, "lacks a file of a limpq-hub entry; is it one?"),
        ("HfHubHTTPError", HubUnavailableError, "the Hub did not answer (HfHubHTTPError); try again later"),
        ("ConnectError", HubUnavailableError, "the Hub did not answer (ConnectError); try again later"),
        ("ReadTimeout", HubUnavailableError, "the Hub did not answer (ReadTimeout); try again later"),
    ],
)
def test_each_answer_of_the_hub_becomes_one_error_without_the_token(monkeypatch, answer, expected, message):
    def refuse(*args, **kwargs):
        raise hub_answer(answer)

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(expected, match=re.escape(message)) as caught:
        find_entry("hf-hub:nobody/tiny@v1", token="hf_secret")
    assert str(caught.value).startswith(("nobody/tiny@v1: ", "nobody/tiny@v1 "))
    assert "hf_secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.exit_code == 6
