"""Several processes train one network: the same result as one, the count that was asked for, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import timm
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from script_runs import TORCHRUN, TRAINING, script, started
from tiny_run import CLASSES, NETWORK, RUN
from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.plan.indicators import Indicators
from limpq_hub.train.loop import processes as _processes
from limpq_hub.train.loop.processes import _requested_processes, check_processes


@pytest.fixture
def launched_by(monkeypatch):
    """A function that makes a command line the one of the process that started this one."""

    class Launcher:
        def __init__(self, words):
            self.words = words

        def parent(self):
            return self

        def cmdline(self):
            return self.words

    def fake(*words: str) -> None:
        monkeypatch.setattr(_processes.psutil, "Process", lambda: Launcher(list(words)))

    return fake


ACCELERATE = ("/usr/bin/python3", "/usr/bin/accelerate", "launch")


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ((*ACCELERATE, "--num_processes", "2", "x.py"), 2),
        ((*ACCELERATE, "--num_processes=2", "x.py"), 2),
        ((*ACCELERATE, "--num-processes", "2", "x.py"), 2),
        ((*ACCELERATE, "--num-processes=12", "x.py"), 12),
        ((*ACCELERATE, "--cpu", "--num_processes", "4", "--mixed_precision", "no", "x.py", "--lr", "1"), 4),
        (("accelerate", "launch", "--num_processes", "3", "x.py"), 3),
        ((*ACCELERATE, "x.py", "--model", "resnet18"), None),
        ((*ACCELERATE, "--num_machines", "2", "x.py"), None),
        (("/usr/bin/python3", "x.py", "--num_processes", "2"), None),
        (("/usr/bin/python3", "-m", "torch.distributed.run", "--nproc_per_node", "2", "x.py"), None),
        (("bash", "-c", "accelerate launch --num_processes 2 x.py"), None),
        ((), None),
        (("/usr/bin/python3", "-m", "accelerate.commands.launch", "--num_processes", "2", "x.py"), 2),
        (("/usr/bin/python3", "/usr/bin/accelerate-launch", "--num_processes", "2", "x.py"), 2),
        ((*ACCELERATE, "x.py", "--num_processes", "2"), None),
        ((*ACCELERATE, "--num_processes", "2", "-m", "limpq_hub.train.pretrain", "--lr", "1"), 2),
        ((*ACCELERATE, "-m", "--num_processes=2", "limpq_hub.train.pretrain"), 2),
        ((*ACCELERATE, "-m", "limpq_hub.train.pretrain", "--num_processes", "2"), None),
    ],
)
def test_the_requested_processes_are_those_of_accelerates_own_options(launched_by, words, asked):
    launched_by(*words)
    assert _requested_processes() == asked


def test_a_launcher_that_cannot_be_looked_at_asked_for_nothing(monkeypatch):
    def denied():
        raise psutil.AccessDenied

    monkeypatch.setattr(_processes.psutil, "Process", denied)
    assert _requested_processes() is None


def test_fewer_processes_than_asked_for_are_refused(launched_by, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lib/limpq_hub/train/pretrain.py", "--lr", "1"])
    launched_by(*ACCELERATE, "--num_processes", "2", "x.py")
    with pytest.raises(TrainingError) as caught:
        check_processes(Accelerator(cpu=True))
    assert str(caught.value) == (
        "accelerate launch was asked for 2 processes and started 1; on CPUs use ACCELERATE_USE_CPU=true torchrun "
        "--nproc_per_node 2 -m limpq_hub.train.pretrain with the same options"
    )
    launched_by(*ACCELERATE, "--num_processes", "1", "x.py")
    check_processes(Accelerator(cpu=True))


def test_accelerate_that_starts_fewer_processes_than_asked_for_ends_with_one_line(data, tmp_path):
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2"]
    options = [*NETWORK, *RUN, "--data", str(data)]
    with started([*launch, script("pretrain")], tmp_path / "out", *options, cpu=False) as running:
        assert running.ends() != 0
    assert "pretrain.py: accelerate launch was asked for 2 processes and started 1; on CPUs use" in running.said()
    assert not (tmp_path / "out/metrics.jsonl").exists()


@pytest.fixture(scope="module")
def joint_resnet18(data, tmp_path_factory) -> tuple[Path, Path]:
    """Three joint steps of ResNet-18 in float64: in one process, and in two with half the batch each."""
    root = tmp_path_factory.mktemp("resnet18")
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=CLASSES)
    # A channel that is the same everywhere becomes the bias: at 0 its sign would be rounding noise, and with it the
    # gradient behind the ReLU.
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
    save_file(network.state_dict(), root / "random.safetensors")
    options = ["--model", "resnet18", "--input-size", "32", "--float64", "--max-steps", "3", "--epochs", "2"]
    options += ["--workers", "0", "--threads", "1", "--data", str(data), "--weights", str(root / "random.safetensors")]
    options += ["--calibrate-images", "8", "--anchor-gap", "99", "--candidates", "4", "3", "2"]
    joint = script("indicators")
    with (
        started([joint], root / "one", *options, "--batch-size", "16") as one,
        started([*TORCHRUN, "2", joint], root / "two", *options, "--batch-size", "8") as two,
    ):
        assert one.ends() == 0, one.said()
        assert two.ends() == 0, two.said()
    return root / "one", root / "two"


@pytest.mark.slow
def test_two_processes_learn_the_indicators_of_one_at_the_same_global_batch(joint_resnet18):
    one, two = (Indicators.load(output / "indicators.json") for output in joint_resnet18)
    assert two.weight_steps.keys() == one.weight_steps.keys()
    compared = 0
    for expected, found in ((one.weight_steps, two.weight_steps), (one.activation_steps, two.activation_steps)):
        for name, steps in expected.items():
            assert found[name] == pytest.approx(steps, rel=1e-5), name
            compared += len(steps)
    assert compared == 2 * 3 * 19


@pytest.mark.slow
def test_two_processes_have_the_weights_and_statistics_of_one_at_the_same_global_batch(joint_resnet18):
    one, two = (load_file(output / "states/step-00000003/state.safetensors") for output in joint_resnet18)
    assert two.keys() == one.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-9, atol=1e-11, msg=lambda text, name=name: name + text)
    one, two = (load_file(output / "supernet.safetensors") for output in joint_resnet18)
    statistics = [name for name in one if "running_" in name]
    assert len(statistics) >= 40
    for name in statistics:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-9, msg=lambda text, name=name: name + text)


@pytest.mark.slow
def test_two_processes_validate_between_the_epochs(runs, data, tmp_path):
    options = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", "--data", str(data), *RUN]
    options += ["--epochs", "2", "--validate-epochs", "1", "--calibrate-images", "16"]
    with started([*TORCHRUN, "2", script("finetune")], tmp_path / "out", *options) as running:
        assert running.ends() == 0, running.said()


def test_a_script_option_that_accelerate_has_is_refused_by_the_script(data):
    words = [sys.executable, script("pretrain"), *NETWORK, "--data", str(data), "--output", "x", "--num_processes", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=TRAINING)
    assert done.returncode == 2
    assert "unrecognized arguments: --num_processes 2" in done.stderr
