"""Mean and variance of what each BatchNorm of a network takes in, over any number of images, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limpq_hub.quant.modes import modes_restored
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d


class Moments:
    """Moments of each channel of all values that were added, without the cancellation of summed squares.

    Attributes:
        count: of values in a channel.
        mean: [channels], float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._deviations = torch.zeros((), dtype=torch.float64)

    @property
    def variance(self) -> Tensor:
        """The unbiased one, as torch's own statistics have it, [channels], float64."""
        return self._deviations / max(self.count - 1, 1)

    def add(self, count: int, mean: Tensor, variance: Tensor) -> None:
        """Take in the moments of further values; their variance is not the unbiased one.

        Source: Chan et al., "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
        """
        mean, variance = _in_float64(mean), _in_float64(variance)
        total = self.count + count
        difference = mean - self.mean.to(mean.device)
        between = difference.square() * (self.count * count / total)
        self._deviations = self._deviations.to(mean.device) + variance * count + between
        self.mean = mean - difference * (self.count / total)
        self.count = total


@dataclass(frozen=True)
class MeasuredMoments:
    """What a network was found to take in.

    Attributes:
        of: the moments by the name of the BatchNorm; those that never ran have none.
        images: how many were measured.
        batches: how many these came in.
    """

    of: Mapping[str, Moments]
    images: int
    batches: int


@torch.no_grad()
def measure_moments(model: nn.Module, batches: Iterable[Tensor]) -> MeasuredMoments:
    """Return the moments of the input of every active BatchNorm; nothing of `model` changes, even after an error.

    Everything runs in eval mode but for one thing: each batch is normalized by its own statistics, as in training, so
    that what a layer takes in does not depend on the statistics that the layers before it came with.

    Args:
        model: with its parameters where the images are.
        batches: unlabelled image batches, [batch, 3, height, width], normalized as the model takes them.
    """
    norms = active_batch_norms(model)
    before = {name: statistics_of(norm) for name, norm in norms.items()}
    moments = {name: Moments() for name in norms}

    def measure_(name: str, norm: nn.BatchNorm2d, x: Tensor) -> None:
        # Half precision has too few digits for a sum over a batch.
        variance, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), (0, 2, 3), correction=0)
        moments[name].add(x.numel() // x.shape[1], mean, variance)
        set_statistics_(norm, {"running_mean": mean, "running_var": variance})

    handles = [
        norm.register_forward_pre_hook(lambda norm, arguments, name=name: measure_(name, norm, *arguments))
        for name, norm in norms.items()
    ]
    image_count = batch_count = 0
    try:
        with modes_restored(model):
            model.eval()
            for images in batches:
                model(images)
                image_count, batch_count = image_count + len(images), batch_count + 1
    finally:
        for handle in handles:
            handle.remove()
        for name, statistics in before.items():
            set_statistics_(norms[name], statistics)
    return MeasuredMoments({name: found for name, found in moments.items() if found.count}, image_count, batch_count)


def active_batch_norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Return those that run and have running statistics, by name; not the idle copies of a switchable one."""
    switches = [module for module in model.modules() if isinstance(module, SwitchableBatchNorm2d)]
    idle = {norm for switch in switches for norm in switch.copies.values() if norm is not switch.active}
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    return {name: norm for name, norm in norms.items() if norm not in idle and norm.track_running_stats}


def statistics_of(norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    """Return a copy of the running statistics of a BatchNorm, by the name of the buffer."""
    return {name: value.clone() for name, value in norm.named_buffers(recurse=False)}


@torch.no_grad()
def set_statistics_(norm: nn.BatchNorm2d, statistics: Mapping[str, Tensor | int]) -> None:
    """Set running statistics of a BatchNorm, by the name of the buffer."""
    for name, value in statistics.items():
        norm.get_buffer(name).copy_(torch.as_tensor(value))


def _in_float64(values: Tensor) -> Tensor:
    """Return `values` in float64, on the CPU where the device has none."""
    return values.cpu().double() if values.device.type == "mps" else values.double()
