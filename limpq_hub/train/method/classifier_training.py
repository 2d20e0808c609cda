"""Training of one classifier, float or at one policy, from labels and perhaps a teacher."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.train.data.picture_loader import TrainingLoader
from limpq_hub.train.loop.batches import StepPosition
from limpq_hub.train.loop.fit import Validate, fit
from limpq_hub.train.method.joint_step import classification_loss
from limpq_hub.train.training_settings import LossSettings, TrainingSettings


def train_classifier_(
    accelerator: Accelerator,
    model: nn.Module,
    loader: TrainingLoader,
    loss: LossSettings,
    settings: TrainingSettings,
    *,
    teacher: nn.Module | None = None,
    validate: Validate | None = None,
) -> float:
    """Train `model` in place, and return the seconds it took; raises like `fit`.

    Args:
        teacher: a float network, for `loss.distill`.
        validate: figures of a copy of the model, for `--validate-epochs`.
    """

    def accumulate(images: Tensor, labels: Tensor, position: StepPosition) -> Tensor:
        """Add the gradients of one batch, and return its loss."""
        with torch.no_grad(), accelerator.autocast():
            taught = teacher(images) if teacher else None
        with accelerator.autocast():
            value = classification_loss(
                model(images),
                labels if loader.labelled else None,
                (taught, loss.distill),
                smoothing=loss.smoothing,
            )
        accelerator.backward(value * position.share)
        return value.detach()

    return fit(accelerator, model, loader, accumulate, settings, validate=validate)
