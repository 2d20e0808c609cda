"""Mean and variance of what each BatchNorm of a network takes in, averaged over batches of images in float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limpq_hub.quant.modes import modes_restored
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d


@dataclass
class Moments:
    """Averages over batches, each image counting alike, in float64.

    Attributes:
        batches: how many were added.
        values: how many values of a channel they had.
        mean: [channels].
        variance: the unbiased one of each batch, averaged, [channels].
    """

    batches: int = 0
    values: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    variance: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Take in a batch, [batch, channels, height, width]; return its mean and biased variance, [channels] each."""
        # Half precision has too few digits for a sum over a batch.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        of_batch, values = torch.var_mean(wide, (0, 2, 3), correction=0), x.numel() // x.shape[1]
        self.batches, self.values = self.batches + 1, self.values + values
        # The variance of a single value says nothing.
        variance, mean = _in_float64(of_batch[0] * (values / max(values - 1, 1))), _in_float64(of_batch[1])
        own_mean, own_variance = self.mean.to(mean.device), self.variance.to(mean.device)
        self.mean = own_mean + (mean - own_mean) / (self.values / values)
        if values > 1:
            freedom = self.values - self.batches
            self.variance = own_variance + (variance - own_variance) / (freedom / (values - 1))
        return of_batch[1], of_batch[0]


@dataclass(frozen=True)
class MeasuredMoments:
    """What a network was found to take in.

    Attributes:
        of: the moments by the name of the BatchNorm; those that never ran have none.
        images: how many were measured.
    """

    of: Mapping[str, Moments]
    images: int


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
        mean, variance = moments[name].add(x)
        set_statistics_(norm, {"running_mean": mean, "running_var": variance})

    handles = [
        norm.register_forward_pre_hook(lambda norm, arguments, name=name: measure_(name, norm, *arguments))
        for name, norm in norms.items()
    ]
    image_count = 0
    try:
        with modes_restored(model):
            model.eval()
            for images in none_alone(batches):
                model(images)
                image_count += len(images)
    finally:
        for handle in handles:
            handle.remove()
        for name, statistics in before.items():
            set_statistics_(norms[name], statistics)
    return MeasuredMoments({name: found for name, found in moments.items() if found.batches}, image_count)


def none_alone(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the batches that hold images; a single image together with the next batch, or at the end the one before.

    Args:
        batches: [batch, 3, height, width] each.
    """
    held: Tensor | None = None
    alone: Tensor | None = None
    for images in batches:
        whole = images if alone is None else torch.cat([alone, images])
        alone = whole if len(whole) == 1 else None
        if len(whole) > 1:
            if held is not None:
                yield held
            held = whole
    rest = [images for images in (held, alone) if images is not None]
    if rest:
        yield torch.cat(rest) if len(rest) > 1 else rest[0]


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
