"""Measure BatchNorm statistics on unlabelled images, and keep them only where that brings a network closer to its own.

New statistics cure what quantization shifted, and bring in how the images differ from those of the training: other
crops, other classes, few of them. Where quantization shifted little, the second outweighs the first. Against that there
are two remedies: `recalibrate_if_better_` compares on images held out, and `limpq_hub.quant.batch_norm_correction`
leaves the second out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limpq_hub.quant.batch_norm_moments import measure_moments, none_alone
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.running_statistics import active_batch_norms, set_statistics_, statistics_of
from limpq_hub.quant.single_values import norm_of_one_value

# Half of them measure, half compare; the late layers have few values an image.
FEWEST_IMAGES = 64


@dataclass(frozen=True)
class Recalibration:
    """What became of the statistics that a network came with.

    Attributes:
        images: how many there were.
        kl_before: KL divergence from the float network in nats on the images held out, with the statistics that the
            network came with; None if there were too few images to compare.
        kl_after: the same with statistics measured on the other images.
        accepted: whether the network now has statistics measured on all images.
    """

    images: int
    kl_before: float | None
    kl_after: float | None
    accepted: bool


@torch.no_grad()
def recalibrate_batch_norm_(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the statistics of every active BatchNorm by their average over `batches`, each image counting alike.

    Everything else runs in eval mode. The momentum of each batch is its share of the images so far: of batches of one
    size this is, to the last digit, how torch averages them without a momentum. `average_batch_norm_` does the same in
    float64. An image alone is taken together with a batch beside it: late layers may have a single value of it, and so
    no variance.

    Args:
        batches: unlabelled image batches, [batch, 3, height, width], normalized as the model takes them.

    Returns:
        The number of images; with none, the statistics stay as they were.

    Raises:
        ValueError: there is one image in all, of which a batch normalization has one value per channel.
    """
    norms = list(active_batch_norms(model).values())
    momenta = [norm.momentum for norm in norms]
    image_count = 0
    with in_eval_mode(model):
        try:
            for images in none_alone(batches):
                if not image_count:
                    _check_not_alone(model, images)
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.train()
                image_count += len(images)
                for norm in norms:
                    norm.momentum = len(images) / image_count
                model(images)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return image_count


def average_batch_norm_(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the statistics of every active BatchNorm by their average over `batches`, in float64, each image alike.

    Args:
        model: with its parameters where the images are.
        batches: unlabelled image batches, [batch, 3, height, width], normalized as the model takes them.

    Returns:
        The number of images; with none, or after an error, the statistics stay as they were.
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
    recalibrate_: Callable[[nn.Module, Sequence[Tensor]], int] = average_batch_norm_,
) -> Recalibration:
    """Recalibrate BatchNorm, but only if that brings `model` closer to `reference` on images that were held out.

    Statistics are measured on the first half of the images; KL to the reference is compared on the second half. If it
    falls, statistics measured on all batches stay, else those that the model came with. Halves are not shuffled: of
    images sorted by class the second half has other classes, and statistics that serve the first only are refused.

    Args:
        model: a quantized network.
        batches: unlabelled image batches, [batch, 3, height, width], normalized; all are held in memory.
        reference: the float network in eval mode, or what else returns logits [batch, classes] of a batch.
        recalibrate_: what sets the statistics of a network by images.
    """
    batches = list(batches)
    image_count = sum(map(len, batches))
    if image_count < FEWEST_IMAGES:
        return Recalibration(image_count, None, None, accepted=False)
    measured, held_out = _halves(batches)
    targets = torch.cat([reference(images) for images in held_out]).log_softmax(-1)
    norms = active_batch_norms(model)
    before = {name: statistics_of(norm) for name, norm in norms.items()}
    kl_before = _kl(model, held_out, targets)
    recalibrate_(model, measured)
    kl_after = _kl(model, held_out, targets)
    accepted = kl_after < kl_before  # False where one is not a number
    if accepted:
        recalibrate_(model, batches)
    else:
        for name, norm in norms.items():
            set_statistics_(norm, before[name])
    return Recalibration(image_count, kl_before, kl_after, accepted)


def _check_not_alone(model: nn.Module, images: Tensor) -> None:
    """Raise `ValueError` for one image of which a batch normalization has one value per channel."""
    name = norm_of_one_value(model, images) if len(images) == 1 else None
    if name is not None:
        raise ValueError(
            f"one image leaves batch normalization {name} one value per channel, of which there is no variance; give "
            "two images or more to calibrate with"
        )


def _halves(batches: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the first and the second half of the images; the batch in the middle is cut where it must be."""
    left, first, second = sum(map(len, batches)) // 2, [], []
    for images in batches:
        taken = min(left, len(images))
        left -= taken
        first += [images[:taken]] if taken else []
        second += [images[taken:]] if taken < len(images) else []
    return first, second


def _kl(model: nn.Module, batches: Sequence[Tensor], targets: Tensor) -> float:
    """Return the KL divergence of `model` in eval mode from log-probabilities, over all images."""
    with in_eval_mode(model):
        logits = torch.cat([model(images) for images in batches])
    return float(kl_divergence(logits, targets))
