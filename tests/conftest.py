"""What the tests of the zoo, the command and the pictures share: one tiny entry of random weights, sealed once."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import LoopbackHub

# Several processes of tests share the cores: one thread each, in the processes that they start too.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The Hub library reads these when it is imported: whatever a test asks for, nothing goes to the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="limpq-hub-tests-")
os.environ.pop("HF_TOKEN", None)

ARCHITECTURE = "test_resnet"
CANDIDATES = (4, 3, 2)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@dataclass(frozen=True)
class Tiny:
    """A sealed entry and what it was made from.

    Attributes:
        folder: to be read only; `entry_copy` may be damaged.
        name: as `load` takes it.
        supernet: with random weights, in eval mode.
        checkpoints: the network saved below `policies/`, by name; "small" is the best policy within "w3a3", "large"
            is uniform at 4 bits.
        joint: the policy that `metrics.json` has a figure for, uniform at 2 bits.
    """

    folder: Path
    name: str
    supernet: Any
    costs: Any
    indicators: Any
    policies: dict[str, Any]
    checkpoints: dict[str, Any]
    joint: Any
    images: Any


def pytest_collection_finish() -> None:
    """Keep what pytest holds out of every test's time: a full garbage collection looks at 650,000 objects of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _hub_home():
    yield
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one test, its path short enough that an error message quotes it whole, in a worker process too."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """An entry of timm's smallest residual network: 16 layers, 10 classes, 32 x 32 pixels, 4, 3 or 2 bits."""
    # Imported here, so that the tests of `limpq_hub.plan` run without torch.
    import timm
    import torch

    from limpq_hub import Budget, Policy
    from limpq_hub.plan import optimum
    from limpq_hub.plan.jsonfile import write_json
    from limpq_hub.plan.policy_costs import total_bitops
    from limpq_hub.quant.convert import select_policy, to_supernet
    from limpq_hub.quant.learned_indicators import read_indicators
    from limpq_hub.quant.profile import profile_module
    from limpq_hub.zoo.checkpoint import save_checkpoint
    from limpq_hub.zoo.entry_folder import save_entry, seal_entry
    from limpq_hub.zoo.network import NetworkSpec

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    overlay = {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear", "mean": MEAN, "std": STD}
    network = timm.create_model(ARCHITECTURE, num_classes=10, pretrained_cfg_overlay=overlay).eval()
    images = torch.randn(8, 3, 32, 32, generator=generator)
    costs = profile_module(network, images)
    supernet = to_supernet(network, CANDIDATES, example_input=images).eval()
    for module in supernet.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            with torch.no_grad():
                module.running_mean.uniform_(-0.2, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.7, 1.3, generator=generator)
    indicators = read_indicators(
        supernet, costs, input_size=32, num_classes=10, provenance={"command": "tests/conftest.py", "seed": 0}
    )
    folder = tmp_path_factory.mktemp("zoo") / f"{ARCHITECTURE}.noise"
    classes = [{"id": f"n{index:04d}", "name": f"noise {index}"} for index in range(10)]
    save_entry(folder, supernet, indicators, classes)
    policies = {
        "small": optimum.search(indicators, Budget(bitops="w3a3")).policy,
        "large": Policy.uniform(ARCHITECTURE, costs, 4, input_size=32),
    }
    checkpoints = {}
    for (name, policy), top1 in zip(policies.items(), (61.5, 72.25), strict=True):
        checkpoints[name] = select_policy(supernet, policy).eval()
        with torch.no_grad():
            # What fine-tuning does: other weights than the joint ones.
            checkpoints[name].fc.bias.uniform_(-1, 1, generator=generator)
        save_checkpoint(
            folder / "policies" / name,
            checkpoints[name],
            costs,
            metrics={"top1": top1, "top5": 99.0, "images": 400},
            provenance={"seed": 0},
        )
    joint = Policy.uniform(ARCHITECTURE, costs, 2, input_size=32)
    measured = {
        "policy_sha256": joint.digest(),
        "bitops": total_bitops(costs, joint),
        "calibration_images": 0,
        "top1": 33.5,
        "images": 400,
    }
    write_json(folder / "metrics.json", {"float": {"top1": 80.0, "images": 400}, "joint": [measured]})
    seal_entry(folder, NetworkSpec.of(supernet))
    return Tiny(folder, f"local-dir:{folder}", supernet, costs, indicators, policies, checkpoints, joint, images)


@pytest.fixture
def entry_copy(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of the tiny entry that a test may damage."""
    return shutil.copytree(tiny.folder, tmp_path / tiny.folder.name)


@pytest.fixture
def float_network(tiny: Tiny) -> Any:
    """A float network of the tiny entry, with random weights and statistics, in train mode."""
    import torch

    from limpq_hub.zoo.network import NetworkSpec

    torch.manual_seed(3)
    network = NetworkSpec.of(tiny.supernet).build().train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.fixture
def with_float(entry_copy: Path, float_network: Any, tiny: Tiny) -> Path:
    """The copy of the tiny entry with its float network, sealed."""
    from limpq_hub.zoo.entry_folder import save_float_network, seal_entry
    from limpq_hub.zoo.network import NetworkSpec

    save_float_network(entry_copy, float_network)
    seal_entry(entry_copy, NetworkSpec.of(tiny.supernet))
    return entry_copy


@pytest.fixture
def with_front(entry_copy: Path, reseal) -> Callable[..., str]:
    """A function that writes a measured front into the copy of the entry, and returns how `load` takes the copy.

    Its arguments are (BitOps, top-1 in percent), or (BitOps, top-1, calibration images, sha256 of the policy).
    """

    def record(index: int, bitops: int, top1: float, images: int = 0, digest: str | None = None) -> dict[str, Any]:
        digest = digest or f"policy {index}"
        return {"policy_sha256": digest, "bitops": bitops, "top1": top1, "calibration_images": images}

    def write(*points: tuple[Any, ...]) -> str:
        joint = [record(index, *point) for index, point in enumerate(points)]
        path = entry_copy / "metrics.json"
        path.write_text(json.dumps({"float": {"top1": 80.0}, "joint": joint}))
        reseal(entry_copy)
        return f"local-dir:{entry_copy}"

    return write


@pytest.fixture
def seal() -> Callable[[Path, dict[str, Any]], None]:
    """A function that writes a `config.json` whose own sha256 is right, whatever it says; as a forger would."""

    def write(folder: Path, config: dict[str, Any]) -> None:
        content = {key: value for key, value in config.items() if key != "config_sha256"}
        digest = hashlib.sha256((json.dumps(content, indent=1) + "\n").encode()).hexdigest()
        (folder / "config.json").write_text(json.dumps(content | {"config_sha256": digest}, indent=1) + "\n")

    return write


@pytest.fixture
def reseal(seal) -> Callable[..., None]:
    """A function that lists the files of an entry or checkpoint as they are now, with the given keys changed.

    A value of None takes the key out; the entry around a checkpoint is listed again too.
    """

    def again(folder: Path, **changes: Any) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        config = {key: value for key, value in config.items() if value is not None}
        if "files" not in changes:
            files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "config.json")
            listed = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
            config["files"] = {
                name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in listed.items()
            }
        seal(folder, config)
        if folder.parent.name == "policies":
            again(folder.parent.parent)

    return again


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a piece of Python in an interpreter of its own, offline, with warnings as errors."""

    def run(code: str, *, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A Hub on this machine, empty; a child process with `hub.environment(cache)` talks to it."""
    with LoopbackHub() as running:
        yield running


@dataclass(frozen=True)
class Online:
    """This process as the client of a Hub on this machine.

    Attributes:
        hub: it, empty at first.
        cache: of the client, as `cache_dir` takes it; empty at first, and where the client looks if no other is named.
        pauses: seconds that the client wanted to wait between its attempts; it does not wait.
    """

    hub: LoopbackHub
    cache: str
    pauses: list[float]


def folder_content(folder: Path) -> dict[str, bytes]:
    """Return path and content of every file of a folder, as `LoopbackHub.commit` takes them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def on_hub(online: Online, tiny: Tiny) -> Online:
    """The Hub that this process talks to, with the tiny entry in its repository you/tiny."""
    online.hub.commit("you/tiny", folder_content(tiny.folder))
    return online


@pytest.fixture
def online(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Online]:
    """A Hub on this machine that `limpq_hub` talks to within this process, with stalls told after a second."""
    from huggingface_hub import close_session, constants
    from huggingface_hub.utils import disable_progress_bars

    constants_here = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DOWNLOAD_TIMEOUT": 1,
        "HF_HUB_ETAG_TIMEOUT": 1,
    }
    for name, value in constants_here.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    disable_progress_bars()
    close_session()
    yield Online(hub, str(tmp_path / "hub-cache"), pauses)
    close_session()


@dataclass(frozen=True)
class WritesFile:
    """An object whose pickle writes a file when it is loaded: what a malicious artifact does."""

    path: str

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path(self.path), "executed")


@pytest.fixture
def malicious(tmp_path: Path):
    """An object to pickle, whose `path` must not exist afterwards."""
    return WritesFile(str(tmp_path / "executed.txt"))


@pytest.fixture
def limpq(capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs the command and returns (exit code, stdout, stderr)."""
    from limpq_hub.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run
