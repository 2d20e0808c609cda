"""Train and eval mode of every module, put back after a measurement that needed others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Put every module back into its own train or eval mode at the end."""
    training = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, was_training in training.items():
            module.training = was_training
