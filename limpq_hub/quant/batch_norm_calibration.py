"""Recalibrate BatchNorm on unlabelled images: its running statistics are replaced by measured ones.

Recalibration removes the shift that quantization caused in the statistics, and adds the difference between these images
and the training images: other crops, other classes, few of them. Where quantization shifted little, the added
difference is the larger of the two. Then `recalibrate_if_better_` rejects the new statistics, by a comparison on images
held out, and `limpq_hub.quant.batch_norm_correction` applies the shift alone.

There are two averages, which differ in more than the last digits where batches differ in size:

| | `recalibrate_batch_norm_` | `average_batch_norm_` |
|---|---|---|
| for | the figures of trainings and comparisons | `limpq_hub.load` with `calibrate=` |
| the average is added up | by torch, in the type of the statistics | in float64 |
| a batch's variance counts by | its images | its degrees of freedom, values per channel less 1 |
| one image with one value per channel | `DataError` | variance 0 |
| a BatchNorm that never runs | is reset to mean 0, variance 1 | stays as it was |
| after an error in the batches | the statistics so far | the statistics from before |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limpq_hub.errors import DataError
from limpq_hub.quant.batch_norm_moments import check_finite, measure_moments, none_alone
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.running_statistics import active_batch_norms, set_statistics_, statistics_of
from limpq_hub.quant.single_values import check_not_alone
from limpq_hub.quant.watched_inputs import watched_inputs

# One half to measure, one half to compare: late layers have few values per image.
FEWEST_IMAGES = 64


@dataclass(frozen=True)
class Recalibration:
    """The outcome of a recalibration.

    Attributes:
        images: number of images given.
        kl_before: KL divergence from the float network in nats on the images held out, with the network's own
            statistics; None where nothing was compared.
        kl_after: the same with statistics measured on the other images.
        accepted: whether the network now has statistics measured on all images; if not, it has its own.
    """

    images: int
    kl_before: float | None
    kl_after: float | None
    accepted: bool


@torch.no_grad()
def recalibrate_batch_norm_(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the statistics of every active BatchNorm by torch's running average over `batches`.

    Everything else runs in eval mode. The momentum of each call is the share of its batch in the images so far, so that
    each image counts alike in mean and variance, each time that a BatchNorm is called; with batches of one size the
    result equals, to the bit, that of torch with `momentum=None`. Published figures were measured with it;
    `average_batch_norm_` gives other bits, and with batches of different sizes another variance (see the table of this
    module). A batch of a single image is joined to its neighbour, because late layers may have one value per channel of
    it, and so no variance.

    Args:
        batches: unlabelled image batches, [batch, 3, height, width], normalized as the model takes them.

    Returns:
        The number of images; with none, or after numbers that are not finite, the statistics stay as they were. After
        an error in `batches` they are those of the batches that ran before.

    Raises:
        DataError: a batch is no tensor of images alone; there is one image in all, of which a batch normalization has
            one value per channel; or a batch normalization is given what is no finite number.
    """
    named = active_batch_norms(model)
    norms = list(named.values())
    before = {name: statistics_of(norm) for name, norm in named.items()}
    momenta = [norm.momentum for norm in norms]
    image_count, batch_images = 0, 0
    seen: Counter[str] = Counter()

    def weigh(name: str, norm: _BatchNorm, x: Tensor) -> None:
        """Let a call count as much as the images of its batch do among all calls so far."""
        seen[name] += batch_images
        norm.momentum = batch_images / seen[name]

    with in_eval_mode(model):
        try:
            for images in none_alone(batches):
                if not image_count:
                    check_enough_to_calibrate(model, images)
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.train()
                batch_images = len(images)
                image_count += batch_images
                with watched_inputs(named, weigh):
                    model(images)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    try:
        for name, norm in named.items() if image_count else ():
            statistics = statistics_of(norm)
            check_finite(name, statistics["running_mean"], statistics["running_var"])
    except DataError:
        for name, norm in named.items():
            set_statistics_(norm, before[name])
        raise
    return image_count


def average_batch_norm_(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the statistics of every active BatchNorm by their average over `batches`, added up in float64.

    Means are weighted by the number of values, variances by degrees of freedom, which torch's running average in
    `recalibrate_batch_norm_` weights by images: with batches of one size the two agree but for rounding (see the table
    of this module). A batch of a single image is joined to its neighbour; one value per channel in all has variance 0.

    Args:
        model: with its parameters where the images are.
        batches: unlabelled image batches, [batch, 3, height, width], normalized as the model takes them.

    Returns:
        The number of images; with none, or after an error, the statistics stay as they were.

    Raises:
        DataError: a batch is no tensor of images alone, or a BatchNorm is given what is no finite number.
    """
    measured, norms = measure_moments(model, batches), active_batch_norms(model)
    for name, moments in measured.by_norm.items():
        statistics = {"running_mean": moments.mean, "running_var": moments.variance}
        set_statistics_(norms[name], {**statistics, "num_batches_tracked": moments.batches})
    return measured.images


@torch.no_grad()
def recalibrate_if_better_(
    model: nn.Module,
    batches: Iterable[Tensor],
    reference: Callable[[Tensor], Tensor],
) -> Recalibration:
    """Recalibrate BatchNorm with `average_batch_norm_` if that lowers the KL to `reference` on images held out.

    Statistics are measured on the first half of the images, and the KL to the reference is compared on the second half.
    If it falls, statistics measured on all images are set; else the model keeps its own. The halves are not shuffled:
    where images are sorted by class, the second half has other classes, and statistics that fit the first half alone
    are rejected.

    Args:
        model: a quantized network.
        batches: unlabelled image batches, [batch, 3, height, width], normalized; all are held in memory.
        reference: the float network in eval mode, or another function from images to logits, [batch, classes].

    Raises:
        DataError: a batch is no tensor of images alone, or a BatchNorm is given what is no finite number.
    """
    batches = [image_batch(images, "batches") for images in batches]
    image_count = sum(map(len, batches))
    if image_count < FEWEST_IMAGES:
        return Recalibration(image_count, None, None, accepted=False)
    measured, held_out = halves(batches)
    targets = torch.cat([reference(images) for images in held_out]).log_softmax(-1)
    norms = active_batch_norms(model)
    before = {name: statistics_of(norm) for name, norm in norms.items()}
    kl_before = _kl(model, held_out, targets)
    average_batch_norm_(model, measured)
    kl_after = _kl(model, held_out, targets)
    accepted = kl_after < kl_before  # False where one is not a number
    if accepted:
        average_batch_norm_(model, batches)
    else:
        for name, norm in norms.items():
            set_statistics_(norm, before[name])
    return Recalibration(image_count, kl_before, kl_after, accepted)


def halves(batches: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the first and the second half of the images; the batch in the middle is cut where it must be."""
    left, first, second = sum(map(len, batches)) // 2, [], []
    for images in batches:
        taken = min(left, len(images))
        left -= taken
        first += [images[:taken]] if taken else []
        second += [images[taken:]] if taken < len(images) else []
    return first, second


def check_enough_to_calibrate(model: nn.Module, images: Tensor) -> None:
    """Raise `DataError` for one image to calibrate with, of which a batch normalization has one value per channel.

    Args:
        images: [batch, 3, height, width]; a single one runs in eval mode.
    """
    check_not_alone(model, images, DataError, "two images or more to calibrate with")


def _kl(model: nn.Module, batches: Sequence[Tensor], targets: Tensor) -> float:
    """Return the KL divergence of `model` in eval mode from log-probabilities, over all images."""
    with in_eval_mode(model):
        logits = torch.cat([model(images) for images in batches])
    return float(kl_divergence(logits, targets))
