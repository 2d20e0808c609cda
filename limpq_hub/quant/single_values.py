"""Batch normalizations that take in one value per channel: there is no variance of it, and torch refuses to train."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limpq_hub.quant.modes import modes_restored


@torch.no_grad()
def norm_of_one_value(model: nn.Module, images: Tensor) -> str | None:
    """Return the name of the first active batch normalization that has one value per channel of `images`, or None.

    Args:
        images: [batch, 3, height, width]; they run in eval mode.
    """
    found: list[str] = []

    def look(name: str, x: Tensor) -> None:
        if x.numel() == x.shape[1]:
            found.append(name)

    handles = [
        module.register_forward_pre_hook(lambda norm, arguments, name=name: look(name, arguments[0]))
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    try:
        with modes_restored(model):
            model.eval()
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
