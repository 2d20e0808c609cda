"""The way of a model: trained, published, found by name, used offline and published again; each step a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from loopback_hub import LoopbackHub
from PIL import Image

import limpq_hub
from limpq_hub.zoo.loading import NotFineTunedWarning

pytestmark = pytest.mark.slow  # each step starts processes

ROOT = Path(__file__).parent.parent
REPO = "you/resnet-limpq"
RUN = ["--batch-size", "8", "--workers", "0", "--threads", "1", "--max-steps", "2"]
FEW = ["--calibrate-images", "16"]
LOAD = """
import json, sys, warnings
import limpq_hub
found = {}
for name in sys.argv[1:]:
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        model = limpq_hub.load(name, bitops="w4a4")
    found[name] = [model.limpq.revision, model.limpq.weights, model.limpq.plan.bitops, model.limpq.source]
print(json.dumps(found))
"""
# Several commands in one process, for importing takes longer than they do; what each printed.
COMMANDS = """
import contextlib, io, json, sys
from limpq_hub.cli import main
said = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    assert code == 0, err.getvalue()
    said.append([out.getvalue(), err.getvalue()])
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Everything that is published, in its order, with what each step said."""
    root = tmp_path_factory.mktemp("story")
    generator = np.random.default_rng(0)
    for split, count in {"train": 8, "val": 2}.items():
        for label in range(4):
            (root / "data" / split / f"class{label}").mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8) // 2 + 30 * label
                Image.fromarray(pixels.astype(np.uint8)).save(root / "data" / split / f"class{label}/{index}.png")
    _save_float_network(root / "float.safetensors")
    data, weights = ["--data", str(root / "data")], ["--weights", str(root / "float.safetensors")]
    with LoopbackHub() as hub:

        def run(*command: str, expect: int = 0, cache: str = "cache", **environment: str):
            done = subprocess.run(
                [sys.executable, *command],
                cwd=ROOT,
                env=hub.environment(root / cache, ACCELERATE_USE_CPU="true", **environment),
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert done.returncode == expect, done.stderr[-3000:]
            return done

        def limpq(*arguments: str, **given):
            return run("-m", "limpq_hub", *arguments, **given)

        network = ["--model", "test_resnet", "--input-size", "32", "--anchor-gap", "99", "--alpha", "1"]
        trained = run(
            "training/indicators.py",
            *(*network, *data, *weights, *RUN, *FEW, "--output", str(root / "joint"), "--push-to-hub", REPO),
        )
        after_training = len(hub.requests)
        tuned = run(
            "training/finetune.py",
            *("--model", f"hf-hub:{REPO}@v1", "--bitops", "w4a4", *data, *RUN, *FEW, "--push-to-hub", REPO),
            *("--output", str(root / "w4a4")),
        )
        yield SimpleNamespace(
            root=root, hub=hub, run=run, limpq=limpq, trained=trained, tuned=tuned, came=after_training
        )


def _save_float_network(path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=4).state_dict(), path)


def commit_of(story, tag: str) -> str:
    return story.hub.references(REPO)[f"refs/tags/{tag}"]


def test_joint_training_publishes_what_it_wrote_in_one_tagged_commit(story):
    commit = commit_of(story, "v1")
    assert f"published {REPO}@{commit[:12]}, tag v1; next: limpq search hf-hub:{REPO} --bitops w4a4" in (
        story.trained.stdout
    )
    files = story.hub.files(REPO, "v1")
    for file in ("config.json", "indicators.json", "supernet.safetensors", "classes.json", "metrics.json"):
        assert files[file] == (story.root / "joint" / file).read_bytes()
    assert json.loads(files["config.json"])["dataset"] == "data"
    assert len(story.hub.history(REPO, "v1")) == 2
    assert {"options.json", "metrics.jsonl", "curves.png"}.isdisjoint(files)


def test_fine_tuning_adds_its_policy_to_what_is_published(story):
    commit = commit_of(story, "v2")
    assert f"published {REPO}@{commit[:12]}, tag v2" in story.tuned.stdout
    files = story.hub.files(REPO, "v2")
    for file in ("config.json", "policy.json", "model.safetensors", "metrics.json"):
        assert files[f"policies/w4a4/{file}"] == (story.root / "w4a4" / file).read_bytes()
    assert files["supernet.safetensors"] == story.hub.files(REPO, "v1")["supernet.safetensors"]
    assert not [file for file in story.hub.files(REPO, "v1") if file.startswith("policies/")]
    assert story.hub.references(REPO)["refs/heads/main"] == commit


def test_what_fine_tuning_fetched_loads_offline(story, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.warns(NotFineTunedWarning, match="was not fine-tuned"):
        model = limpq_hub.load(f"hf-hub:{REPO}@v1", bitops="w4a4", cache_dir=str(story.root / "cache/hub"))
    assert (model.limpq.revision, model.limpq.weights, model.limpq.source) == (commit_of(story, "v1"), "joint", "hub")


def test_both_revisions_load_online_and_offline(story):
    first, second = (commit_of(story, tag) for tag in ("v1", "v2"))
    names = [f"hf-hub:{REPO}{revision}" for revision in ("", "@v1", f"@{first}")]
    online, offline = (
        json.loads(story.run("-c", LOAD, *names, cache="two", HF_HUB_OFFLINE=value).stdout) for value in "01"
    )
    assert online == offline
    assert [found[:2] for found in online.values()] == [[second, "finetuned"], [first, "joint"], [first, "joint"]]
    assert {found[2] for found in online.values()} == {online[names[0]][2]}
    assert {found[3] for found in online.values()} == {"hub"}


def test_a_search_fetches_two_small_files_and_nothing_when_it_is_done_again(story):
    came = len(story.hub.requests)
    plans = [
        json.loads(
            story.limpq("search", f"hf-hub:{REPO}", "--bitops", "w3a3", "--json", cache="search", **given).stdout
        )
        for given in ({}, {}, {"HF_HUB_OFFLINE": "1"})
    ]
    assert plans[0]["bitops"] == plans[1]["bitops"] == plans[2]["bitops"]
    asked = story.hub.requests[came:]
    content = [request for request in asked if request.method == "GET" and request.file]
    assert [request.file for request in content] == ["config.json", "indicators.json"]
    questions = [f"{request.method} {request.path}" for request in asked if "/api/resolve-cache/" not in request.path]
    resolve = f"/{REPO}/resolve/{commit_of(story, 'v2')}"
    of_files = [f"HEAD {resolve}/{file}" for file in ("config.json", "indicators.json")]
    # The second search asks for the commit alone, the offline one nothing.
    info = f"GET /api/models/{REPO}"
    assert questions == [info, *of_files, info]
    sizes = [len(story.hub.files(REPO)[file]) for file in ("config.json", "indicators.json")]
    assert sum(sizes) < 50_000


def test_offline_with_a_cold_cache_says_what_to_do(story):
    done = story.limpq("search", f"hf-hub:{REPO}", "--bitops", "w3a3", cache="cold", HF_HUB_OFFLINE="1", expect=6)
    assert done.stderr == (
        f"limpq search: {REPO}@main is not in the cache and HF_HUB_OFFLINE is set; go online once, or unset it\n"
    )
    assert done.stdout == ""


def test_publish_makes_the_same_entry_from_the_folders_and_proposes_it(story):
    before = story.hub.references(REPO)
    made = story.run(
        "training/publish.py",
        *("--joint", str(story.root / "joint"), "--checkpoint", f"again={story.root}/w4a4"),
        *("--output", str(story.root / "entry"), "--repo-id", REPO, "--create-pr"),
        *("--license", "apache-2.0", "--base-model", "you/float"),
    )
    assert ": 1 policy, " in made.stdout
    after = story.hub.references(REPO)
    assert {name: sha for name, sha in after.items() if name != "refs/pr/1"} == before
    card = story.hub.files(REPO, "refs/pr/1")["README.md"].decode()
    assert "license: apache-2.0" in card
    assert "base_model: you/float" in card
    assert "policies/again/policy.json" in story.hub.files(REPO, "refs/pr/1")


def test_pull_makes_a_model_that_works_without_the_hub(story):
    pulled = story.limpq("pull", f"hf-hub:{REPO}", "--output", str(story.root / "pulled"), cache="pull")
    commit = commit_of(story, "v2")
    assert f"verified; commit {commit}" in pulled.stdout
    listed = json.loads((story.root / "pulled/config.json").read_text())["files"]
    for file in listed:
        assert (story.root / "pulled" / file).read_bytes() == story.hub.files(REPO)[file]
    read_all = (
        "from limpq_hub.zoo.catalog import find_entry\n"
        f"entry = find_entry('hf-hub:{REPO}')\n"
        "print(entry.revision, sum(len(entry.folder.read(file)) for file in entry.folder.files))"
    )
    said = story.run("-c", read_all, cache="pull", HF_HUB_OFFLINE="1").stdout.split()
    assert said == [commit, str(sum(file["bytes"] for file in listed.values()))]


def test_a_branch_of_a_private_repository_is_pushed_to_and_served_under_a_bare_name(story):
    repo, joint, tuned = "you/test_net-limpq", f"local-dir:{story.root}/joint", f"hf-hub:{REPO}"
    commands = [
        ["push", joint, repo, "--dry-run", f"{story.root}/dry"],
        ["push", joint, repo, "--private", "--json"],
        ["push", tuned, repo, "--revision", "next", "--json"],
        ["search", "test_net", "--bitops", "w3a3", "--json"],
    ]
    done = story.run("-c", COMMANDS, json.dumps(commands), LIMPQ_HUB_OWNER="you")
    dry, first, second, found = json.loads(done.stdout)
    assert f"without --dry-run it becomes {repo}" in dry[1]
    # What the first push read, the Hub held nothing of before.
    assert {"README.md", "config.json", "indicators.json"} <= set(os.listdir(story.root / "dry"))
    first, second = json.loads(first[0]), json.loads(second[0])
    references = story.hub.references(repo)
    assert first == {"repo": repo, "commit": references["refs/heads/main"], "tag": "v1", "unchanged": False}
    assert (second["commit"], second["tag"]) == (references["refs/heads/next"], "v2")
    assert second["commit"] != first["commit"]
    dry_run = {path.relative_to(story.root / "dry").as_posix() for path in (story.root / "dry").rglob("*.*")}
    assert dry_run == story.hub.files(repo).keys() - {".gitattributes"}
    commits = [request for request in story.hub.requests if request.path == f"/api/models/{repo}/commit/main"]
    assert len(commits) == 1
    assert json.loads(found[0])["bitops"] > 0
    arguments = ("search", "test_net", "--bitops", "w3a3")
    hidden = story.limpq(*arguments, LIMPQ_HUB_OWNER="you", HF_TOKEN="hf_stranger", expect=6)
    assert f"limpq search: {repo}@main: the Hub shows no such repository" in hidden.stderr


def test_what_an_owner_published_is_listed(story):
    said = json.loads(story.limpq("list", "resnet*", "--hub", "you", "--json").stdout)
    assert [entry["name"] for entry in said] == [f"hf-hub:{REPO}"]
    assert said[0]["policies"][0]["name"] == "w4a4"
    assert "no model of nobody on the Hub" in story.limpq("list", "--hub", "nobody").stderr


def test_no_step_wrote_the_token(story):
    written = [path for path in story.root.rglob("*") if path.is_file() and path.stat().st_size < 10**7]
    assert not [path for path in written if story.hub.token.encode() in path.read_bytes()]
    assert story.hub.token not in story.trained.stdout + story.trained.stderr + story.tuned.stdout + story.tuned.stderr
