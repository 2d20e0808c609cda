"""Optimizers and their learning rates, from timm: one for everything, or one of its own for the step sizes."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from limpq_hub.train.loop.batches import RunLength
from limpq_hub.train.training_settings import CONSTANT, COSINE, ScheduleSettings

MINIMUM_LR = 1e-5
# By name: with one for each channel they have two dimensions, as weights have.
_STEP_SIZES = "*quantizer.step"


def optimizers_of(model: nn.Module, schedule: ScheduleSettings) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a run; weight decay spares step sizes, BatchNorm and biases.

    With `--step-optimizer` or `--step-lr` the step sizes have an optimizer of their own, the second.
    """
    steps = [parameter for name, parameter in model.named_parameters() if fnmatchcase(name, _STEP_SIZES)]
    apart = {id(step) for step in steps} if schedule.step_optimizer or schedule.step_lr else set()
    groups = [
        group | {"params": [parameter for parameter in group["params"] if id(parameter) not in apart]}
        for group in param_groups_weight_decay(model, schedule.weight_decay, no_weight_decay_list=[_STEP_SIZES])
    ]
    optimizers = [create_optimizer_v2(groups, schedule.optimizer, lr=schedule.lr, momentum=schedule.momentum)]
    if apart:
        optimizers.append(
            create_optimizer_v2(
                steps,
                schedule.step_optimizer or schedule.optimizer,
                lr=schedule.step_lr or schedule.lr,
                weight_decay=0.0,
                momentum=schedule.momentum,
            )
        )
    return optimizers


def training_description(length: RunLength, schedule: ScheduleSettings, recipe: object = None) -> str:
    """Return in one line how long and how fast a run trains.

    Args:
        length: steps, and images and epochs that these are.
        schedule: rates and warm-up.
        recipe: what options were taken from, beside those that were typed; None for nothing.
    """
    by = "" if recipe is None else f" by recipe {recipe}"
    of_steps = f" ({schedule.step_lr:g} of the step sizes)" if schedule.step_lr else ""
    warmup = warmup_steps(schedule.warmup_epochs, length.steps_per_epoch)
    unreached = f"; the warm-up is longer, {_counted(warmup, 'step')}: that rate is never reached"
    return (
        f"training{by}: {_counted(length.steps, 'step')} of {length.images_per_step} images, "
        f"{_counted(length.steps / length.steps_per_epoch, 'epoch')}; rate {schedule.lr:g}{of_steps} after "
        f"{_counted(schedule.warmup_epochs, 'epoch')} of warm-up; --epochs, --max-steps, --lr and --warmup-epochs set "
        f"them{unreached if warmup >= length.steps else ''}"
    )


def warmup_steps(warmup_epochs: float, steps_per_epoch: int) -> int:
    """Return how many steps the warm-up takes."""
    return round(warmup_epochs * steps_per_epoch)


def _counted(number: float, what: str) -> str:
    """Return a number with what it counts, in the plural but for one."""
    return f"{round(number, 2):g} {what}" if number == 1 else f"{round(number, 2):g} {what}s"


def learning_rate_of(
    optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int, warmup_epochs: float, lr_schedule: str = COSINE
) -> Scheduler:
    """Return linear warm-up, then a cosine down to 1e-5, one step after the last, or the peak rate throughout."""
    warmup = warmup_steps(warmup_epochs, steps_per_epoch)
    lowest = min(MINIMUM_LR, *(group["lr"] for group in optimizer.param_groups))
    rises: dict[str, Any] = {"warmup_t": warmup, "warmup_lr_init": lowest, "warmup_prefix": True, "t_in_epochs": False}
    if lr_schedule == CONSTANT:
        return StepLRScheduler(optimizer, decay_t=1, decay_rate=1.0, **rises)
    # A single step behind the warm-up is no cosine, and timm warns of one of length 1; the first rate of any length is
    # the peak.
    return CosineLRScheduler(optimizer, t_initial=max(2, steps - warmup), lr_min=lowest, **rises)
