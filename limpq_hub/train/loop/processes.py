"""Several processes that train one network: as many as were requested, with the same weights and gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.train.launching import torchrun_command
from limpq_hub.train.loop.launcher import requested_processes


def check_processes(accelerator: Accelerator) -> None:
    """Raise `TrainingError` if `accelerate launch` was asked for more processes than it started.

    `accelerate launch --cpu --num_processes 2` starts one process and does not say so; nor does it where a config file
    asks for several on CPUs.
    """
    requested = requested_processes()
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
