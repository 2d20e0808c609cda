"""The running statistics of BatchNorms: which of a network have them, and how they are read and set."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d


def active_batch_norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Return the BatchNorms with running statistics, by name; of a switchable one only the copy that is active."""
    switches = [module for module in model.modules() if isinstance(module, SwitchableBatchNorm2d)]
    idle = {norm for switch in switches for norm in switch.copies.values() if norm is not switch.active}
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    return {name: norm for name, norm in norms.items() if norm not in idle and norm.track_running_stats}


def placed_batch_norms(model: nn.Module) -> dict[str, nn.BatchNorm2d | SwitchableBatchNorm2d]:
    """Return the BatchNorms with running statistics by the name that each has in the float network.

    A switchable BatchNorm, a copy for each weight bit-width, is returned as the module that holds the copies.
    """
    switches = {name: module for name, module in model.named_modules() if isinstance(module, SwitchableBatchNorm2d)}
    copies = {norm for switch in switches.values() for norm in switch.copies.values()}
    plain = {name: norm for name, norm in model.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    return switches | {name: norm for name, norm in plain.items() if norm not in copies and norm.track_running_stats}


def statistics_of(norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    """Return a copy of the running statistics of a BatchNorm, by the name of the buffer."""
    return {name: value.clone() for name, value in norm.named_buffers(recurse=False)}


@torch.no_grad()
def set_statistics_(norm: nn.BatchNorm2d, statistics: Mapping[str, Tensor | int]) -> None:
    """Set running statistics of a BatchNorm, by the name of the buffer."""
    for name, value in statistics.items():
        norm.get_buffer(name).copy_(torch.as_tensor(value))
