"""Runs of the training loop on a handful of numbers instead of pictures: seconds become milliseconds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from limpq_hub.train.data.epoch_sampler import EpochSampler, PictureOfEpoch
from limpq_hub.train.loop.fit import Accumulate, StepPosition, Validate, fit
from limpq_hub.train.loop.run import training_run
from limpq_hub.train.options import add_data_options, add_quantizer_options, add_training_options, parse, parser_of


class Numbers(Dataset):
    """One row of numbers per picture, [features], with label 0."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.unreadable = SimpleNamespace(check=lambda: None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, wanted: PictureOfEpoch) -> tuple[Tensor, int]:
        return self.rows[wanted.picture], 0


def number_options(output: Path, *words: str) -> argparse.Namespace:
    """Return the options of a run: plain SGD without weight decay, and what `words` say."""
    parser = parser_of("A run on numbers.")
    add_data_options(parser)
    add_training_options(parser, epochs=1, lr=0.1, weight_decay=0.0)
    add_quantizer_options(parser)
    common = ["--data", "numbers", "--output", str(output), "--workers", "0", "--threads", "1", "--momentum", "0"]
    return parse(parser, "pretrain", [*common, *words])


def fit_to_numbers(
    options: argparse.Namespace,
    rows: Tensor,
    model: nn.Module,
    loss_of: Callable[[nn.Module, Tensor], Tensor],
    *,
    memory: dict[str, Any] | None = None,
    each: Callable[[StepPosition], None] = lambda moment: None,
    validate: Validate | None = None,
) -> float:
    """Train `model` in place on `rows`, [rows, features]; call `each` before every batch."""

    def accumulate_with(accelerator: Any) -> Accumulate:
        def accumulate(images: Tensor, labels: Tensor, moment: StepPosition) -> Tensor:
            each(moment)
            loss = loss_of(model, images)
            accelerator.backward(loss * moment.share)
            return loss.detach()

        return accumulate

    with training_run(options) as accelerator:
        sampler = EpochSampler(len(rows), seed=options.seed)
        loader = DataLoader(Numbers(rows), options.batch_size, sampler=sampler, drop_last=True)
        return fit(accelerator, model, loader, accumulate_with(accelerator), options, memory=memory, validate=validate)


class OneWeight(nn.Module):
    """A network of one parameter, 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def slope_one(model: nn.Module, images: Tensor) -> Tensor:
    """Return a loss whose gradient with respect to the weight is the mean of the numbers."""
    return (model.weight * images).mean()
