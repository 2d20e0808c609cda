"""Warnings about a training that looks failed: top-1 at chance, no fall of the loss, or one class for all pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from limpq_hub.train.loop.journal import JOURNAL, SMALLER_STEPS

# The mean loss of fewer steps is too noisy.
_FEWEST_STEPS = 20
_COMPARED_SHARE = 0.1
# Fewer pictures, or a smaller share of them in one class, may be chance.
_FEWEST_PICTURES = 20
_SAME_SHARE = 0.95
# A top-1 so many standard errors above chance counts as learned.
_CERTAIN = 3
# In fewer steps the learning rate is still warming up: a top-1 at chance is no sign of failure.
_FEW_STEPS = 100
_ADVICE = f"{SMALLER_STEPS}, and look at {JOURNAL}"
_LONGER = "train longer in another --output, with more --epochs or --max-steps"


def concerns(output: Path, figures: Mapping[str, Any], num_classes: int) -> Iterator[str]:
    """Yield the warnings about the result of a training, a line each; none where it looks sound.

    Args:
        output: folder of the run.
        figures: of the trained network, as `evaluate` gives them.
        num_classes: outputs of the network.
    """
    losses = _losses(output / JOURNAL)
    advice = _ADVICE
    if len(losses) < _FEW_STEPS:
        advice = f"so few steps ({len(losses)}) cannot have learned much: {_LONGER}"
    top1, images = figures.get("top1"), figures["images"]
    chance = 1 / num_classes
    error = math.sqrt(chance * (1 - chance) / images)
    certain = chance + _CERTAIN * error
    if top1 is not None and num_classes > 1 and top1 / 100 <= certain < 1:
        guessed = f"a top-1 of {top1:.2f} % of {num_classes} classes"
        if top1 / 100 <= chance + error:
            yield f"warning: {guessed} is no better than guessing ({100 * chance:.2f} %): {advice}"
        else:
            yield (
                f"warning: {guessed} on {images} pictures cannot be told from guessing ({100 * chance:.2f} %): measure "
                f"it on more of them, or {advice}"
            )
    count = int(_COMPARED_SHARE * len(losses))
    if len(losses) >= _FEWEST_STEPS:
        first, last = fmean(losses[:count]), fmean(losses[-count:])
        if last >= first:
            yield (
                f"warning: the loss did not fall: {first:.3f} on average in the first {count} steps, {last:.3f} in the "
                f"last {count}: {advice}"
            )


def sameness(reference: Sequence[Tensor]) -> Iterator[str]:
    """Yield what to know before a training, where the float network finds one class in nearly all pictures.

    Such a network is of little use as a start or a teacher: what is quantized becomes no better.

    Args:
        reference: logits or log-probabilities of batches of pictures, [batch, classes] each.
    """
    if not reference:
        return
    found, classes = torch.cat([scores.argmax(-1) for scores in reference]), reference[0].shape[-1]
    most = int(found.mode().values)
    pictures = int((found == most).sum())
    if len(found) >= _FEWEST_PICTURES and classes > 1 and pictures >= _SAME_SHARE * len(found):
        yield (
            f"warning: the float network finds class {most} of {classes} in {pictures} of {len(found)} pictures: "
            "unless they show one thing, it is no start and no teacher; check --weights, and that pictures are "
            "prepared as they need it (--mean, --std, --input-size)"
        )


def _losses(journal: Path) -> list[float]:
    records = map(json.loads, journal.read_text().splitlines())
    return [record["loss"] for record in records if "loss" in record]
