"""From the start of a command to its end: threads, memory, precision, processes, and the folder of a training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs, is_tensorboard_available

from limpq_hub.train.loop.folder import begun_or_forgotten, check_folder, locked
from limpq_hub.train.loop.huge_pages import use_huge_pages
from limpq_hub.train.loop.launcher import check_launcher_settings
from limpq_hub.train.loop.processes import check_processes
from limpq_hub.train.settings import DeviceSettings
from limpq_hub.train.training_settings import TrainingSettings
from limpq_hub.train.usable_cores import cores_of_each

# Other processes wait while the main one alone measures what a training gave; torch would end them after ten minutes.
_LONGEST_WAIT = timedelta(days=7)


def new_accelerator(
    device: DeviceSettings,
    folder: Path | None = None,
    *,
    has_precision_option: bool = False,
    gradient_accumulation: int | None = None,
) -> Accelerator:
    """Return the accelerator that the settings ask for; with `folder`, it keeps TensorBoard's files there.

    Args:
        has_precision_option: False for a command without `--mixed-precision`, which measures in float32.
        gradient_accumulation: batches per process and optimizer step, which the training loop itself adds up; None
            where nothing is trained.

    Raises:
        TrainingError: the launcher asks for another training, or for more processes than it started.
    """
    check_launcher_settings(
        mixed_precision=device.mixed_precision,
        has_precision_option=has_precision_option,
        gradient_accumulation=gradient_accumulation,
    )
    use_huge_pages()
    # `accelerate launch` sets one thread where nothing is said.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(device.threads or cores_of_each(processes))
    trackers = "tensorboard" if folder and is_tensorboard_available() else None
    accelerator = Accelerator(
        mixed_precision=device.mixed_precision,
        log_with=trackers,
        project_dir=folder,
        # Where nothing is said, Accelerate takes the number from a variable and divides every loss by it.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)],
    )
    check_processes(accelerator)
    return accelerator


@contextmanager
def training_run(settings: TrainingSettings) -> Iterator[Accelerator]:
    """Give the accelerator of a run whose output folder is free or holds this very run; lock the folder meanwhile.

    Raises:
        TrainingError: the folder holds another run, another process is at work there, or `--resume` changes a setting.
    """
    accelerator = new_accelerator(
        settings.device,
        settings.run.output,
        has_precision_option=True,
        gradient_accumulation=settings.schedule.gradient_accumulation,
    )
    lock = locked(settings.run.output) if accelerator.is_main_process else nullcontext()
    with lock, _default_dtype(torch.float64 if settings.device.float64 else torch.float32):
        if accelerator.is_main_process:
            check_folder(accelerator, settings.run, settings.invocation)
        accelerator.wait_for_everyone()
        with begun_or_forgotten(settings.run) if accelerator.is_main_process else nullcontext():
            yield accelerator
        finish(accelerator)


def finish(accelerator: Accelerator) -> None:
    """Wait for all processes, and leave the process group together."""
    accelerator.wait_for_everyone()
    accelerator.end_training()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
