"""Train and eval mode of every module: eval mode for a measurement, and frozen statistics in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode inside the block, and back into its own mode at the end."""
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, was_training in training.items():
            if module.training != was_training:
                # Not the attribute alone: a class may do more, such as forget what it keeps in eval mode.
                module.train(was_training)
        # A module that is registered twice was reached again, and a class may have a mode of its own.
        for module, was_training in training.items():
            module.training = was_training


def freeze_batch_norms_(model: nn.Module) -> None:
    """Put every batch normalization into eval mode: it uses the statistics it has, and does not change them.

    Their factors and offsets are trained as before. `model.train()` thaws them.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
