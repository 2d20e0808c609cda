"""Hostile repositories: pickles in disguise and unsafe paths are refused, and an audit hook sees nothing executed."""

import gzip
import io
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch

# Each part of an entry is read as `load` reads it; the audit hook comes after a load that works.
CHILD = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
from limpq_hub import LimpqError, load, search
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry_folder import load_float_network, load_supernet
from limpq_hub.zoo.float_file import float_weights

def read(repository):
    entry = find_entry(f"hf-hub:{repository}")
    search(f"hf-hub:{repository}", bitops="w3a3")
    entry.classes, entry.metrics, entry.summary()
    for published in entry.published:
        load_checkpoint(entry.checkpoint(published.name))
    load_supernet(entry.folder, entry.indicators)
    load_float_network(entry.folder)
    float_weights(entry.folder, entry.indicators.costs)
    return len(entry.published)

def outcome(repository):
    try:
        return ["", str(read(repository))]
    except LimpqError as error:
        return [type(error).__name__, str(error)]

given = json.loads(sys.stdin.read())
read(given["good"])
outcome(given["warm"])
WATCHED = ("pickle.find_class", "exec", "compile", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn",
           "os.spawn", "os.fork", "os.forkpty", "ctypes.dlopen", "import")
seen, armed = [], True

def watch(event, arguments):
    if not armed:
        return
    if event in WATCHED:
        seen.append([event, str(arguments)[:200]])
    if event == "open":
        path, mode = str(arguments[0]), arguments[1] or ""
        outside = not path.startswith((given["home"], "/dev/", "/proc/")) and path.startswith("/")
        if outside and (set("wax+") & set(mode) or "secret" in path or "passwd" in path):
            seen.append([event, str(arguments)])

sys.addaudithook(watch)
found = {repository: outcome(repository) for repository in given["repositories"]}
honest = outcome(given["good"])
quiet = list(seen)
import pickle
pickle.loads(pickle.dumps(len)), exec("1")  # what the hook must see
armed = False
print(json.dumps({"found": found, "seen": quiet, "honest": honest, "control": [event for event, _ in seen]}))
"""


class RunsCommand:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def zipped(thing) -> bytes:
    buffer = io.BytesIO()
    torch.save({"fc.weight": thing}, buffer)
    return buffer.getvalue()


def legacy(thing) -> bytes:
    buffer = io.BytesIO()
    torch.save({"fc.weight": thing}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


DISGUISES = {
    **{f"protocol {number}": lambda thing, number=number: pickle.dumps(thing, number) for number in range(6)},
    "torch.save": zipped,
    "torch.save of old": legacy,
    "gzip": lambda thing: gzip.compress(pickle.dumps(thing), mtime=0),
    "a safetensors header before": lambda thing: (2).to_bytes(8, "little") + b"{}" + pickle.dumps(thing, 4),
}
PLACES = [
    *("policies/small/model.safetensors", "policies/small/policy.json", "supernet.safetensors", "indicators.json"),
    *("float.safetensors", "float.safetensors.gz", "classes.json", "metrics.json"),
]
PATHS = [
    *(
        "../secret",
        "/etc/passwd",
        "..",
        "a/../../secret",
        "policies/../../../secret",
        "..\\secret",
        "C:\\secret",
        "a\\b",
    ),
    *("policies/small/../../../secret", "a" * 300 + "/" * 3, "a/b/c/d/e/f", "~/secret", "file:///etc/passwd", "a\0b"),
    *("hf-hub:x/y", "con fig", "-rf", ".ssh/authorized_keys", "\u202esecret"),
]
# Arguments of timm.create_model that name code, files or weights, or choose how a network runs.
ARGUMENTS = {
    "scriptable": True,
    "pretrained": True,
    "checkpoint_path": "/etc/passwd",
    "pretrained_cfg": {"url": "file:///etc/passwd"},
    "pretrained_cfg_overlay": {"file": "/etc/passwd"},
    "norm_layer": "os.system",
    "act_layer": "os.system",
    "features_only": True,
}


@pytest.fixture
def hostile(hub, with_float, reseal, seal, tmp_path):
    """Name of each hostile repository, and in what words it must be refused."""
    marker, expected = str(tmp_path / "executed"), {}

    def commit(name):
        content = {path.relative_to(with_float).as_posix(): path.read_bytes() for path in with_float.rglob("*.*")}
        hub.commit(name, {path: data for path, data in content.items() if "/." not in path})

    commit("you/good")
    for place in PLACES:
        path = with_float / place
        # A gzipped float network is read where no other one is.
        replaced = path.with_name(path.name.removesuffix(".gz"))
        whole = replaced.read_bytes()
        replaced.unlink()
        for index, (disguise, wrap) in enumerate(DISGUISES.items()):
            name = f"you/pickle-{PLACES.index(place)}-{index}"
            data = wrap(RunsCommand(marker))
            if place.endswith(".gz"):
                data = gzip.compress(data, mtime=0)
            path.write_bytes(data)
            reseal(path.parent)
            commit(name)
            expected[name] = (place, disguise)
        path.unlink()
        replaced.write_bytes(whole)
        reseal(path.parent)
    config = json.loads((with_float / "config.json").read_text())
    for index, unsafe in enumerate(PATHS):
        seal(with_float, config | {"files": config["files"] | {unsafe: config["files"]["classes.json"]}})
        commit(f"you/path-{index}")
        expected[f"you/path-{index}"] = ("config.json", "path")
    for index, architecture in enumerate(["os.system", "hf-hub:evil/net", "../net", "timm.models", "resnet18; rm"]):
        seal(with_float, config | {"architecture": architecture})
        commit(f"you/architecture-{index}")
        expected[f"you/architecture-{index}"] = ("config.json", "architecture")
    for index, (argument, value) in enumerate(ARGUMENTS.items()):
        seal(with_float, config | {"model_args": {argument: value}})
        commit(f"you/arguments-{index}")
        expected[f"you/arguments-{index}"] = ("config.json", "arguments")
    seal(with_float, config | {"auto_map": {"AutoModel": "modeling.Evil"}})
    (with_float / "modeling.py").write_text(f"open({marker!r}, 'w')")
    commit("you/code")
    for index, file in enumerate(("pytorch_model.bin", "model.pt", "weights.pkl", "a/b.ckpt")):
        hub.commit(f"you/only-{index}", {file: pickle.dumps(RunsCommand(marker))})
        expected[f"you/only-{index}"] = (file, "only pickles")
    return expected


@pytest.mark.slow
def test_nothing_of_a_hostile_repository_is_executed_and_each_is_refused_by_name(hub, hostile, tmp_path):
    (tmp_path / "secret").write_text("secret")
    names = [*hostile, "you/code"]
    warm = "you/pickle-0-2"
    given = {"good": "you/good", "warm": warm, "repositories": names, "home": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(given),
        env=hub.environment(tmp_path / "cache"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert said["seen"] == []
    assert {"pickle.find_class", "exec", "compile"} <= set(said["control"]), "the hook sees nothing"
    assert not (tmp_path / "executed").exists()
    assert said["honest"] == ["", "2"]
    assert said["found"].pop("you/code") == ["", "2"]
    assert len([name for name in hostile if "pickle" in name]) >= 40
    for name, (file, disguise) in hostile.items():
        kind, message = said["found"][name]
        assert kind in ("UnsafeFileError", "ArtifactFormatError", "ArtifactIntegrityError"), (
            name,
            file,
            disguise,
            message,
        )
        assert "\n" not in message
        assert name in message
        assert len(message) < 400
        if disguise == "path":
            assert kind == "UnsafeFileError"
            assert "is not a plain file name inside the folder" in message
        elif disguise == "architecture":
            assert "is not an architecture of timm" in message
        elif disguise == "arguments":
            assert "config.json: model_args: " in message
        else:
            assert file in message, (disguise, message)
        if disguise in ("protocol 2", "protocol 3", "protocol 4", "protocol 5", "torch.save", "torch.save of old"):
            gzipped = file.endswith(".gz")
            assert kind == ("ArtifactFormatError" if gzipped else "UnsafeFileError"), (file, disguise, message)
        if disguise == "only pickles":
            assert "a pickle, which can execute code, and no entry of limpq-hub: it is not read" in message


def test_the_payload_of_the_pickles_works(tmp_path):
    pickle.loads(pickle.dumps(RunsCommand(str(tmp_path / "executed"))))
    assert (tmp_path / "executed").exists(), "the payload is harmless, so the test above shows nothing"
