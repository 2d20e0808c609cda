"""Tests of the loopback Hub: the real client, in processes of its own, does with it what it does with the real one."""

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from loopback_hub import LoopbackHub
from loopback_hub.faults import KINDS

# `result` is what the test gets. The client's pauses between attempts are not waited for but noted.
PRELUDE = """
import json, os, time
from pathlib import Path
waits, pause = [], time.sleep
time.sleep = waits.append
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
api = HfApi(library_name="limpq-hub", library_version="1")

def outcome(ask):
    waits.clear()
    try:
        return [ask(), list(waits)]
    except Exception as error:
        return [type(error).__name__, list(waits)]

def text(path):
    return Path(path).read_bytes().decode("latin-1")

def tree(folder):
    return {path.relative_to(folder).as_posix(): text(path) for path in Path(folder).rglob("*") if path.is_file()}
"""
CONFIG, WEIGHTS = "config.json", "policies/small/model.safetensors"
FILES = {CONFIG: b'{"kind": "entry"}', WEIGHTS: bytes(range(256)) * 400}
SHORT = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
# What comes of `hf_hub_download` with a cold cache while the fault lasts, and its pauses in seconds.
COLD = {
    "repository not found": ["RepositoryNotFoundError", []],
    "revision not found": ["RevisionNotFoundError", []],
    "entry not found": ["RemoteEntryNotFoundError", []],
    "unauthorised": ["RepositoryNotFoundError", []],
    "invalid token": ["HfHubHTTPError", []],
    "gated": ["GatedRepoError", []],
    "forbidden": ["LocalEntryNotFoundError", []],
    "rate limited": ["LocalEntryNotFoundError", [8, 8, 8, 8, 8]],
    "server error": ["LocalEntryNotFoundError", [1, 2, 4, 8, 8]],
    "unavailable": ["LocalEntryNotFoundError", [1, 2, 4, 8, 8]],
    "drop": ["ReadError", []],
    "reset": ["ReadError", []],
    "early close": ["RemoteProtocolError", [1, 1, 1, 1, 1]],
    "wrong length": ["OSError", []],
    "flipped byte": ["another file", []],
    "changed etag": ["the file", []],
}
# What a warm cache hides, so that the caller does not even learn of it, and what it does not.
WARM = dict.fromkeys(COLD, "the file") | {
    "revision not found": "RevisionNotFoundError",
    "entry not found": "RemoteEntryNotFoundError",
    "drop": "ReadError",
}


def client_says(run_python, hub, cache, code, given, **environment):
    code = f"{PRELUDE}\ngiven = {given!r}\n{code}\nprint(json.dumps(result))"
    done = run_python(code, **hub.environment(cache, **environment))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def client(hub, run_python, tmp_path):
    """A function that runs code after the prelude in a process of its own and returns what `result` is then."""

    def run(code, given=None, cache="cache", **environment):
        return client_says(run_python, hub, tmp_path / cache, code, given, **environment)

    return run


def as_text(files):
    return {path: data.decode("latin-1") for path, data in files.items()}


def asked(hub, start=0):
    return [f"{request.method} {request.path} {request.status}" for request in hub.requests[start:]]


@pytest.mark.parametrize(("lfs", "uploads"), [((), 0), (("*.safetensors",), 1), (("*",), 2)])
def test_a_push_makes_one_commit_and_an_unchanged_one_none(run_python, tmp_path, lfs, uploads):
    code = """
result = [api.whoami()["name"], api.create_repo("you/net").repo_id, api.create_repo("you/net", exist_ok=True).repo_id]
result += [api.upload_folder(repo_id="you/net", folder_path=given).oid for _ in range(2)]
"""
    for path, data in FILES.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(data)
    with LoopbackHub(lfs=lfs) as hub:
        *names, first, second = client_says(run_python, hub, tmp_path / "cache", code, str(tmp_path / "folder"))
        assert names == ["you", "you/net", "you/net"]
        assert re.fullmatch("[0-9a-f]{40}", first)
        assert first == second == hub.references("you/net")["refs/heads/main"]
        assert len(hub.history("you/net")) == 2
        files = hub.files("you/net")
        assert (files.pop(".gitattributes") == b"") == (lfs == ())
        assert files == FILES
        assert asked(hub).count("POST /api/models/you/net/commit/main 200") == 1
        named = [request.user_agent.startswith("limpq-hub/1; hf_hub/") for request in hub.requests]
        stored = [request for request in hub.requests if request.method == "PUT"]
        assert (named.count(True), len(stored)) == (len(named) - uploads, uploads)
        assert all((request.server, request.authorized) == ("storage", False) for request in stored)


def test_branches_tags_and_pull_requests_are_those_that_were_made(hub, client):
    first = hub.commit("you/net", FILES)
    code = """
def add(data): return [CommitOperationAdd("config.json", data)]
def change(operations, **where): return api.create_commit("you/net", operations, commit_message="m", **where)
def names(refs): return {ref.name: ref.target_commit for ref in refs}

api.create_tag("you/net", tag="v1")
api.create_branch("you/net", branch="next")
second = change(add(b"2"), revision="next", parent_commit=given).oid
pull_request = change([CommitOperationDelete("policies/")], create_pr=True)
api.create_tag("you/net", tag="v2", revision=second)
refs = api.list_repo_refs("you/net", include_pull_requests=True)
result = [
    second, names(refs.branches), names(refs.tags), [pull_request.oid, pull_request.pr_revision],
    [commit.commit_id for commit in api.list_repo_commits("you/net", revision="v2")],
    sorted(file.path for file in api.list_repo_tree("you/net", revision=pull_request.pr_revision, recursive=True)),
    outcome(lambda: change(add(b"3"), revision="next", parent_commit=given)),
    outcome(lambda: change(add(b"3"), revision="elsewhere")),
    outcome(lambda: api.create_tag("you/net", tag="v1")), api.create_tag("you/net", tag="v1", exist_ok=True),
    [model.id for model in api.list_models(author="you")],
]
"""
    second, branches, tags, (pulled, pull_request), history, listed, *refused, models = client(code, first)
    assert (branches, tags) == ({"main": first, "next": second}, {"v1": first, "v2": second})
    assert history == [second, *hub.history("you/net")]
    assert hub.files("you/net", "next")[CONFIG] == b"2"
    assert hub.files("you/net") == hub.files("you/net", "v1") != hub.files("you/net", pulled)
    assert (pull_request, listed) == ("refs/pr/1", [".gitattributes", CONFIG])
    assert refused == [["HfHubHTTPError", []], ["RevisionNotFoundError", []], ["HfHubHTTPError", []], None]
    assert any(line.endswith("commit/next 412") for line in asked(hub))
    assert asked(hub).count("POST /api/models/you/net/tag/main 409") == 2
    assert models == ["you/net"]


def test_branch_tag_and_sha_are_downloaded_each_file_once_and_offline_again(hub, client):
    old = hub.commit("nobody/net", FILES)
    hub.tag("nobody/net", "v1")
    new = hub.commit("nobody/net", {CONFIG: b"{}"})
    code = """
result = [text(hf_hub_download("nobody/net", "config.json", revision=revision)) for revision in given]
result += [tree(snapshot_download("nobody/net", revision=rev, allow_patterns=["policies/*"])) for rev in given]
"""
    revisions = [None, "main", new, "v1", old]
    entries, configs = [as_text(FILES | {CONFIG: data}) for data in (b"{}", FILES[CONFIG])], [b"{}", FILES[CONFIG]]
    expected = [configs[index > 2].decode() for index in range(5)] + [entries[index > 2] for index in range(5)]
    assert client(code, revisions) == expected
    # The weights are the same in both commits.
    assert hub.fetched() == [CONFIG, CONFIG, WEIGHTS]
    assert all(request.authorized == (request.server == "hub") for request in hub.requests)
    came = len(hub.requests)
    assert client(code, revisions) == expected
    warm = [f"HEAD /nobody/net/resolve/{branch}/config.json 307" for branch in ("main", "main", "v1")]
    info = [f"GET /api/models/nobody/net/revision/{branch} 200" for branch in ("main", "main", "v1")]
    assert [line for line in asked(hub, came) if "resolve-cache" not in line] == warm + info
    came = len(hub.requests)
    assert client(code, revisions, HF_HUB_OFFLINE="1") == expected
    assert client("result = outcome(lambda: snapshot_download('nobody/net'))", HF_HUB_OFFLINE="1", cache="cold") == [
        "LocalEntryNotFoundError",
        [],
    ]
    assert len(hub.requests) == came


def test_an_interrupted_download_goes_on_where_it_was(hub, client):
    weights = bytes(range(256)) * (24 * 2**12)
    hub.commit("nobody/net", {"model.safetensors": weights})
    hub.fault("*/model.safetensors", "early close")
    code = """
import hashlib
result = hashlib.sha256(Path(hf_hub_download("nobody/net", "model.safetensors")).read_bytes()).hexdigest()
"""
    assert client(code) == hub.requests[-1].path.split("/")[3]
    fetches = [(request.range, request.status) for request in hub.requests if request.method == "GET"]
    assert fetches == [(None, 200), (f"bytes={10 * 2**20}-", 206)]


def test_private_and_gated_repositories_answer_by_token(hub, client):
    for name, restriction in {"open": {}, "closed": {"private": True}, "gated": {"gated": True}}.items():
        for owner in ("you", "nobody"):
            hub.commit(f"{owner}/{name}", FILES)
            hub.restrict(f"{owner}/{name}", **restriction)
    hub.commit("nobody/shared", FILES)
    hub.restrict("nobody/shared", private=True, readers=["you"])
    code = """
def download(repository, token):
    cold = Path(os.environ["HF_HOME"], str(len(result)))
    return bool(hf_hub_download(repository, "config.json", token=token, cache_dir=cold))

def upload(repository, token):
    return bool(api.upload_file(path_or_fileobj=b"", path_in_repo="a", repo_id=repository, token=token))

def create(repository, token):
    return bool(api.create_repo(repository, private=True, token=token))

asks, result = {"download": download, "upload": upload, "create": create}, []
for ask, repository, token in given:
    result.append(outcome(lambda: asks[ask](repository, token))[0])
"""
    table = [
        *(("download", "nobody/open", token, True) for token in (False, hub.token, hub.other_token)),
        ("download", "nobody/open", "hf_wrong", "HfHubHTTPError"),
        ("download", "you/closed", hub.token, True),
        ("download", "nobody/shared", hub.token, True),
        *(("download", "you/closed", token, "RepositoryNotFoundError") for token in (False, hub.other_token)),
        *(("download", "nobody/none", token, "RepositoryNotFoundError") for token in (False, hub.token)),
        ("download", "you/gated", hub.token, True),
        *(("download", "you/gated", token, "GatedRepoError") for token in (False, hub.other_token)),
        ("upload", "you/open", hub.token, True),
        ("upload", "nobody/open", hub.token, "HfHubHTTPError"),
        *(("upload", repository, False, "RepositoryNotFoundError") for repository in ("you/open", "you/none")),
        ("create", "you/new", hub.token, True),
        ("create", "nobody/new", hub.token, "HfHubHTTPError"),
        ("create", "you/newer", False, "RepositoryNotFoundError"),
    ]
    assert client(code, [row[:3] for row in table]) == [row[3] for row in table]


def damaged(hub, kind, times, **more):
    """A new repository with faults in its requests for `config.json`."""
    name = f"nobody/{kind.replace(' ', '-')}-{times}"
    hub.commit(name, FILES)
    hub.fault(f"*/{name}/*config.json", kind, times, seconds=7, **more)
    return name


DOWNLOAD = """
def download(repository):
    return "the file" if text(hf_hub_download(repository, "config.json")) == given[0] else "another file"

"""


def test_each_fault_is_the_exception_that_the_real_hub_would_cause(hub, client):
    assert {*COLD, "drip", "stall"} == set(KINDS)
    always = [damaged(hub, kind, math.inf) for kind in COLD]
    once = [damaged(hub, kind, 1) for kind in COLD]
    code = f"{DOWNLOAD}result = [outcome(lambda: download(repository)) for repository in given[1]]"
    found = client(code, [FILES[CONFIG].decode(), always + once])
    assert dict(zip(COLD, found, strict=False)) == COLD
    passing = {kind for kind, (came, _) in zip(COLD, found[len(COLD) :], strict=True) if came == "the file"}
    assert passing == {"rate limited", "server error", "unavailable", "early close", "changed etag"}


def test_a_warm_cache_hides_most_faults(hub, client):
    # A HEAD has no body that could be spoiled, so what strikes there are the kinds that need none.
    kinds = [kind for kind in COLD if kind not in ("reset", "early close", "wrong length", "flipped byte")]
    repositories = [damaged(hub, kind, math.inf, after=3) for kind in kinds]
    code = f"{DOWNLOAD}result = [[outcome(lambda: download(name))[0] for _ in range(2)] for name in given[1]]"
    found = client(code, [FILES[CONFIG].decode(), repositories])
    assert dict(zip(kinds, found, strict=True)) == {kind: ["the file", WARM.get(kind, "the file")] for kind in kinds}


def test_a_stall_ends_a_download_after_the_limit_but_never_a_request_about_the_repository(hub, client):
    hub.commit("nobody/net", FILES)
    hub.fault("*/nobody/net/*config.json", "stall", method="GET")
    hub.fault("/nobody/net/resolve/*", "stall", after=1)
    hub.fault("/api/models/nobody/net", "stall")
    hub.fault("/api/models/nobody/net", "stall", seconds=2)
    code = """
def timed(ask):
    began = time.perf_counter()
    return [outcome(ask), time.perf_counter() - began]

result = [
    timed(lambda: text(hf_hub_download("nobody/net", "config.json"))),
    timed(lambda: text(hf_hub_download("nobody/net", "config.json"))),
    timed(lambda: api.model_info("nobody/net", timeout=1).id),
    timed(lambda: api.model_info("nobody/net").id),
]
"""
    cold, warm, limited, unlimited = client(code, **SHORT)
    config = FILES[CONFIG].decode()
    assert [said for said, _ in (cold, warm, limited, unlimited)] == [
        *([config, [1]], [config, []], ["ReadTimeout", []], ["nobody/net", []])
    ]
    # A stall lasts 60 s, the last one 2 s: twice the limit.
    assert max(seconds for _, seconds in (cold, warm, limited)) < 30
    assert unlimited[1] >= 2


def test_a_fault_of_a_push_comes_before_or_after_the_commit(hub, client):
    code = """
def push(repository):
    api.create_repo(repository)
    operations = [CommitOperationAdd("config.json", b"{}"), CommitOperationAdd("a.safetensors", repository.encode())]
    return bool(api.create_commit(repository, operations, commit_message="m"))

result = [outcome(lambda: push(repository)) for repository in given]
"""
    commit = "/api/models/you/{}/commit/main"
    hub.fault(commit.format("before"), "drop")
    hub.fault(commit.format("after"), "reset")
    hub.fault(commit.format("limited"), "rate limited")
    hub.fault("/upload/*", "unavailable", after=3)
    given = ["you/before", "you/after", "you/limited", "you/upload"]
    assert client(code, given) == [*[["ReadError", []]] * 2, ["HfHubHTTPError", []], [True, [1]]]
    assert [CONFIG in hub.files(repository) for repository in given] == [False, True, False, True]


def test_a_branch_moves_between_two_files(hub, client):
    old = hub.commit("nobody/net", {"a.json": b"old a", "b.json": b"old b"})
    new = hub.commit("nobody/net", {"a.json": b"new a", "b.json": b"new b"}, branch=None)
    code = """
def files(**revision):
    return [text(hf_hub_download("nobody/net", name, **revision)) for name in ("a.json", "b.json")]
result = [files(), files(), files(revision=given)]
"""
    hub.move_branch("nobody/net", "main", new, after=3)
    assert client(code, old) == [["old a", "new b"], ["new a", "new b"], ["old a", "old b"]]
    assert hub.history("nobody/net")[:2] == [new, old]


def test_two_processes_with_one_cache_fetch_each_file_once(hub, client, tmp_path):
    hub.commit("nobody/net", FILES)
    # The first to fetch has begun, and not ended, when the second comes to it.
    hub.fault("*.safetensors", "stall", seconds=0.5, method="GET")
    code = """
Path(given, str(os.getpid())).touch()
while len(os.listdir(given)) < 2:
    pause(0.01)
time.sleep = pause
result = tree(snapshot_download("nobody/net"))
"""
    (tmp_path / "here").mkdir()
    with ThreadPoolExecutor(2) as both:
        results = list(both.map(lambda _: client(code, str(tmp_path / "here")), range(2)))
    assert results == [as_text(hub.files("nobody/net"))] * 2
    assert hub.fetched() == [".gitattributes", CONFIG, WEIGHTS]


def test_a_hub_that_is_gone_is_not_reached(client, run_python, tmp_path):
    with LoopbackHub() as hub:
        hub.commit("nobody/net", FILES)
    code = """
result = [outcome(lambda: hf_hub_download("nobody/net", "config.json")), outcome(lambda: api.model_info("nobody/net"))]
"""
    waits = [1, 2, 4, 8, 8]
    expected = [["LocalEntryNotFoundError", waits], ["ConnectError", []]]
    assert client_says(run_python, hub, tmp_path / "cache", code, None) == expected


def test_an_unknown_kind_of_fault_is_refused(hub):
    with pytest.raises(ValueError, match=r"^'flood' is not a kind of fault; there are repository not found, revision "):
        hub.fault("*", "flood")
