"""Runs of the training loop on a handful of numbers instead of pictures: seconds become milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from limpq_hub.train.data.epoch_sampler import EpochSampler, PictureOfEpoch
from limpq_hub.train.data.picture_loader import TrainingLoader
from limpq_hub.train.data.unreadable import Unreadable
from limpq_hub.train.loop.batches import StepPosition
from limpq_hub.train.loop.fit import Accumulate, Validate, fit
from limpq_hub.train.loop.run import training_run
from limpq_hub.train.options import add_data_options, parser_of, settings_of
from limpq_hub.train.training_options import add_quantizer_options, add_training_options
from limpq_hub.train.training_settings import TrainingSettings


class Numbers(Dataset):
    """One row of numbers per picture, [features], with label 0."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, wanted: PictureOfEpoch) -> tuple[Tensor, int]:
        return self.rows[wanted.picture], 0


def number_settings(output: Path, *words: str) -> TrainingSettings:
    """Return the settings of a run: plain SGD without weight decay, and what `words` say."""
    parser = parser_of("A run on numbers.", "pretrain")
    add_data_options(parser)
    add_training_options(parser, epochs=1, lr=0.1, weight_decay=0.0)
    add_quantizer_options(parser)
    common = ["--data", "numbers", "--output", str(output), "--workers", "0", "--threads", "1"]
    plain = [] if "--optimizer" in words else ["--momentum", "0"]
    words = (*common, *plain, *words)
    return settings_of(TrainingSettings, parser, "pretrain", words, recipe=True)


def number_loader(rows: Tensor, batch_size: int, *, seed: int = 0) -> TrainingLoader:
    """Return the rows as `training_loader` returns pictures."""
    sampler = EpochSampler(len(rows), seed=seed)
    batches = DataLoader(Numbers(rows), batch_size, sampler=sampler, drop_last=True)
    return TrainingLoader(batches, Unreadable(len(rows), str), sampler, batch_size, workers=0)


def fit_to_numbers(
    settings: TrainingSettings,
    rows: Tensor,
    model: nn.Module,
    loss_of: Callable[[nn.Module, Tensor], Tensor],
    *,
    memory: dict[str, Any] | None = None,
    each: Callable[[StepPosition], None] = lambda position: None,
    validate: Validate | None = None,
) -> float:
    """Train `model` in place on `rows`, [rows, features]; call `each` before every batch."""

    def accumulate_with(accelerator: Any) -> Accumulate:
        def accumulate(images: Tensor, labels: Tensor, position: StepPosition) -> Tensor:
            each(position)
            loss = loss_of(model, images)
            accelerator.backward(loss * position.share)
            return loss.detach()

        return accumulate

    with training_run(settings) as accelerator:
        loader = number_loader(rows, settings.invocation.options["batch_size"], seed=settings.seed)
        return fit(accelerator, model, loader, accumulate_with(accelerator), settings, memory=memory, validate=validate)


class OneWeight(nn.Module):
    """A network of one parameter, 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def slope_one(model: nn.Module, images: Tensor) -> Tensor:
    """Return a loss whose gradient with respect to the weight is the mean of the numbers."""
    return (model.weight * images).mean()
