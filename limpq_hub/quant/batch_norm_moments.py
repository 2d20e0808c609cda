"""Mean and variance of the input of each BatchNorm of a network, averaged over batches of images in float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limpq_hub.errors import DataError
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.running_statistics import active_batch_norms, set_statistics_, statistics_of
from limpq_hub.quant.watched_inputs import watched_inputs


@dataclass
class Moments:
    """Running averages over batches in float64: means by the number of values, variances by the degrees of freedom.

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

    def add_(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Take in a batch, [batch, channels, ...]; return its mean and biased variance, [channels] each."""
        # Half precision has too few digits for a sum over a batch.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        batch_variance, batch_mean = torch.var_mean(wide, (0, *range(2, x.ndim)), correction=0)
        values = x.numel() // x.shape[1]
        self.batches, self.values = self.batches + 1, self.values + values
        mean, unbiased = _in_float64(batch_mean), _in_float64(batch_variance * (values / max(values - 1, 1)))
        mean_before, variance_before = self.mean.to(mean.device), self.variance.to(mean.device)
        self.mean = mean_before + (mean - mean_before) / (self.values / values)
        # A single value has no variance.
        if values > 1:
            degrees_of_freedom = self.values - self.batches
            self.variance = variance_before + (unbiased - variance_before) / (degrees_of_freedom / (values - 1))
        return batch_mean, batch_variance


@dataclass(frozen=True)
class MeasuredMoments:
    """The input moments of every BatchNorm of a network.

    Attributes:
        by_norm: the moments by the name of the BatchNorm; a BatchNorm that never ran is absent.
        images: number of images measured.
    """

    by_norm: Mapping[str, Moments]
    images: int


@torch.no_grad()
def measure_moments(model: nn.Module, batches: Iterable[Tensor]) -> MeasuredMoments:
    """Return the moments of the input of every active BatchNorm; nothing of `model` changes, even after an error.

    Everything runs in eval mode, but each batch is normalized by its own statistics, as in training, so that the
    inputs of later layers do not depend on the running statistics of earlier ones.

    Args:
        model: with its parameters where the images are.
        batches: unlabelled image batches, [batch, 3, height, width], normalized as the model takes them.

    Raises:
        DataError: a batch is no tensor of images alone, or a BatchNorm is given what is no finite number.
    """
    norms = active_batch_norms(model)
    before = {name: statistics_of(norm) for name, norm in norms.items()}
    moments = {name: Moments() for name in norms}

    def measure_(name: str, norm: _BatchNorm, x: Tensor) -> None:
        """Take in what a BatchNorm is given, and normalize it by its own moments."""
        mean, variance = moments[name].add_(x)
        set_statistics_(norm, {"running_mean": mean, "running_var": variance})

    image_count = 0
    try:
        with watched_inputs(norms, measure_), in_eval_mode(model):
            for images in none_alone(batches):
                model(images)
                image_count += len(images)
    finally:
        for name, statistics in before.items():
            set_statistics_(norms[name], statistics)
    for name, of_norm in moments.items():
        check_finite(name, of_norm.mean, of_norm.variance)
    return MeasuredMoments({name: of_norm for name, of_norm in moments.items() if of_norm.batches}, image_count)


def check_finite(name: str, mean: Tensor, variance: Tensor) -> None:
    """Raise `DataError` if the moments of what a batch normalization was given, [channels] each, are not finite."""
    if not bool(mean.isfinite().all() and variance.isfinite().all()):
        raise DataError(
            f"the images give batch normalization {name} numbers that are not finite (nan or inf): look at what they "
            "hold, and at the weights of the network"
        )


def none_alone(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the batches that hold images; a single image together with the next batch, or at the end the one before.

    Args:
        batches: [batch, 3, height, width] each.

    Raises:
        DataError: a batch is no tensor of images alone.
    """
    held: Tensor | None = None
    alone: Tensor | None = None
    for given in batches:
        images = image_batch(given, "batches")
        whole = images if alone is None else torch.cat([alone, images])
        alone = whole if len(whole) == 1 else None
        if len(whole) > 1:
            if held is not None:
                yield held
            held = whole
    rest = [images for images in (held, alone) if images is not None]
    if rest:
        yield torch.cat(rest) if len(rest) > 1 else rest[0]


def _in_float64(values: Tensor) -> Tensor:
    """Return `values` in float64, on the CPU where the device has none."""
    return values.cpu().double() if values.device.type == "mps" else values.double()
