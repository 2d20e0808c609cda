"""The training loop that all trainings share: gradients in, optimizer steps, progress and saved states out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from limpq_hub.errors import TrainingError
from limpq_hub.quant.modes import freeze_batch_norms_
from limpq_hub.quant.tracing.forward_trace import copy_of
from limpq_hub.train.data.picture_loader import TrainingLoader, loader_speed
from limpq_hub.train.loop.batch_size import check_batch_size
from limpq_hub.train.loop.batches import RunLength, StepBatches, StepPosition
from limpq_hub.train.loop.folder import record_options
from limpq_hub.train.loop.interrupt import stop_deferred, stopped
from limpq_hub.train.loop.journal import SMALLER_STEPS, Journal
from limpq_hub.train.loop.processes import reduce_gradients_, same_everywhere_
from limpq_hub.train.loop.run_files import newest_step, states_of
from limpq_hub.train.loop.schedule import learning_rate_of, optimizers_of, training_description
from limpq_hub.train.loop.state import TrainingState
from limpq_hub.train.loop.synchronized_batch_norm import batch_norm_over_all_processes, check_batch_norms
from limpq_hub.train.progress import ProgressDisplay
from limpq_hub.train.training_settings import TrainingSettings

_SECONDS_BETWEEN_FLUSHES = 2.0

Accumulate = Callable[[Tensor, Tensor, StepPosition], Tensor]
Validate = Callable[[nn.Module], dict[str, float | int]]


def fit(
    accelerator: Accelerator,
    model: nn.Module,
    loader: TrainingLoader,
    accumulate: Accumulate,
    settings: TrainingSettings,
    *,
    memory: dict[str, Any] | None = None,
    validate: Validate | None = None,
) -> float:
    """Train `model` in place until the last step; continue from the state in the output folder if there is one.

    At the end the model holds the average of its weights if `--ema` asks for it.

    Args:
        accumulate: adds the gradients of (images, labels, position) and returns the loss of each pass, detached.
        memory: what `accumulate` remembers from step to step, as JSON holds it; it is saved and restored.
        validate: figures of a copy of the model, for `--validate-epochs`.

    Returns:
        Seconds that the training took, all its resumed parts together.

    Raises:
        DataError: the images do not fill one batch on every process.
        RunInterruptedError: SIGTERM or Ctrl-C came; everything is saved.
        TrainingError: a loss or a weight is not finite, no state can be saved or read, the run was begun with other
            pictures or for other steps, or a batch normalization would see a single value.
    """
    schedule, run = settings.schedule, settings.run
    length = RunLength.of(len(loader.sampler), loader.batch_size, schedule, accelerator.num_processes)
    if not settings.freeze_batch_norm:
        check_batch_size(model, loader.batch_size, accelerator.num_processes)
    states = states_of(run.output)
    done = newest_step(states)
    if accelerator.num_processes > 1:
        check_batch_norms(model)
    optimizers = optimizers_of(model, schedule)
    rates = [
        learning_rate_of(optimizer, length.steps, length.steps_per_epoch, schedule.warmup_epochs, schedule.lr_schedule)
        for optimizer in optimizers
    ]
    average = ModelEmaV3(model, decay=schedule.ema, use_warmup=True) if schedule.ema else None
    # Behind all that can refuse: what is refused has not begun.
    record_options(accelerator, run, settings.invocation, loader.source, steps=length.steps, done=done)
    state = TrainingState(model, optimizers, average, {} if memory is None else memory)
    state.restore(states)
    same_everywhere_(accelerator, model)
    if average:
        same_everywhere_(accelerator, average.module)
    if settings.freeze_batch_norm:
        freeze_batch_norms_(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if accelerator.is_main_process and state.step < length.steps:
        if run.resume:
            resumed = f"resumed at step {state.step} of {length.steps}"
            print(resumed if state.step else f"nothing to resume in {run.output}: it starts anew", flush=True)
        print(training_description(length, schedule, settings.invocation.options.get("recipe")), flush=True)
        speed = loader_speed(loader.batches)
        print(f"loader alone: {speed:.0f} images/s with {loader.workers} workers", flush=True)
    journal = Journal(accelerator, run.output, state.step)
    batches = StepBatches(
        accelerator, loader, length, schedule.gradient_accumulation, channels_last=settings.device.channels_last
    )
    first, began = state.step, time.monotonic() - state.seconds

    def save() -> None:
        """Save the state from the main process; raise an error where a weight is not finite."""
        state.seconds = time.monotonic() - began
        if not all(bool(parameter.isfinite().all()) for parameter in parameters):
            raise TrainingError(f"a weight is not finite after step {state.step}; {SMALLER_STEPS}")
        if accelerator.is_main_process:
            state.save(states)

    def validate_if_due() -> None:
        """Note the figures of a copy of the model where an epoch has ended after which they were asked for."""
        epochs, rest = divmod(state.step, length.steps_per_epoch)
        due = run.validate_epochs and not rest and epochs and epochs % run.validate_epochs == 0
        if validate and due and state.step < length.steps:
            figures = validate(copy_of(average.module if average else model))
            journal.note({"step": state.step, "epochs": epochs, "validation": figures})

    with (
        stop_deferred() as stop,
        batch_norm_over_all_processes(accelerator, model),
        ProgressDisplay("step", length.steps, done=first, hidden=not accelerator.is_main_process) as progress,
    ):
        if not journal.validated:  # the run was stopped after the last step of an epoch
            validate_if_due()
        for position, parts in batches.from_step(state.step):
            torch.manual_seed(settings.seed * 1_000_003 + position.step)
            for rate in rates:
                rate.step_update(position.step)
            losses = torch.stack([accumulate(*part, position) for part in parts]).mean(0)
            stopping = reduce_gradients_(accelerator, parameters, stop=stop.made)
            nn.utils.clip_grad_value_(parameters, schedule.clip_value)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            state.step += 1
            if average:
                average.update(model, step=state.step)
            journal.add(state.step, optimizers[0].param_groups[0]["lr"], losses)
            saving = stopping or state.step == length.steps or state.step % run.save_interval == 0
            if saving or time.monotonic() - journal.flushed > _SECONDS_BETWEEN_FLUSHES:
                loss = journal.flush()
                per_second = (state.step - first) * length.images_per_step / progress.seconds
                waiting = batches.seconds_waiting / progress.seconds
                progress.show(
                    state.step, f"loss {loss:.3g} · {per_second:.0f} images/s · {waiting:.0%} waiting for data"
                )
            # Before the state is saved: a validation that was cut off is done again. A run that is to stop saves, and
            # leaves it to the one that goes on.
            if not stopping:
                validate_if_due()
            if saving:
                save()
            if stopping:
                raise stopped(stop.signal_number)
    if stop.made:
        raise stopped(stop.signal_number)
    if average:
        model.load_state_dict(average.module.state_dict())
    return state.seconds
