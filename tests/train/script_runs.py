"""Training scripts in processes of their own: started, watched, signalled, and what they leave behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

TRAINING = Path(__file__).parents[2] / "training"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node")
_PATIENCE_S = 240


@dataclass
class Running:
    """A script that was started, alone in its process group.

    Attributes:
        log: file that holds its stdout and stderr.
        output: its `--output`.
    """

    process: subprocess.Popen
    log: Path
    output: Path

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait until `condition()` holds, and return True, or the script ends, and return False."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, f"nothing for {_PATIENCE_S} s; it said:\n{self.said()}"
            time.sleep(0.002)
        return True

    def reaches(self, step: int) -> bool:
        """Wait until a state of `step` or later is saved; return whether that came before the script ended."""
        return self.wait_until(lambda: saved_step(self.output) >= step)

    def ends(self) -> int:
        """Wait for the end, and return the exit code."""
        return self.process.wait(timeout=_PATIENCE_S)

    def loses_its_workers(self) -> int:
        """Kill its workers whenever it has some, until it ends, and return the exit code.

        Nobody misses a worker that was killed after it gave the last of its batches, so one kill may be too late.
        """

        def no_more() -> bool:
            with contextlib.suppress(psutil.NoSuchProcess):
                for worker in psutil.Process(self.process.pid).children():
                    worker.kill()
            return False

        self.wait_until(no_more)
        return self.ends()

    def kill_group(self) -> None:
        """Kill the script and its workers, as the end of a container does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        """Return what it printed so far."""
        return self.log.read_text()


@contextlib.contextmanager
def started(command: list[str], output: Path, *options: str, cpu: bool = True) -> Iterator[Running]:
    """Start `python <command> <options> --output <output>`, and kill whatever of it is left at the end."""
    output.parent.mkdir(parents=True, exist_ok=True)
    log = output.parent / f"{output.name}.log"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAINING.parent)}
    environment |= {"ACCELERATE_USE_CPU": "true"} if cpu else {}
    with log.open("w") as file:
        arguments = [sys.executable, *command, *options, "--output", str(output)]
        process = subprocess.Popen(arguments, stdout=file, stderr=file, env=environment, start_new_session=True)
    running = Running(process, log, output)
    try:
        yield running
    finally:
        running.kill_group()


def script(name: str) -> str:
    """Return the path of a script, as `python` takes it."""
    return str(TRAINING / f"{name}.py")


def saved_step(output: Path) -> int:
    """Return the step of the newest saved state, 0 if there is none."""
    return max((int(path.name.removeprefix("step-")) for path in output.glob("states/step-*")), default=0)


def journal_steps(output: Path) -> list[int]:
    """Return the steps whose losses `metrics.jsonl` holds, in its order."""
    return [record["step"] for record in journal_records(output) if "loss" in record]


def journal_records(output: Path) -> list[dict]:
    """Return what `metrics.jsonl` holds, in its order."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
