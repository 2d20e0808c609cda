"""What a launcher asks for: the processes it was to start, and settings that would change a training in silence."""

from __future__ import annotations

import json
import re

import psutil
import pytest
from accelerate.commands.launch import launch_command_parser
from number_runs import number_settings
from script_runs import script, started
from tiny_run import NETWORK, RUN

from limpq_hub.errors import TrainingError
from limpq_hub.train import compare, pretrain
from limpq_hub.train.loop import launcher
from limpq_hub.train.loop.launcher import check_launcher_settings, requested_processes
from limpq_hub.train.loop.run import new_accelerator, training_run
from limpq_hub.train.settings import DeviceSettings

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
    assert requested_processes() == asked


def test_a_launcher_that_cannot_be_looked_at_asked_for_nothing(monkeypatch):
    def denied():
        raise psutil.AccessDenied

    monkeypatch.setattr(launcher.psutil, "Process", denied)
    assert requested_processes() is None


TWO_ON_CPUS = """compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
use_cpu: true
num_machines: 1
num_processes: 2
machine_rank: 0
main_training_function: main
"""


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("--config_file", "{}/own.yaml", "x.py"), 2),
        (("--config_file={}/own.yaml", "--num_processes", "3", "x.py"), 3),
        (("--cpu", "--config_file", "{}/own.yaml", "x.py"), 2),
        (("x.py",), None),
        (("x.py", "--config_file", "{}/own.yaml"), None),
    ],
)
def test_the_config_file_of_the_launcher_asks_for_processes_too(launched_by, tmp_path, words, asked):
    (tmp_path / "own.yaml").write_text(TWO_ON_CPUS)
    launched_by(*ACCELERATE, *(word.format(tmp_path) for word in words))
    assert requested_processes() == asked


@pytest.mark.parametrize(
    ("words", "asked"), [(("x.py",), 2), (("--num_processes=1", "x.py"), 1), (("--cpu", "x.py"), None)]
)
def test_the_config_file_at_home_counts_where_accelerate_reads_it(launched_by, tmp_path, words, asked):
    (tmp_path / "default_config.yaml").write_text(TWO_ON_CPUS)
    launched_by(*ACCELERATE, *words)
    assert requested_processes() == asked


@pytest.mark.slow
def test_a_config_file_that_asks_for_two_processes_and_gets_one_ends_with_one_line(data, tmp_path):
    (tmp_path / "own.yaml").write_text(TWO_ON_CPUS)
    launch = ["-m", "accelerate.commands.launch", "--config_file", f"{tmp_path}/own.yaml", script("pretrain")]
    with started(launch, tmp_path / "out", *NETWORK, *RUN, "--data", str(data), cpu=False) as running:
        assert running.ends() != 0
    assert "pretrain.py: accelerate launch was asked for 2 processes and started 1; on CPUs use" in running.said()
    assert not (tmp_path / "out/metrics.jsonl").exists()


FOREIGN = {
    "ACCELERATE_DYNAMO_BACKEND": ("INDUCTOR", "a compiled network"),
    "ACCELERATE_USE_DEEPSPEED": ("true", "DeepSpeed"),
    "ACCELERATE_USE_FSDP": ("true", "fully sharded data parallelism"),
    "ACCELERATE_USE_MEGATRON_LM": ("true", "Megatron-LM"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("true", "a network that is spread over processes"),
}


@pytest.mark.parametrize(("variable", "value", "what"), [(key, *value) for key, value in FOREIGN.items()])
def test_what_these_commands_do_not_do_is_refused(monkeypatch, tmp_path, variable, value, what):
    monkeypatch.setenv(variable, value)
    with pytest.raises(TrainingError) as refused, training_run(number_settings(tmp_path / "out")):
        pass
    assert str(refused.value) == (
        f"{variable}='{value}' asks for {what}, which these commands do not do: each process trains the whole network "
        "as it is; leave it out of accelerate launch and of its config file"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("variable", "value", "option", "used"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", "--mixed-precision", "no"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "--mixed-precision", "no"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "--gradient-accumulation", "1"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "many", "--gradient-accumulation", "1"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1", "--gradient-accumulation", "4"),
    ],
)
def test_a_variable_that_says_something_else_than_the_option_is_refused(
    monkeypatch, tmp_path, variable, value, option, used
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(TrainingError) as refused, training_run(number_settings(tmp_path / "out", option, used)):
        pass
    assert str(refused.value) == (
        f"{variable}='{value}', of accelerate launch or its config file, is not the {option} of this command, {used}: "
        f"give the same in both; what counts, and is recorded, is {option} behind the script"
    )


def test_what_accelerate_launch_sets_where_nothing_is_asked_for_is_taken(monkeypatch):
    for variable, value in {
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_DYNAMO_MODE": "default",
        "ACCELERATE_USE_FSDP": "false",
        "ACCELERATE_USE_CPU": "true",
    }.items():
        monkeypatch.setenv(variable, value)
    for mixed_precision, accumulated in (("no", 1), ("bf16", 1), ("no", 4)):
        check_launcher_settings(
            mixed_precision=mixed_precision, has_precision_option=True, gradient_accumulation=accumulated
        )


@pytest.mark.slow
def test_an_option_that_accelerate_launch_was_not_asked_for_is_taken_behind_the_script(data, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", script("pretrain")]
    words = [*NETWORK, *RUN, "--data", str(data), "--max-steps", "1", "--mixed-precision", "bf16"]
    with started(launch, tmp_path / "out", *words, cpu=False) as running:
        assert running.ends() == 0, running.said()
    assert json.loads((tmp_path / "out/options.json").read_text())["mixed_precision"] == "bf16"


def test_a_measurement_under_a_config_file_with_mixed_precision_says_what_starts_it(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(TrainingError) as refused:
        new_accelerator(DeviceSettings())
    assert str(refused.value) == (
        "ACCELERATE_MIXED_PRECISION='bf16', of accelerate launch or its config file, is not what this command measures "
        "in, float32: start it by accelerate launch --mixed_precision no, or without the variable"
    )
    (typed,) = re.findall(r"--mixed_precision \w+", str(refused.value))
    monkeypatch.setenv(
        "ACCELERATE_MIXED_PRECISION", launch_command_parser().parse_args([*typed.split(), "x"]).mixed_precision
    )
    assert new_accelerator(DeviceSettings()).mixed_precision == "no"


def test_a_comparison_under_a_config_file_with_mixed_precision_is_told_of_its_own_option(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    words = ["--model", "resnet18", "--data", str(tmp_path), "--output", f"{tmp_path}/out"]
    with pytest.raises(TrainingError, match="is not the --mixed-precision of this command, no: give the same in both;"):
        compare.main(words)


def test_a_measurement_does_not_ask_how_gradients_are_accumulated(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert new_accelerator(DeviceSettings()).gradient_accumulation_steps == 1


def test_accumulation_that_both_ask_for_is_that_of_the_command_alone(monkeypatch, data, tmp_path):
    options = [*NETWORK, *RUN, "--data", str(data), "--max-steps", "2", "--gradient-accumulation", "2"]
    pretrain.main([*options, "--output", f"{tmp_path}/plain"])
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    pretrain.main([*options, "--output", f"{tmp_path}/both"])
    plain, both = (
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("plain", "both")
    )
    assert plain == both
