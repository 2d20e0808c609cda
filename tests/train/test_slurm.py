"""The Slurm script with two nodes that are processes of this machine: cut off at its limit, it goes on by itself."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from script_runs import TRAINING, journal_steps, saved_step
from tiny_run import NETWORK, RUN
from torch.distributed.launcher.api import LaunchConfig

# A signal reaches all processes of a step: what it started on each node, and all below that.
SIGNAL_STEP = """
import contextlib, os, sys, psutil
for node in open(os.environ["STEP"]).read().split():
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(int(node))
        for process in [*top.children(recursive=True), top]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(int(sys.argv[1]))
"""
# What Slurm's own commands do for this script, on one machine. SIGTERM to srun kills the tasks.
COMMANDS = {
    "srun": """
        for node in 0 1; do "$@" & nodes="${nodes:-} $!"; done
        trap 'signal-step 9' TERM
        echo $nodes > "$STEP"
        for node in $nodes; do wait "$node" || true; done
        status=0
        for node in $nodes; do wait "$node" || status=$?; done
        exit $status""",
    "scontrol": """if [ "$1" = show ]; then echo localhost; else echo "$*" >> "$REQUEUED"; fi""",
    "scancel": """[ "$*" = "--signal=TERM 17" ] && signal-step 15""",
    "signal-step": f"""exec {sys.executable} -c '{SIGNAL_STEP}' "$@" """,
    "torchrun": f"""exec {sys.executable} -m torch.distributed.run "$@" """,
}
PATIENCE_S = 240


@pytest.fixture
def slurm(tmp_path):
    """Return what starts the script as a job of two nodes would."""
    for name, body in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(TRAINING.parent),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "STEP": str(tmp_path / "step"),
        "REQUEUED": str(tmp_path / "requeued"),
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NNODES": "2",
    }

    def start(*words: str) -> subprocess.Popen:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (tmp_path / "log").open("a") as log:
            return subprocess.Popen(
                [TRAINING / "slurm.sbatch", *words],
                env=environment | {"PORT": str(port)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    return start


def ends(job: subprocess.Popen) -> int:
    try:
        return job.wait(timeout=PATIENCE_S)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)


def test_a_job_gives_torchrun_the_time_that_slurm_gives_it(slurm, tmp_path, monkeypatch):
    (tmp_path / "torchrun").write_text("#!/bin/bash\necho $TORCH_ELASTIC_SHUTDOWN_TIMEOUT\n")
    assert ends(slurm("pretrain")) == 0
    given, _ = map(int, (tmp_path / "log").read_text().split())  # on each of two nodes
    told_before = int(re.search(r"--signal=B:TERM@(\d+)", (TRAINING / "slurm.sbatch").read_text())[1])
    assert 200 < given < told_before
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(given))
    launched = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=1)
    assert getattr(launched, "shutdown_timeout", given) == given  # an older torch has none


def test_a_job_that_slurm_does_not_signal_is_queued_again_all_the_same(slurm, tmp_path):
    (tmp_path / "scancel").write_text("#!/bin/bash\nexit 1\n")
    (tmp_path / "torchrun").write_text("#!/bin/bash\nexec sleep 300\n")
    job, step = slurm("pretrain"), tmp_path / "step"
    deadline = time.monotonic() + PATIENCE_S
    while not step.exists() or not step.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    job.send_signal(signal.SIGTERM)
    assert ends(job) == 0
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"


@pytest.mark.slow
def test_a_job_of_two_nodes_that_reaches_its_limit_is_queued_again_and_ends_as_one_that_had_time(
    slurm, data, tmp_path: Path
):
    words = ["pretrain", *NETWORK, *RUN, "--data", str(data), "--epochs", "40", "--save-interval", "4", "--output"]
    whole = slurm(*words, str(tmp_path / "whole"))
    assert ends(whole) == 0, (tmp_path / "log").read_text()

    limited = slurm(*words, str(tmp_path / "limited"))
    deadline = time.monotonic() + PATIENCE_S
    while saved_step(tmp_path / "limited") < 4:
        assert limited.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    limited.send_signal(signal.SIGTERM)
    assert ends(limited) == 0
    assert "SIGTERM: stopped; run the same command with --resume to go on" in (tmp_path / "log").read_text()
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"
    assert not (tmp_path / "limited/model.safetensors").exists()

    assert ends(slurm(*words, str(tmp_path / "limited"))) == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "limited"))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
    assert journal_steps(tmp_path / "limited") == journal_steps(tmp_path / "whole")


@pytest.mark.slow
def test_an_error_of_the_training_is_the_error_of_the_job_and_is_not_queued_again(slurm, tmp_path):
    job = slurm("pretrain", *NETWORK, "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out"))
    assert ends(job) != 0
    assert "there is no such folder" in (tmp_path / "log").read_text()
    assert not (tmp_path / "requeued").exists()
