"""Give BatchNorms that were folded into the convolutions before them statistics again, without changing the network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limpq_hub.quant.batch_norm_moments import Moments, check_finite
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.running_statistics import active_batch_norms, set_statistics_
from limpq_hub.quant.watched_inputs import watched_inputs


def folded_batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """Return those whose running statistics are mean 0 and variance 1 in every channel, by name.

    Such weights come from networks that were exported for inference: each BatchNorm became part of its convolution, and
    an identity with a bias stands in its place. Those without a weight and a bias of their own are left out.
    """
    return {
        name: norm
        for name, norm in active_batch_norms(network).items()
        if norm.affine
        and not norm.get_buffer("running_mean").any()
        and bool((norm.get_buffer("running_var") == 1).all())
    }


@torch.no_grad()
def restore_batch_norm_(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the statistics of each folded BatchNorm to those of its input, and keep what the network computes.

    A BatchNorm computes `weight * (x - mean) / sqrt(variance + eps) + bias`. Weight and bias change with the
    statistics, so that in eval mode the output is the same. In training, the statistics of the batch take the place of
    the running ones: each channel then starts where the float network has it, not at mean 0 and variance 1.

    As nothing changes what the network computes in eval mode, one pass over the images measures all of them.

    Args:
        network: float, with its parameters where the images are.
        batches: unlabelled image batches, [batch, 3, height, width], normalized as the network takes them; each image
            counts alike. They are not read where no BatchNorm is folded.

    Returns:
        How many BatchNorms have new statistics; after an error, nothing has changed.

    Raises:
        DataError: a batch is no tensor of images alone, or a BatchNorm is given what is no finite number.
    """
    norms = folded_batch_norms(network)
    if not norms:
        return 0
    moments = {name: Moments() for name in norms}

    def measure(name: str, norm: _BatchNorm, x: Tensor) -> None:
        """Take in what a BatchNorm is given."""
        moments[name].add_(x)

    with watched_inputs(norms, measure), in_eval_mode(network):
        for images in (image_batch(given, "batches") for given in batches):
            if len(images):
                network(images)
    measured = {name: of_norm for name, of_norm in moments.items() if of_norm.batches}
    for name, of_norm in measured.items():
        check_finite(name, of_norm.mean, of_norm.variance)
    for name, of_norm in measured.items():
        _set_keeping_the_function_(norms[name], of_norm)
    return len(measured)


def _set_keeping_the_function_(norm: _BatchNorm, moments: Moments) -> None:
    """Set the statistics of a BatchNorm, and weight and bias so that it computes in eval mode what it did before."""
    old_mean, old_variance = (norm.get_buffer(key).to(moments.mean) for key in ("running_mean", "running_var"))
    scale = norm.weight.to(moments.mean) / (old_variance + norm.eps).sqrt()
    shift = norm.bias.to(moments.mean) - scale * old_mean
    set_statistics_(norm, {"running_mean": moments.mean, "running_var": moments.variance})
    norm.weight.copy_(scale * (moments.variance + norm.eps).sqrt())
    norm.bias.copy_(shift + scale * moments.mean)
