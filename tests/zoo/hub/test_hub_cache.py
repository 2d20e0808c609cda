"""The cache of the Hub: damage is repaired from the Hub once or refused by name, and many may fill it at once."""

import json
import math
import re
from pathlib import Path

import pytest
from huggingface_hub import constants

from limpq_hub.errors import ArtifactError, ArtifactFormatError, ArtifactIntegrityError
from limpq_hub.zoo.catalog import find_entry

FILES = [
    *("config.json", "indicators.json", "classes.json", "metrics.json", "supernet.safetensors"),
    *("policies/large/config.json", "policies/large/policy.json", "policies/large/model.safetensors"),
]
DAMAGES = {
    "flipped byte": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    ),
    "truncated": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "emptied": lambda data: b"",
    "another file": lambda data: b"{}",
}


def read_all(cache: str) -> dict[str, bytes]:
    entry = find_entry("hf-hub:you/tiny", cache_dir=cache)
    content = {file: entry.folder.read(file) for file in entry.folder.files}
    for published in entry.published:
        checkpoint = entry.checkpoint(published.name)
        content |= {f"policies/{published.name}/{file}": checkpoint.read(file) for file in checkpoint.files}
    return content


@pytest.fixture
def warm(on_hub):
    """The files of the entry, cached."""
    read_all(on_hub.cache)
    on_hub.hub.requests.clear()
    return next(Path(on_hub.cache).glob("models--you--tiny/snapshots/*"))


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_fetched_anew_once_and_is_whole_then(on_hub, warm, tiny, file):
    whole = (warm / file).read_bytes()
    for damage in DAMAGES.keys() - ({"another file"} if file == "config.json" else set()):
        on_hub.hub.requests.clear()
        (warm / file).resolve().write_bytes(DAMAGES[damage](whole))
        found = read_all(on_hub.cache)
        assert all(data == (tiny.folder / name).read_bytes() for name, data in found.items()), damage
        assert on_hub.hub.fetched() == [file], damage
        assert (warm / file).read_bytes() == whole, damage
        read_all(on_hub.cache)
        assert on_hub.hub.fetched() == [file], damage


def test_a_config_of_another_format_is_refused_and_not_fetched_anew(on_hub, warm):
    (warm / "config.json").resolve().write_bytes(b'{"model_type": "bert"}')
    with pytest.raises(
        ArtifactFormatError, match=r"^hf-hub:you/tiny@\w{12}/config.json: format None is not one of the formats 1 to 6"
    ):
        read_all(on_hub.cache)
    assert on_hub.hub.fetched() == []


@pytest.mark.parametrize("file", FILES)
def test_damage_that_cannot_be_repaired_is_refused_by_name(on_hub, warm, monkeypatch, file):
    whole, message = (
        (warm / file).read_bytes(),
        rf"^hf-hub:you/tiny@\w{{12}}/{re.escape(file)} (is damaged|was changed)",
    )
    for how in ("offline", "the Hub is gone", "the Hub gives the same damage"):
        on_hub.hub.requests.clear()
        (warm / file).resolve().write_bytes(DAMAGES["flipped byte"](whole))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "offline")
        if how != "offline":
            on_hub.hub.fault(f"*/{file}", "drop" if how == "the Hub is gone" else "flipped byte", math.inf)
        with pytest.raises(ArtifactIntegrityError, match=message):
            read_all(on_hub.cache)
        assert on_hub.hub.fetched() == ([file] if how == "the Hub gives the same damage" else []), how
        on_hub.hub.mend()
    assert read_all(on_hub.cache)[FILES[1]] == (warm / FILES[1]).read_bytes()
    assert (warm / file).read_bytes() == whole


def test_a_file_that_is_gone_from_the_cache_is_fetched_again(on_hub, warm):
    (warm / "indicators.json").unlink()
    read_all(on_hub.cache)
    (warm / "classes.json").resolve().unlink()
    read_all(on_hub.cache)
    assert on_hub.hub.fetched("classes.json") == ["classes.json"]
    assert len(on_hub.hub.fetched()) <= 2


def test_an_entry_that_the_hub_holds_damaged_is_refused_by_name_whatever_is_asked(on_hub):
    for file in FILES[1:]:
        on_hub.hub.commit("you/damaged", on_hub.hub.files("you/tiny"))
        whole = on_hub.hub.files("you/tiny")[file]
        on_hub.hub.commit("you/damaged", {file: DAMAGES["flipped byte"](whole)})
        entry = find_entry("hf-hub:you/damaged", cache_dir=on_hub.cache)
        with pytest.raises(ArtifactError, match=rf"^hf-hub:you/damaged@\w{{12}}/{re.escape(file)} is damaged"):
            entry.folder.read(file)


EIGHT = """
import json, os, sys, threading, warnings
import torch
torch.set_num_threads(1)
import limpq_hub, limpq_hub.zoo.loading, limpq_hub.zoo.hub.repository, timm
from limpq_hub import Policy

def one(index):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = limpq_hub.load("hf-hub:you/tiny", policy=json.loads(os.environ["POLICY"]))
    image = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    with torch.inference_mode():
        return [model.limpq.revision, model.limpq.weights, model(image).tolist()]

begin, gate = os.pipe()
children = []
for index in range(8):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(gate)
        os.read(begin, 1)  # all at once, when the parent closes the gate
        try:
            said = json.dumps(one(index))
        except BaseException as error:
            said = json.dumps(f"{type(error).__name__}: {error}")
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    children.append((child, read))
os.close(gate)
results = []
for child, read in children:
    with os.fdopen(read) as file:
        results.append(json.loads(file.read()))
    os.waitpid(child, 0)
print(json.dumps(results))
"""


@pytest.mark.slow
def test_eight_processes_with_one_cold_cache_get_the_same_model_and_fetch_each_file_once(
    hub, tiny, run_python, tmp_path
):
    hub.commit("you/tiny", {path.relative_to(tiny.folder).as_posix(): path.read_bytes() for path in files_of(tiny)})
    # The first to fetch has begun, and not ended, when the others come to it.
    hub.fault("*.safetensors", "stall", seconds=0.5, method="GET")
    policy = json.dumps(tiny.policies["large"].to_json())
    done = run_python(EIGHT, timeout=120, **hub.environment(tmp_path / "cache", POLICY=policy))
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == 8
    assert results == [results[0]] * 8
    assert results[0][:2] == [hub.references("you/tiny")["refs/heads/main"], "finetuned"]
    fetched = hub.fetched()
    assert len(fetched) == len(set(fetched)), fetched
    assert "policies/large/model.safetensors" in fetched


def files_of(tiny):
    return [path for path in tiny.folder.rglob("*") if path.is_file()]
