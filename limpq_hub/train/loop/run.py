"""A run and its folder: nobody else's, with the same settings at every resume, and how its results came about."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import timm
import torch
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available
from filelock import FileLock, Timeout

from limpq_hub.errors import TrainingError
from limpq_hub.plan.jsonfile import read_json, write_json
from limpq_hub.train.loop.processes import check_processes
from limpq_hub.train.options import options_record
from limpq_hub.train.push import PUSH_OPTIONS
from limpq_hub.version import __version__

_OPTIONS = "options.json"
# What does not change the training: how it runs, and what is done with its result.
_MAY_CHANGE = {"output", "resume", "workers", "threads", "save_interval", "cache_images", "recipe", "validate_epochs"}
_MAY_CHANGE |= {"alpha", "anchor_gap", "calibrate_images", *PUSH_OPTIONS}


def new_accelerator(options: argparse.Namespace, folder: Path | None = None) -> Accelerator:
    """Return the accelerator that the options ask for; with `folder`, it keeps TensorBoard's files there."""
    # `accelerate launch` sets one thread where nothing is said.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(options.threads or max(1, (os.cpu_count() or 1) // processes))
    trackers = "tensorboard" if folder and is_tensorboard_available() else None
    accelerator = Accelerator(mixed_precision=options.mixed_precision, log_with=trackers, project_dir=folder)
    check_processes(accelerator)
    return accelerator


@contextmanager
def training_run(options: argparse.Namespace) -> Iterator[Accelerator]:
    """Give the accelerator of a run whose output folder is free or holds this very run; lock the folder meanwhile.

    Raises:
        TrainingError: the folder holds another run, another process is at work there, or `--resume` changes a setting.
    """
    accelerator = new_accelerator(options, options.output)
    lock = _locked(options.output) if accelerator.is_main_process else nullcontext()
    with lock, _default_dtype(torch.float64 if options.float64 else torch.float32):
        if accelerator.is_main_process:
            _check_folder(accelerator, options)
        accelerator.wait_for_everyone()
        yield accelerator
        finish(accelerator)


def record_options(accelerator: Accelerator, options: argparse.Namespace) -> None:
    """Write what the run was asked for, so that it is the same at every resume."""
    if accelerator.is_main_process:
        write_json(options.output / _OPTIONS, _run_record(accelerator, options))


def finish(accelerator: Accelerator) -> None:
    """Wait for all processes, and leave the process group together."""
    accelerator.wait_for_everyone()
    accelerator.end_training()


def provenance(
    accelerator: Accelerator, command: str, options: argparse.Namespace, seconds: float | None
) -> dict[str, object]:
    """Return how a result came about: command, seed, device, versions, time, and the sha256 of given weights.

    Args:
        seconds: time it took, or None where only that of its last part is known.
    """
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else f"{platform.machine()} CPU"
    return {
        "command": command,
        "seed": options.seed,
        "device": f"{accelerator.num_processes} x {device}, {torch.get_num_threads()} threads",
        **({} if seconds is None else {"seconds": round(seconds, 1)}),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {"limpq-hub": __version__, "torch": torch.__version__, "timm": timm.__version__},
        **weights_record(options),
    }


def weights_record(options: argparse.Namespace) -> dict[str, str]:
    """Return the sha256 of each file of weights that the options name."""
    files = {key: getattr(options, key, None) for key in ("weights", "teacher")}
    return {
        f"{key}_sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for key, file in files.items()
        if file is not None and Path(file).is_file()
    }


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # The system gives the lock back when its process ends, however it ends.
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / ".lock-holder"
    try:
        with FileLock(folder / ".lock").acquire(timeout=0):
            holder.write_text(f"process {os.getpid()} on {platform.node()}")
            yield
    except Timeout:
        who = holder.read_text() if holder.exists() else "another process"
        raise TrainingError(f"{folder} is in use by {who}; wait for it, or choose another --output") from None


def _check_folder(accelerator: Accelerator, options: argparse.Namespace) -> None:
    path = options.output / _OPTIONS
    if not path.exists():
        return
    if not options.resume:
        raise TrainingError(f"{options.output} holds a run already; add --resume, or choose another --output")
    record = _run_record(accelerator, options)
    changed = [key for key, value in read_json(path).items() if key not in _MAY_CHANGE and record.get(key) != value]
    if changed:
        names = ", ".join(sorted(changed))
        raise TrainingError(f"--resume with another {names}; give the options of the first run")


def _run_record(accelerator: Accelerator, options: argparse.Namespace) -> dict[str, object]:
    return options_record(options) | {"processes": accelerator.num_processes}
