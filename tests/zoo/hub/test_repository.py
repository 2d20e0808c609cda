"""Tests of the Hub: a miss fails at once and says so, a cached commit is verified, each answer is one error."""

import errno
import importlib
import json
import math
import os
import re
import shutil
import time

import pytest
from huggingface_hub import close_session, constants, errors, get_session, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from limpq_hub import __version__
from limpq_hub.errors import (
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactVersionError,
    HubCacheError,
    HubError,
    HubGatedError,
    HubNotFoundError,
    HubOfflineError,
    HubRefusedError,
    HubUnauthorizedError,
    HubUnavailableError,
    UnknownModelError,
    UnsafeFileError,
)
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.hub import repository as hub
from limpq_hub.zoo.hub import upload as hub_upload
from limpq_hub.zoo.loading import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OFFLINE_MISS = "nobody/nothing@main is not in the cache and HF_HUB_OFFLINE is set; go online once, or unset it"


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


def test_an_offline_miss_fails_within_a_second_and_says_what_to_do(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    began = time.perf_counter()
    with pytest.raises(HubOfflineError) as caught:
        load("hf-hub:nobody/nothing", bitops="3G", cache_dir=str(tmp_path / "empty"))
    assert time.perf_counter() - began < 1
    assert isinstance(caught.value, OSError)
    assert str(caught.value) == OFFLINE_MISS
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_offline_miss_in_a_process_of_its_own_fails_within_a_second_and_says_what_to_do(run_python, tmp_path):
    code = (
        "import json, time\n"
        "import limpq_hub, limpq_hub.zoo.loading, limpq_hub.zoo.hub.repository\n"
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
    assert message == OFFLINE_MISS
    assert seconds < 1
    assert result.stderr == ""


@pytest.mark.parametrize("revision", ["v9", "f" * 40, "refs/pr/1"])
def test_a_revision_that_is_not_in_the_cache_is_named(cache, revision):
    with pytest.raises(HubOfflineError, match=f"nobody/tiny@{revision} is not in the cache and "):
        find_entry(f"hf-hub:nobody/tiny@{revision}", cache_dir=str(cache))


@pytest.mark.parametrize(
    "repo",
    [
        *("", "a/b/c", "/name", "owner/", "../name", "owner/..", "owner/na me", "owner/name?x=1", "own\ner/name"),
        *("owner/name.git", "-owner/name", "owner/na--me", "o" * 97 + "/name"),
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
            ArtifactIntegrityError,
            match=rf"nobody/tiny@{COMMIT[:12]}/{re.escape(file)} is damaged: its {len(damaged)} ",
        ):
            load("hf-hub:nobody/tiny", policy=tiny.policies["large"], cache_dir=str(cache))


def test_a_file_that_is_missing_in_the_cache_is_refused(cache, snapshot, tiny):
    (snapshot / "policies/large/model.safetensors").unlink()
    with pytest.raises(
        HubOfflineError, match=f"nobody/tiny@{COMMIT} is not in the cache and HF_HUB_OFFLINE is set; go"
    ):
        load("hf-hub:nobody/tiny", policy=tiny.policies["large"], cache_dir=str(cache))


def test_a_repository_without_a_config_is_refused(cache, snapshot):
    (snapshot / "config.json").unlink()
    with pytest.raises(HubError, match="nobody/tiny@"):
        find_entry("hf-hub:nobody/tiny", cache_dir=str(cache))


def hub_answer(error: str, status: int) -> Exception:
    """An error as huggingface_hub or its HTTP client raises it."""
    client = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])
    request = client.Request("GET", "https://huggingface.co/nobody/tiny", headers={"authorization": "Bearer hf_secret"})
    if not status:
        return getattr(client, error)("no", request=request)
    return getattr(errors, error)("no", response=client.Response(status, request=request))


ABSENT = "the Hub shows no such repository; check the name, or give a token that may read it"
NO_REVISION = "the Hub has the repository, and no such revision; check the name of the branch, tag or commit"
SLOW = "the Hub did not answer in time; check the connection, or try again later"
BROKEN = "the connection to the Hub broke off; check the connection, or try again later"
REFUSED = "the Hub answered {}; give a token that may do this: run `hf auth login`, or set HF_TOKEN"


@pytest.mark.parametrize(
    ("answer", "status", "expected", "message"),
    [
        ("RepositoryNotFoundError", 404, HubNotFoundError, ABSENT),
        ("RevisionNotFoundError", 404, HubNotFoundError, NO_REVISION),
        (
            "RemoteEntryNotFoundError",
            404,
            HubNotFoundError,
            "lacks a file of a limpq-hub entry; tell its owner, or load",
        ),
        *(
            ("GatedRepoError", status, HubGatedError, "is gated; ask for access on its page on the Hub, then give")
            for status in (401, 403)
        ),
        *(("HfHubHTTPError", status, HubUnauthorizedError, REFUSED.format(status)) for status in (401, 403)),
        *(
            ("HfHubHTTPError", status, HubRefusedError, f"the Hub answered {status}: 'no'; nothing was changed")
            for status in (400, 402, 405, 409, 410, 413, 422, 451)
        ),
        ("HfHubHTTPError", 412, HubRefusedError, "was changed by somebody else meanwhile; nothing was changed; push"),
        *(
            ("HfHubHTTPError", status, HubUnavailableError, f"the Hub did not answer ({status}); try again later")
            for status in (408, 425, 429, 500, 502, 503, 504)
        ),
        ("ConnectError", 0, HubUnavailableError, "no connection to the Hub; check the internet connection, and HF_"),
        ("ReadTimeout", 0, HubUnavailableError, SLOW),
        ("RemoteProtocolError", 0, HubUnavailableError, BROKEN),
    ],
)
def test_each_answer_of_the_hub_becomes_one_error_without_the_token(
    monkeypatch, tmp_path, answer, status, expected, message
):
    def refuse(*given, **named):
        raise hub_answer(answer, status)

    monkeypatch.setattr(hub.HfApi, "model_info", refuse)
    with pytest.raises(expected, match=re.escape(message)) as caught:
        find_entry("hf-hub:nobody/tiny@v1", token="hf_secret", cache_dir=str(tmp_path))
    assert str(caught.value).startswith(("nobody/tiny@v1: ", "nobody/tiny@v1 "))
    assert "hf_secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert answer not in str(caught.value)
    assert caught.value.client_error.startswith(f"{answer}: ")
    assert "hf_secret" not in caught.value.client_error
    assert caught.value.exit_code == 6
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (errors.LocalTokenNotFoundError("no"), HubUnauthorizedError, "no token; run `hf auth login`, or set HF_TOKEN"),
        (ValueError("odd"), HubUnavailableError, "what the Hub sent is damaged or cut off; try again, and check HF_"),
        (
            errors.OfflineModeIsEnabled("no"),
            HubOfflineError,
            "is not in the cache and HF_HUB_OFFLINE is set; go online",
        ),
    ],
)
def test_what_the_client_itself_refuses_becomes_an_error_of_this_library(
    monkeypatch, tmp_path, error, expected, message
):
    def refuse(*given, **named):
        raise error

    monkeypatch.setattr(hub.HfApi, "model_info", refuse)
    with pytest.raises(expected, match=re.escape(message)):
        find_entry("hf-hub:nobody/tiny", cache_dir=str(tmp_path))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_says_what_the_hub_says(monkeypatch, status):
    said = "Your plan does not allow this"

    def refuse(*given, **named):
        error = hub_answer("HfHubHTTPError", status)
        error.server_message = said
        raise error

    monkeypatch.setattr(hub.HfApi, "whoami", refuse)
    with pytest.raises(HubUnauthorizedError) as caught:
        hub.token_holder("you/tiny")
    assert str(caught.value) == (
        f"you/tiny@main: the Hub answered {status}: {said!r}; give a token that may do this: run `hf auth login`, or "
        "set HF_TOKEN"
    )


def test_a_commit_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(hub.HfApi, "model_info", None)
    assert hub.resolve_commit("nobody/tiny", COMMIT, None, None) == COMMIT


def test_the_commit_is_asked_for_with_a_limit_and_remembered(monkeypatch, tmp_path):
    asked = []

    class Info:
        sha = COMMIT

    monkeypatch.setattr(hub.HfApi, "model_info", lambda self, repo, **named: asked.append((repo, named)) or Info)
    assert hub.resolve_commit("nobody/tiny", "v1", str(tmp_path), None) == COMMIT
    assert asked == [("nobody/tiny", {"revision": "v1"})]
    assert (tmp_path / "models--nobody--tiny/refs/v1").read_text() == COMMIT


# With a Hub on this machine.


def test_every_request_names_this_library_and_the_token_goes_to_the_hub_alone(on_hub, tiny):
    load("hf-hub:you/tiny", policy=tiny.policies["large"], cache_dir=on_hub.cache)
    assert {request.server for request in on_hub.hub.requests} == {"hub", "storage"}
    for request in on_hub.hub.requests:
        assert f"limpq-hub/{__version__}" in request.user_agent
        assert request.authorized == (request.server == "hub")


def test_the_config_is_fetched_once_and_only_the_files_that_a_load_needs(on_hub, tiny):
    load("hf-hub:you/tiny", policy=tiny.policies["large"], cache_dir=on_hub.cache)
    checkpoints = [f"policies/{name}/{file}" for name in ("large", "small") for file in ("config.json", "metrics.json")]
    needed = ["classes.json", "config.json", "indicators.json", "policies/large/model.safetensors"]
    assert on_hub.hub.fetched() == sorted([*needed, *checkpoints, "policies/large/policy.json"])
    came = len(on_hub.hub.requests)
    load("hf-hub:you/tiny", policy=tiny.policies["large"], cache_dir=on_hub.cache)
    assert [request.path for request in on_hub.hub.requests[came:]] == ["/api/models/you/tiny"]


def test_what_was_found_by_a_branch_is_found_by_it_offline(on_hub, tiny, monkeypatch):
    old = on_hub.hub.references("you/tiny")["refs/heads/main"]
    on_hub.hub.tag("you/tiny", "v1")
    new = on_hub.hub.commit("you/tiny", {"README.md": b"more"})
    names = {"hf-hub:you/tiny": new, "hf-hub:you/tiny@v1": old, f"hf-hub:you/tiny@{old}": old}
    for name, commit in names.items():
        assert find_entry(name, cache_dir=on_hub.cache).revision == commit
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    came = len(on_hub.hub.requests)
    for name, commit in names.items():
        assert find_entry(name, cache_dir=on_hub.cache).revision == commit
    assert len(on_hub.hub.requests) == came


@pytest.mark.parametrize("restriction", ["private", "gated"])
def test_a_token_opens_what_is_closed_to_others(on_hub, monkeypatch, tmp_path, restriction):
    on_hub.hub.restrict("you/tiny", **{restriction: True})
    assert find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache, token=on_hub.hub.token).source == "hub"
    expected = HubNotFoundError if restriction == "private" else HubGatedError
    monkeypatch.setenv("HF_TOKEN", "")
    for token in (on_hub.hub.other_token, None):
        with pytest.raises(expected, match="^you/tiny@"):
            find_entry("hf-hub:you/tiny", cache_dir=str(tmp_path / "cold"), token=token)
    with pytest.raises(HubUnauthorizedError, match="the Hub answered 401"):
        find_entry("hf-hub:you/tiny", cache_dir=str(tmp_path / "cold"), token="hf_wrong")
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(on_hub.hub.token.encode() in data for data in kept)


@pytest.mark.parametrize(
    ("files", "expected", "message"),
    [
        ({"README.md": b"#"}, HubNotFoundError, "holds no config.json; is it an entry of limpq-hub?"),
        ({}, HubNotFoundError, "holds no config.json; is it an entry of limpq-hub?"),
        *(
            (
                {"README.md": b"#", name: b"any"},
                UnsafeFileError,
                f"holds {name!r}, a pickle, which can execute code, and no entry of limpq-hub: it is not read",
            )
            for name in (
                "pytorch_model.bin",
                "a/b.PKL",
                "model.pt",
                "model.pth",
                "last.ckpt",
                "x.pickle",
                "f.joblib",
                "f.dill",
            )
        ),
        (
            {"config.json": b'{"model_type": "bert"}', "pytorch_model.bin": b"any", "model.safetensors": b"any"},
            UnsafeFileError,
            "holds 'pytorch_model.bin', a pickle, which can execute code, and no entry of limpq-hub: it is not read",
        ),
        (
            {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"any"},
            ArtifactFormatError,
            "config.json: format None is not one of the formats 1 to 6 that this version reads; is it an artifact of "
            "limpq-hub?",
        ),
        (
            {"config.json": b'{"format": 7, "kind": "entry"}', "anything.bin": b"any"},
            ArtifactVersionError,
            "config.json: format 7 is not one of the formats 1 to 6 that this version reads; upgrade limpq-hub, or "
            "tell the",
        ),
    ],
    ids=str,
)
def test_a_repository_of_something_else_is_refused_by_name(online, files, expected, message):
    online.hub.commit("nobody/other", files)
    with pytest.raises(expected, match=re.escape(message)) as caught:
        find_entry("hf-hub:nobody/other", cache_dir=online.cache)
    assert "nobody/other" in str(caught.value)
    assert set(online.hub.fetched()) == {"config.json"} & files.keys()


def test_a_repository_that_is_not_there_is_told_as_that_for_a_commit_too(online):
    message = f"^nobody/none@{COMMIT}: the Hub shows no such repository"
    with pytest.raises(HubNotFoundError, match=message):
        find_entry(f"hf-hub:nobody/none@{COMMIT}", cache_dir=online.cache)


@pytest.mark.parametrize("kind", ["unavailable", "drop"])
def test_another_format_is_told_as_it_is_where_the_list_of_files_cannot_be_had(online, kind):
    online.hub.commit("nobody/other", {"config.json": b'{"model_type": "bert"}', "pytorch_model.bin": b"any"})
    online.hub.fault("/api/models/nobody/other/tree/*", kind, math.inf)
    with pytest.raises(ArtifactFormatError, match=r"^hf-hub:nobody/other@\w{12}/config\.json: format None is not"):
        find_entry("hf-hub:nobody/other", cache_dir=online.cache)


def test_a_file_that_the_manifest_lists_and_the_repository_lacks_is_named(on_hub, tiny):
    commit = on_hub.hub.commit("you/tiny", {"policies/large/model.safetensors": None})
    with pytest.raises(HubNotFoundError) as caught:
        load("hf-hub:you/tiny", policy=tiny.policies["large"], cache_dir=on_hub.cache)
    assert str(caught.value) == (
        f"you/tiny@{commit} lacks policies/large/model.safetensors; tell its owner, or load another revision"
    )


def test_a_cache_that_cannot_be_written_is_told_as_that(on_hub, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    message = r"^you/tiny@\w{40}: the cache .* cannot be written \(Not a directory\); free space there, or name another"
    with pytest.raises(HubCacheError, match=message):
        find_entry("hf-hub:you/tiny", cache_dir=str(tmp_path / "file"))
    entry = find_entry("hf-hub:you/tiny", cache_dir=on_hub.cache)

    def full(*given, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{on_hub.cache}/blobs/x.incomplete")

    monkeypatch.setattr(hub.HfApi, "hf_hub_download", full)
    with pytest.raises(HubCacheError, match=r"the cache '.* cannot be written \(No space left on"):
        entry.folder.read("indicators.json")


def test_a_damaged_file_that_cannot_be_repaired_for_want_of_space_is_told_as_that(cache, snapshot, monkeypatch):
    (snapshot / "indicators.json").write_bytes(b"")
    entry, download = find_entry("hf-hub:nobody/tiny", cache_dir=str(cache)), hub.HfApi.hf_hub_download

    def full(*given, force_download, **named):
        if force_download:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return download(*given, **named)

    monkeypatch.setattr(hub.HfApi, "hf_hub_download", full)
    message = (
        f"nobody/tiny@{COMMIT}: a file on this machine cannot be read or written (No space left on device); free "
        "space, or name another folder by cache_dir or HF_HUB_CACHE"
    )
    with pytest.raises(HubCacheError, match=f"^{re.escape(message)}$"):
        entry.folder.read("indicators.json")


def test_a_file_that_is_none_of_the_cache_is_not_called_one(on_hub, monkeypatch, tmp_path):
    token = tmp_path / "token"

    def closed(*given, **named):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(token))

    monkeypatch.setattr(hub.HfApi, "list_repo_refs", closed)
    with pytest.raises(HubUnavailableError) as caught:
        hub.tags_of("you/tiny")
    assert str(caught.value) == (
        f"you/tiny@main: {str(token)!r} cannot be read or written (Permission denied); check its owner and its rights"
    )


def test_certificates_that_cannot_be_read_are_told_as_that(online, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    close_session()
    with pytest.raises(HubUnavailableError) as caught:
        hub.tags_of("you/tiny")
    assert str(caught.value) == (
        "you/tiny@main: the certificates cannot be read (No such file or directory); check what SSL_CERT_FILE and "
        "SSL_CERT_DIR name, or unset both"
    )


def test_a_token_is_taken_as_the_client_takes_it(on_hub, monkeypatch):
    on_hub.hub.restrict("you/tiny", private=True)
    for token in (None, True, "", on_hub.hub.token, f" {on_hub.hub.token}\n"):
        assert find_entry("hf-hub:you/tiny", token=token, cache_dir=on_hub.cache).source == "hub"
    with pytest.raises(HubNotFoundError, match="^you/tiny@main: the Hub shows no such repository"):
        find_entry("hf-hub:you/tiny", token=False, cache_dir=on_hub.cache)
    monkeypatch.setenv("HF_TOKEN", "no token")  # which is not sent
    on_hub.hub.restrict("you/tiny")
    assert find_entry("hf-hub:you/tiny", token=False, cache_dir=on_hub.cache).source == "hub"


@pytest.mark.parametrize(
    ("token", "kind"), [(3, "int"), (0, "int"), (b"hf_loopback", "bytes"), (["hf_loopback"], "list")]
)
def test_a_token_that_is_no_text_is_refused_without_showing_it(online, token, kind):
    message = f"^token= takes the text of a token, or True, False or None; found a {kind}$"
    with pytest.raises(HubUnauthorizedError, match=message):
        hub.tags_of("you/tiny", token)
    assert online.hub.requests == []


def test_a_proxy_that_cannot_be_is_told_as_that(online, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "foo://proxy:1")
    close_session()
    with pytest.raises(HubUnavailableError, match=r"^you/tiny@main: no connection can be set up \(.*foo://.*\); check"):
        hub.tags_of("you/tiny")


CALLS = {
    "commit": lambda folder: hub.resolve_commit("you/tiny", None, str(folder / "cache"), None),
    "list of files": lambda folder: hub.refuse_pickles("you/tiny", COMMIT, None),
    "list": lambda folder: hub.list_repositories("you"),
    "tags": lambda folder: hub.tags_of("you/tiny"),
    "holder": lambda folder: hub.token_holder("you/tiny"),
    "upload": lambda folder: hub_upload.upload_folder(folder, "you/tiny", message="m"),
}


@pytest.mark.parametrize("content", ["{}", "[]", "null", "[null]", "3", '"text"', '{"sha": 3}', "[" * 5000])
@pytest.mark.parametrize("call", CALLS)
def test_an_answer_of_another_shape_is_one_error_or_an_empty_list(online, tmp_path, call, content):
    client = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])
    (tmp_path / "config.json").write_text("{}")
    answer = client.MockTransport(lambda request: client.Response(200, text=content))
    close_session()
    set_client_factory(lambda: client.Client(transport=answer))
    try:
        if "list" in call and content in ("[]", "{}"):
            assert not CALLS[call](tmp_path)
            return
        with pytest.raises(HubUnavailableError) as caught:
            CALLS[call](tmp_path)
    finally:
        set_client_factory(default_client_factory)
    assert re.match(r"(you/tiny(@\w+)?|the models of you): what the Hub sent is damaged", str(caught.value))
    assert "\n" not in str(caught.value)


def test_the_repositories_of_an_owner_are_those_made_for_this_library(online):
    card = b"---\nlibrary_name: limpq-hub\ntags:\n- limpq-hub\n---\n"
    for name, content in {"you/b": card, "you/a": card, "you/other": b"#", "nobody/c": card}.items():
        online.hub.commit(name, {"README.md": content})
    assert hub.list_repositories("you") == ["you/a", "you/b"]
    assert hub.list_repositories("nobody") == ["nobody/c"]
    assert hub.list_repositories("stranger") == []


def test_a_revision_below_the_name_of_another_is_found(on_hub):
    on_hub.hub.tag("you/tiny", "release")
    assert find_entry("hf-hub:you/tiny@release", cache_dir=on_hub.cache).source == "hub"
    commit = on_hub.hub.references("you/tiny")["refs/tags/release"]
    on_hub.hub.tag("you/tiny", "release/2")
    assert find_entry("hf-hub:you/tiny@release/2", cache_dir=on_hub.cache).revision == commit


@pytest.mark.parametrize(
    ("variable", "value"), [("SSL_CERT_FILE", "/gone/certificates.pem"), ("HTTPS_PROXY", "foo://nowhere")]
)
def test_what_is_in_the_cache_needs_no_session_of_the_client(cache, tiny, monkeypatch, variable, value):
    close_session()
    monkeypatch.setenv(variable, value)
    try:
        for offline in (True, False):
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
            pinned = load(f"hf-hub:nobody/tiny@{COMMIT}", policy=tiny.policies["large"], cache_dir=str(cache))
            assert (pinned.limpq.revision, pinned.limpq.weights) == (COMMIT, "finetuned")
            with pytest.warns(UserWarning, match="; the commit that it named last is used: 0123456789ab$"):
                assert find_entry("hf-hub:nobody/tiny", cache_dir=str(cache)).revision == COMMIT
        with pytest.raises(HubUnavailableError, match=f"; check .*{variable}"):
            hub.fetch_file("nobody/tiny", "config.json", COMMIT, str(cache), None, anew=True)
    finally:
        close_session()


@pytest.mark.parametrize("header", ["X-Repo-Commit", "ETag"])
def test_a_mirror_that_drops_what_the_client_needs_is_told_as_no_hub_and_not_as_offline(on_hub, header):
    commit = on_hub.hub.references("you/tiny")["refs/heads/main"]
    session = get_session()
    session.event_hooks |= {"response": [lambda response: response.headers.pop(header, None)]}
    for anew in (False, True):
        with pytest.raises(HubUnavailableError) as caught:
            hub.fetch_file("you/tiny", "config.json", commit, on_hub.cache, None, anew=anew)
        assert str(caught.value) == (
            f"you/tiny@{commit}: what answers is no Hub: its answer lacks the commit or the ETag; check HF_ENDPOINT "
            "and the proxy"
        )


def test_a_file_that_is_to_be_fetched_anew_offline_is_told_to_need_the_hub(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubOfflineError, match=f"^nobody/tiny@{COMMIT} is not in the cache and HF_HUB_OFFLINE is set"):
        hub.fetch_file("nobody/tiny", "config.json", COMMIT, str(cache), None, anew=True)


def test_another_revision_is_named_where_it_is_not_the_damaged_one_itself(on_hub):
    on_hub.hub.commit("you/tiny", {"classes.json": b"[]"})
    on_hub.hub.tag("you/tiny", "v1")
    for asked, advice in (("", ": hf-hub:you/tiny@v1"), ("@v1", "")):
        entry = find_entry(f"hf-hub:you/tiny{asked}", cache_dir=on_hub.cache)
        with pytest.raises(ArtifactIntegrityError) as caught:
            _ = entry.classes
        assert str(caught.value).endswith(f"; tell the owner of you/tiny, or load another revision{advice}")
