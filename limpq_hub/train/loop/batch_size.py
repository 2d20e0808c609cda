"""Whether a batch is large enough for the batch normalizations of a network in training."""

from __future__ import annotations

import torch
from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.quant.single_values import norm_of_one_value
from limpq_hub.zoo.network import NetworkSpec


def check_batch_size(model: nn.Module, batch_size: int, processes: int) -> None:
    """Raise `TrainingError` if a batch is one image, and a batch normalization has one value per channel of it.

    Args:
        batch_size: images per process; several processes normalize together.
    """
    if batch_size * processes > 1 or not hasattr(model, "pretrained_cfg"):
        return
    size, reference = NetworkSpec.of(model).input_size, next(model.parameters())
    name = norm_of_one_value(model, torch.zeros(1, 3, size, size, device=reference.device, dtype=reference.dtype))
    if name is not None:
        raise TrainingError(
            f"--batch-size 1 leaves batch normalization {name} one value per channel at {size} pixels, of which there "
            "is no variance; use --batch-size 2 or more, or a larger --input-size"
        )
