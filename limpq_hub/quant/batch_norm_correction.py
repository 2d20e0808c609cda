"""BatchNorm statistics of a quantized network: those of the float network plus the shift that quantization caused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from limpq_hub.errors import PolicyError
from limpq_hub.quant.batch_norm_moments import Moments, measure_moments
from limpq_hub.quant.running_statistics import active_batch_norms, set_statistics_, statistics_of


class BatchNormCorrection:
    """Corrects the statistics of any number of quantized networks by one float network and the same images.

    The correction is the change of mean and variance at the input of each BatchNorm between the float and the quantized
    network, measured on the same images: with it, the output of the BatchNorm has the mean and the variance that it has
    in the float network. How these images differ from the training images affects both networks alike and cancels, so
    that a network which quantization hardly changed keeps its statistics.
    """

    def __init__(self, float_network: nn.Module, batches: Iterable[Tensor]) -> None:
        """Measure the float network.

        Args:
            float_network: what the quantized networks come from.
            batches: unlabelled image batches, [batch, 3, height, width], normalized; all are held in memory.
        """
        self._batches = list(batches)
        self._norms = active_batch_norms(float_network)
        self._moments = measure_moments(float_network, self._batches)

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> int:
        """Set the statistics of a quantized network; return the number of images.

        Without images they are those of the float network.

        Raises:
            PolicyError: the networks have other BatchNorms.
        """
        norms = active_batch_norms(model)
        check_same_norms(norms, self._norms)
        quantized, original = measure_moments(model, self._batches), self._moments
        for name, norm in norms.items():
            statistics = statistics_of(self._norms[name])
            if name in quantized.by_norm and name in original.by_norm:
                statistics |= corrected_statistics(
                    statistics, quantized.by_norm[name], original.by_norm[name], norm.eps
                )
            set_statistics_(norm, statistics)
        return quantized.images


def corrected_statistics(
    statistics: Mapping[str, Tensor], of_quantized: Moments, of_float: Moments, epsilon: float
) -> dict[str, Tensor]:
    """Return statistics with which a BatchNorm has the mean behind it that it has in the float network, and its spread.

    The mean is the same where the running variance is above 0, the variance but for `epsilon`, which keeps a channel
    that hardly varies from being stretched.

    Args:
        statistics: running mean and variance of the float network, [channels] each.
        of_quantized: of what the BatchNorm takes in, in the quantized network.
        of_float: of the same in the float network, on the same images.
        epsilon: what the BatchNorm adds to the variance.
    """
    mean, variance = (statistics[key].to(of_quantized.mean) for key in ("running_mean", "running_var"))
    stretch = (of_quantized.variance + epsilon) / (of_float.variance + epsilon)
    return {
        "running_mean": of_quantized.mean - (of_float.mean - mean) * stretch.sqrt(),
        "running_var": ((variance + epsilon) * stretch - epsilon).clamp_min(0),
    }


def check_same_norms(of_quantized: Collection[str], of_float: Collection[str]) -> None:
    """Raise an error if the BatchNorms of a quantized network and those of a float one have other names.

    Raises:
        PolicyError: names three of those that one of them alone has.
    """
    different = ", ".join(sorted(set(of_quantized) ^ set(of_float))[:3])
    if different:
        raise PolicyError(
            f"the quantized and the float network differ in BatchNorm {different}; give the one it was converted from"
        )


def correct_batch_norm_(model: nn.Module, batches: Iterable[Tensor], float_network: nn.Module) -> int:
    """Correct the statistics of one quantized network, as `BatchNormCorrection` does; return the number of images."""
    return BatchNormCorrection(float_network, batches).apply_(model)
