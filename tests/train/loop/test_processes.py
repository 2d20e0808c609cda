"""Several processes train one network: the same result as one, the count that was asked for, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
from limpq_hub.train.loop.processes import check_processes


def test_fewer_processes_than_asked_for_are_refused(launched_by, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lib/limpq_hub/train/pretrain.py", "--lr", "1"])
    launched_by("/usr/bin/python3", "/usr/bin/accelerate", "launch", "--num_processes", "2", "x.py")
    with pytest.raises(TrainingError) as caught:
        check_processes(Accelerator(cpu=True))
    assert str(caught.value) == (
        "accelerate launch was asked for 2 processes and started 1; on CPUs use ACCELERATE_USE_CPU=true torchrun "
        "--nproc_per_node 2 -m limpq_hub.train.pretrain with the same options"
    )
    launched_by("/usr/bin/python3", "/usr/bin/accelerate", "launch", "--num_processes", "1", "x.py")
    check_processes(Accelerator(cpu=True))


@pytest.mark.slow
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
    for name, of_pairs in one.divergences.items():
        assert two.divergences[name] == pytest.approx(of_pairs, rel=1e-3, abs=1e-6), name
    assert len(one.divergences) == 19


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
def test_processes_wait_for_what_the_main_one_measures_alone():
    script_of_two = Path(__file__).parents[1] / "waiting_processes.py"
    words = [sys.executable, *TORCHRUN, "2", str(script_of_two)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.stdout.split("\n") == ["gloo waits 604800 s"] * 2 + [""], done.stderr


@pytest.mark.slow
def test_two_processes_validate_between_the_epochs(runs, data, tmp_path):
    options = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", "--data", str(data), *RUN]
    options += ["--epochs", "2", "--validate-epochs", "1", "--calibrate-images", "16"]
    with started([*TORCHRUN, "2", script("finetune")], tmp_path / "out", *options) as running:
        assert running.ends() == 0, running.said()


@pytest.mark.slow
def test_a_script_option_that_accelerate_has_is_refused_by_the_script(data):
    words = [sys.executable, script("pretrain"), *NETWORK, "--data", str(data), "--output", "x", "--num_processes", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=TRAINING)
    assert done.returncode == 2
    assert "unrecognized arguments: --num_processes 2" in done.stderr
