"""Measure BatchNorm statistics on unlabelled images, and keep them only where that brings a network closer to its own.

New statistics cure what quantization shifted, and bring in how the images differ from those of the training: other
crops, other classes, few of them. Where quantization shifted little, the second outweighs the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.quant.modes import modes_restored
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d

# With fewer images the statistics of the late layers, 7 x 7 values an image, are mostly those of the images at hand.
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
    """Replace the statistics of every active BatchNorm by mean and variance of its input over all of `batches`.

    Everything runs in eval mode but for one thing: while this measures, each batch is normalized by its own statistics,
    as in training. The variance is that over all images, how batches differ included, so that small ones will do.

    Args:
        model: with its parameters where the images are.
        batches: unlabelled image batches, [batch, 3, height, width], normalized as the model takes them.

    Returns:
        The number of images; with none, or after an error, the statistics stay as they were.
    """
    norms = _active_batch_norms(model)
    before = {norm: _statistics(norm) for norm in norms}
    moments = {norm: _Moments() for norm in norms}
    handles = [norm.register_forward_pre_hook(moments[norm].measure) for norm in norms]
    image_count = batch_count = 0
    try:
        with modes_restored(model):
            model.eval()
            for images in batches:
                model(images)
                image_count, batch_count = image_count + len(images), batch_count + 1
    except BaseException:
        _restore_(before)
        raise
    finally:
        for handle in handles:
            handle.remove()
    for norm in norms:
        if moments[norm].count:
            moments[norm].copy_to_(norm, batch_count)
    return image_count


@torch.no_grad()
def recalibrate_if_better_(
    model: nn.Module, batches: Iterable[Tensor], reference: Callable[[Tensor], Tensor]
) -> Recalibration:
    """Recalibrate BatchNorm, but only if that brings `model` closer to `reference` on images that were held out.

    Statistics are measured on the first half of the batches; KL to the reference is compared on the second half. If it
    falls, statistics measured on all batches stay, else those that the model came with. Halves are not shuffled: of
    images sorted by class the second half has other classes, and statistics that serve the first only are refused.

    Args:
        model: a quantized network.
        batches: unlabelled image batches, [batch, 3, height, width], normalized; all are held in memory.
        reference: the float network in eval mode, or what else returns logits [batch, classes] of a batch.
    """
    batches = list(batches)
    image_count = sum(map(len, batches))
    if image_count < FEWEST_IMAGES:
        return Recalibration(image_count, None, None, accepted=False)
    measured, held_out = _halves(batches)
    targets = [reference(images).log_softmax(-1) for images in held_out]
    before = {norm: _statistics(norm) for norm in _active_batch_norms(model)}
    kl_before = _kl(model, held_out, targets)
    recalibrate_batch_norm_(model, measured)
    kl_after = _kl(model, held_out, targets)
    accepted = kl_after < kl_before  # False where one is not a number
    if accepted:
        recalibrate_batch_norm_(model, batches)
    else:
        _restore_(before)
    return Recalibration(image_count, kl_before, kl_after, accepted)


class _Moments:
    """Count, mean and summed squared deviations of each channel of all that a BatchNorm took, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.deviations = torch.zeros((), dtype=torch.float64)

    def measure(self, norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """Forward pre-hook: take in the input, [batch, channels, height, width], and have it normalized by itself."""
        (x,) = arguments
        # Half precision has too few digits for a sum over a batch.
        variance, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), (0, 2, 3), correction=0)
        norm.get_buffer("running_mean").copy_(mean)
        norm.get_buffer("running_var").copy_(variance)
        self._add(x.numel() // x.shape[1], _in_float64(mean), _in_float64(variance))

    def copy_to_(self, norm: nn.BatchNorm2d, batch_count: int) -> None:
        """Set the statistics of a BatchNorm; the variance is the unbiased one, as torch's own."""
        norm.get_buffer("running_mean").copy_(self.mean)
        norm.get_buffer("running_var").copy_(self.deviations / max(self.count - 1, 1))
        norm.get_buffer("num_batches_tracked").fill_(batch_count)

    def _add(self, count: int, mean: Tensor, variance: Tensor) -> None:
        """Merge moments of further values.

        Source: Chan et al., "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
        """
        total = self.count + count
        difference = mean - self.mean.to(mean.device)
        squared = difference.square() * (self.count * count / total)
        self.deviations = self.deviations.to(mean.device) + variance * count + squared
        self.mean = mean - difference * (self.count / total)
        self.count = total


def _in_float64(values: Tensor) -> Tensor:
    """Return `values` in float64, on the CPU where the device has none."""
    return values.cpu().double() if values.device.type == "mps" else values.double()


def _halves(batches: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    if len(batches) == 1:
        first, second = batches[0].tensor_split(2)
        return [first], [second]
    return batches[: len(batches) // 2], batches[len(batches) // 2 :]


def _kl(model: nn.Module, batches: Sequence[Tensor], targets: Sequence[Tensor]) -> float:
    """Return the KL divergence of `model` in eval mode from log-probabilities, over all images."""
    with modes_restored(model):
        model.eval()
        logits = torch.cat([model(images) for images in batches])
    return float(kl_divergence(logits, torch.cat(list(targets))))


def _statistics(norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in norm.named_buffers(recurse=False)}


def _restore_(statistics: dict[nn.BatchNorm2d, dict[str, Tensor]]) -> None:
    for norm, buffers in statistics.items():
        for name, value in buffers.items():
            norm.get_buffer(name).copy_(value)


def _active_batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Return those that run and have running statistics; not the idle copies of a switchable one."""
    switches = [module for module in model.modules() if isinstance(module, SwitchableBatchNorm2d)]
    idle = {norm for switch in switches for norm in switch.copies.values() if norm is not switch.active}
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d) and module not in idle]
    return [norm for norm in norms if norm.track_running_stats]
