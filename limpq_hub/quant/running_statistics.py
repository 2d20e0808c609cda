"""The running statistics of BatchNorms: which of a network have them, and how they are read and set."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d


def active_batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorms with running statistics, of any number of dimensions, by name.

    Of a switchable one it is the copy that is active. One that freezes its statistics by its class, such as
    torchvision's `FrozenBatchNorm2d`, is no BatchNorm of torch's, and absent.
    """
    switches = [module for module in model.modules() if isinstance(module, SwitchableBatchNorm2d)]
    idle = {norm for switch in switches for norm in switch.copies.values() if norm is not switch.active}
    return {name: norm for name, norm in _with_statistics(model).items() if norm not in idle}


def placed_batch_norms(model: nn.Module) -> dict[str, _BatchNorm | SwitchableBatchNorm2d]:
    """Return the BatchNorms with running statistics by the name that each has in the float network.

    A switchable BatchNorm, a copy for each weight bit-width, is returned as the module that holds the copies.
    """
    switches = {name: module for name, module in model.named_modules() if isinstance(module, SwitchableBatchNorm2d)}
    copies = {norm for switch in switches.values() for norm in switch.copies.values()}
    return switches | {name: norm for name, norm in _with_statistics(model).items() if norm not in copies}


def statistics_of(norm: _BatchNorm) -> dict[str, Tensor]:
    """Return a copy of the running statistics of a BatchNorm, by the name of the buffer."""
    return {name: value.clone() for name, value in norm.named_buffers(recurse=False)}


@torch.no_grad()
def set_statistics_(norm: _BatchNorm, statistics: Mapping[str, Tensor | int]) -> None:
    """Set running statistics of a BatchNorm, by the name of the buffer."""
    for name, value in statistics.items():
        norm.get_buffer(name).copy_(torch.as_tensor(value))


def _with_statistics(model: nn.Module) -> dict[str, _BatchNorm]:
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    return {name: norm for name, norm in norms.items() if norm.track_running_stats and norm.running_mean is not None}
