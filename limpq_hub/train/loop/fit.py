"""The training loop that all scripts share: gradients in, optimizer steps, progress and saved states out."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader

from limpq_hub.errors import DataError, TrainingError
from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.train.data.loaders import loader_speed
from limpq_hub.train.loop.interrupt import WHAT_NEXT, RunInterruptedError, sigterm_deferred
from limpq_hub.train.loop.journal import SMALLER_STEPS, Journal
from limpq_hub.train.loop.processes import reduce_gradients_, same_everywhere_
from limpq_hub.train.loop.progress import TrainingProgress
from limpq_hub.train.loop.run import record_options
from limpq_hub.train.loop.schedule import optimizers_of, schedule_of
from limpq_hub.train.loop.state import TrainingState
from limpq_hub.train.loop.synchronized_batch_norm import batch_norm_over_all_processes

_SECONDS_BETWEEN_FLUSHES = 2.0


@dataclass(frozen=True)
class StepPosition:
    """Where a batch stands in a run.

    Attributes:
        step: optimizer steps done before.
        epoch: epochs done before.
        share: of the step's images that this batch is, 0..1; the gradients are to be scaled by it.
    """

    step: int
    epoch: int
    share: float


Accumulate = Callable[[Tensor, Tensor, StepPosition], Tensor]
Validate = Callable[[nn.Module], dict[str, float | int]]


def fit(
    accelerator: Accelerator,
    model: nn.Module,
    loader: DataLoader,
    accumulate: Accumulate,
    options: argparse.Namespace,
    *,
    memory: dict[str, Any] | None = None,
    validate: Validate | None = None,
) -> float:
    """Train `model` in place until the last step; continue from the state in the output folder if there is one.

    At the end the model holds the average of its weights if `--ema` asks for it.

    Args:
        loader: from `training_loader`.
        accumulate: adds the gradients of (images, labels, moment) and returns the loss of each pass, detached.
        memory: what `accumulate` remembers from step to step, as JSON holds it; it is saved and restored.
        validate: figures of a copy of the model, for `--validate-epochs`.

    Returns:
        Seconds that the training took, all its resumed parts together.

    Raises:
        DataError: the images do not fill one batch on every process.
        RunInterruptedError: SIGTERM came; everything is saved.
        TrainingError: a loss or a weight is not finite, or no state can be saved or read.
    """
    sampler: EpochSampler = loader.sampler
    per_step = options.batch_size * accelerator.num_processes * options.gradient_accumulation
    steps_per_epoch = len(sampler) // per_step
    if not steps_per_epoch:
        raise DataError(
            f"{len(sampler)} training images do not fill one step of {per_step}; use a smaller --batch-size"
        )
    steps = min(steps_per_epoch * options.epochs, options.max_steps or 10**12)
    record_options(accelerator, options)
    optimizers = optimizers_of(model, options)
    schedules = [schedule_of(optimizer, steps, steps_per_epoch, options) for optimizer in optimizers]
    average = ModelEmaV3(model, decay=options.ema, use_warmup=True) if options.ema else None
    state = TrainingState(model, optimizers, average, {} if memory is None else memory)
    states = options.output / "states"
    state.restore(states)
    same_everywhere_(accelerator, model)
    if average:
        same_everywhere_(accelerator, average.module)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if accelerator.is_main_process and state.step < steps:
        print(f"loader alone: {loader_speed(loader):.0f} images/s with {options.workers} workers", flush=True)
    journal = Journal(accelerator, options.output, state.step)
    batches = _Batches(accelerator, loader, options, steps_per_epoch, per_step)
    began = time.monotonic() - state.seconds

    def save() -> None:
        state.seconds = time.monotonic() - began
        if not all(bool(parameter.isfinite().all()) for parameter in parameters):
            raise TrainingError(f"a weight is not finite after step {state.step}; {SMALLER_STEPS}")
        if accelerator.is_main_process:
            state.save(states)

    with (
        sigterm_deferred() as stop,
        batch_norm_over_all_processes(accelerator, model),
        TrainingProgress(accelerator, steps, state.step, per_step) as progress,
    ):
        for moment, parts in batches.of_steps(state.step, steps):
            torch.manual_seed(options.seed * 1_000_003 + moment.step)
            for schedule in schedules:
                schedule.step_update(moment.step)
            losses = torch.stack([accumulate(*part, moment) for part in parts]).mean(0)
            stopping = reduce_gradients_(accelerator, parameters, stop=stop.made)
            nn.utils.clip_grad_value_(parameters, options.clip_value)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            state.step += 1
            if average:
                average.update(model, step=state.step)
            journal.add(state.step, optimizers[0].param_groups[0]["lr"], losses)
            saving = stopping or state.step == steps or state.step % options.save_interval == 0
            if saving or time.monotonic() - journal.flushed > _SECONDS_BETWEEN_FLUSHES:
                progress.show(state.step, journal.flush(), batches.seconds_waiting)
            # Before the state is saved: a validation that was cut off is done again.
            epochs, rest = divmod(state.step, steps_per_epoch)
            due = options.validate_epochs and not rest and epochs % options.validate_epochs == 0
            if validate and due and not stopping and state.step < steps:
                figures = validate(copy.deepcopy(average.module if average else model))
                journal.note({"step": state.step, "epochs": epochs, "validation": figures})
            if saving:
                save()
            if stopping:
                raise RunInterruptedError(WHAT_NEXT)
    if stop.made:
        raise RunInterruptedError(WHAT_NEXT)
    if average:
        model.load_state_dict(average.module.state_dict())
    return state.seconds


class _Batches:
    """The batches of each step, from any step on.

    Attributes:
        seconds_waiting: time spent waiting for images.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        loader: DataLoader,
        options: argparse.Namespace,
        steps_per_epoch: int,
        per_step: int,
    ) -> None:
        self.sampler: EpochSampler = loader.sampler
        self.loader = accelerator.prepare_data_loader(loader, device_placement=True)
        self.unreadable = loader.dataset.unreadable
        self.parts = options.gradient_accumulation
        self.channels_last = options.channels_last
        self.steps_per_epoch, self.per_step = steps_per_epoch, per_step
        self.seconds_waiting = 0.0

    def of_steps(self, first: int, steps: int) -> Iterator[tuple[StepPosition, list[tuple[Tensor, Tensor]]]]:
        """Yield the batches of the steps from `first` to before `steps`."""
        step = first
        while step < steps:
            epoch, done = divmod(step, self.steps_per_epoch)
            self.sampler.epoch, self.sampler.start = epoch, done * self.per_step
            batches = iter(self.loader)
            for _ in range(min(self.steps_per_epoch - done, steps - step)):
                yield StepPosition(step, epoch, 1 / self.parts), self._next_of(batches)
                step += 1

    def _next_of(self, batches: Iterator[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        began = time.monotonic()
        parts = list(islice(batches, self.parts))
        self.seconds_waiting += time.monotonic() - began
        self.unreadable.check()
        if self.channels_last:
            return [(images.contiguous(memory_format=torch.channels_last), labels) for images, labels in parts]
        return parts
