"""kill -9 at random moments, resume, again and again: the same files as a run that nobody touched."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from script_runs import Running, journal_steps, saved_step, script, sha256_of, started
from tiny_run import NETWORK, RUN

from limpq_hub.train import finetune, indicators
from limpq_hub.train.loop.interrupt import RunInterruptedError

STEPS = 16
SCHEDULE = ["--epochs", "4", "--save-interval", "2", "--calibrate-images", "16"]


def kill_at_a_random_moment(running: Running, draw: random.Random, *, asks_first: bool = False) -> bool:
    """Kill during the start, the training or the export; return whether the script was still at work.

    Half of the time its workers are left to themselves, as when the kernel is out of memory.

    Args:
        asks_first: whether SIGTERM comes a moment before, as a batch system sends it.
    """
    there = saved_step(running.output)
    moment = draw.choice(("start", "training", "training", "training", "end"))
    if there == STEPS or moment == "start":
        began, delay = time.monotonic(), draw.uniform(1, 7)
        running.wait_until(lambda: time.monotonic() > began + delay)
    else:
        running.reaches(STEPS if moment == "end" else min(STEPS, there + draw.randint(1, 5)))
        time.sleep(draw.uniform(0, 1.5 if moment == "end" else 0.4))
    if asks_first:
        running.process.terminate()
        time.sleep(draw.uniform(0, 0.1))
    if draw.random() < 0.5:
        running.process.send_signal(signal.SIGKILL)
    else:
        running.kill_group()
    return running.ends() == -signal.SIGKILL


def killed_and_resumed_until_done(
    name: str, options: Sequence[str], folder: Path, kills: int, seed: int, *, asks_first: bool = False
) -> list[Path]:
    """Kill a script `kills` times, in as many runs as that takes; return the folders of the runs, all finished."""
    draw, outputs, killed = random.Random(seed), [folder / "run0"], 0
    while True:
        with started([script(name)], outputs[-1], *options, "--resume") as running:
            ending = killed < kills
            died = ending and kill_at_a_random_moment(running, draw, asks_first=asks_first)
            code = running.ends()
            # One that was asked first may have saved and left before it is killed, or not even have been loaded.
            in_time = (0, RunInterruptedError.exit_code, -signal.SIGTERM) if ending and asks_first else (0,)
            assert code == -signal.SIGKILL if died else code in in_time, running.said()
        killed += code != 0
        if code == 0 and killed == kills:
            return outputs
        if code == 0:
            outputs.append(folder / f"run{len(outputs)}")


def assert_all_as(whole: Path, outputs: Sequence[Path], weights: str) -> None:
    for output in outputs:
        assert sha256_of(output / weights) == sha256_of(whole / weights), output
        assert journal_steps(output) == list(range(1, STEPS + 1))
        assert saved_step(output) == STEPS


@pytest.fixture
def joint_options(runs, data):
    weights = ["--weights", f"{runs}/float/model.safetensors", "--distill", "0.5", "--anchor-gap", "99"]
    return [*NETWORK, *RUN, "--data", str(data), *weights, *SCHEDULE]


@pytest.fixture
def tuning_options(runs, data):
    weights = ["--weights", f"{runs}/float/model.safetensors", "--distill", "0.5", "--ema", "0.9"]
    return ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", *RUN, "--data", str(data), *weights, *SCHEDULE]


@pytest.mark.slow
def test_joint_training_killed_20_times_gives_the_supernet_of_a_run_that_was_not(joint_options, tmp_path):
    indicators.main([*joint_options, "--output", str(tmp_path / "whole")])
    options = [*joint_options, "--workers", "2"]
    outputs = killed_and_resumed_until_done("indicators", options, tmp_path, kills=20, seed=1)
    assert_all_as(tmp_path / "whole", outputs, "supernet.safetensors")


@pytest.mark.slow
def test_fine_tuning_killed_20_times_gives_the_checkpoint_of_a_run_that_was_not(tuning_options, tmp_path):
    finetune.main([*tuning_options, "--output", str(tmp_path / "whole")])
    options = [*tuning_options, "--workers", "2"]
    outputs = killed_and_resumed_until_done("finetune", options, tmp_path, kills=20, seed=2)
    assert_all_as(tmp_path / "whole", outputs, "model.safetensors")


@pytest.mark.slow
def test_fine_tuning_that_is_asked_to_stop_and_killed_before_it_has_ends_with_the_same_checkpoint(
    tuning_options, tmp_path
):
    finetune.main([*tuning_options, "--output", str(tmp_path / "whole")])
    outputs = killed_and_resumed_until_done("finetune", tuning_options, tmp_path, kills=6, seed=3, asks_first=True)
    assert_all_as(tmp_path / "whole", outputs, "model.safetensors")


@pytest.mark.slow
def test_fine_tuning_whose_worker_dies_says_so_in_one_line_and_goes_on_to_the_same_checkpoint(tuning_options, tmp_path):
    finetune.main([*tuning_options, "--output", str(tmp_path / "whole")])
    options = [*tuning_options, "--workers", "2"]
    with started([script("finetune")], tmp_path / "out", *options) as running:
        assert running.reaches(2), running.said()
        assert running.loses_its_workers() == 3, running.said()
    assert running.said().count("finetune.py: a process that decodes pictures died: DataLoader worker (pid") == 1
    assert "Traceback" not in running.said()
    with started([script("finetune")], tmp_path / "out", *options, "--resume") as running:
        assert running.ends() == 0, running.said()
    assert_all_as(tmp_path / "whole", [tmp_path / "out"], "model.safetensors")
