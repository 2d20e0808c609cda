"""Batch normalizations that take in one value per channel: there is no variance of it, and torch refuses to train."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limpq_hub.errors import LimpqError
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.watched_inputs import watched_inputs


@torch.no_grad()
def norm_of_one_value(model: nn.Module, images: Tensor) -> str | None:
    """Return the name of the first active batch normalization that has one value per channel of `images`, or None.

    Args:
        images: [batch, 3, height, width]; they run in eval mode.
    """
    norms = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    with_one_value: list[str] = []

    def note_single(name: str, norm: nn.Module, x: Tensor) -> None:
        """Note the batch normalization if its input has one value per channel."""
        if x.numel() == x.shape[1]:
            with_one_value.append(name)

    with watched_inputs(norms, note_single), in_eval_mode(model):
        model(images)
    return with_one_value[0] if with_one_value else None


def check_not_alone(model: nn.Module, images: Tensor, error: type[LimpqError], advice: str) -> None:
    """Raise an error of a kind for one image of which a batch normalization has one value per channel.

    Args:
        images: [batch, 3, height, width]; a single one runs in eval mode.
        advice: what to give in its place.
    """
    name = norm_of_one_value(model, images) if len(images) == 1 else None
    if name is not None:
        raise error(
            f"one image leaves batch normalization {name} one value per channel, of which there is no variance; give "
            f"{advice}"
        )
