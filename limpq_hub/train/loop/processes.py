"""Several processes that train one network: as many as were requested, with the same weights and gradients."""

from __future__ import annotations

import re
from collections.abc import Iterable

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.train.launching import torchrun_command

_LAUNCHERS = re.compile(
    r"(accelerate(_cli)?(\.py|\.exe)?\0launch|accelerate-launch|accelerate\.commands\.launch)(\0|$)"
)


def check_processes(accelerator: Accelerator) -> None:
    """Raise `TrainingError` if `accelerate launch` was asked for more processes than it started.

    `accelerate launch --cpu --num_processes 2` starts one process and does not say so.
    """
    requested = _requested_processes()
    if requested is not None and requested != accelerator.num_processes:
        raise TrainingError(
            f"accelerate launch was asked for {requested} processes and started {accelerator.num_processes}; on CPUs "
            f"use {torchrun_command(requested)} with the same options"
        )


@torch.no_grad()
def same_everywhere_(accelerator: Accelerator, model: nn.Module) -> None:
    """Give every process the parameters and buffers of the main one."""
    if accelerator.num_processes > 1:
        tensors = list(model.state_dict().values())
        for tensor, received in zip(tensors, broadcast([tensor.clone() for tensor in tensors]), strict=True):
            tensor.copy_(received)


@torch.no_grad()
def reduce_gradients_(accelerator: Accelerator, parameters: Iterable[nn.Parameter], *, stop: bool = False) -> bool:
    """Average the gradients over all processes, in one flat message.

    Args:
        parameters: a gradient is missing on all processes or on none.
        stop: whether this process got a signal to stop.

    Returns:
        Whether any process got one; the same on all.
    """
    if accelerator.num_processes == 1:
        return stop
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    stopping = torch.tensor([float(stop)], device=accelerator.device)
    flat = torch.cat([gradient.flatten() for gradient in gradients] + [stopping])
    flat = accelerator.reduce(flat, reduction="mean")
    for gradient, part in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    return bool(flat[-1] > 0)


def _requested_processes() -> int | None:
    """Return the `--num_processes` of the `accelerate launch` that started this process, or None."""
    try:
        launcher = psutil.Process().parent()
        words = launcher.cmdline() if launcher else []
    except psutil.Error:
        return None
    if not _LAUNCHERS.search("\0".join(words[:4])):
        return None
    launch = next(place for place, word in enumerate(words) if "launch" in word)
    words = words[launch + 1 :]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.endswith(".py") or word.startswith("limpq_hub."):
            return None  # what stands behind the script, or behind the module of `-m`, is its own
        name, _, value = word.replace("-", "_").partition("=")
        if name == "__num_processes":
            return int(value or following)
    return None
