"""BatchNorm statistics for a policy of the supernet: measured on images, corrected from the float network, or kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from torch import Tensor, nn

from limpq_hub.quant.batch_norm_calibration import recalibrate_batch_norm_
from limpq_hub.quant.batch_norm_correction import BatchNormCorrection

# "measured" on images; "corrected": those of the float network plus the shift of this policy; "kept": the supernet's.
Statistics: TypeAlias = Literal["measured", "corrected", "kept"]


def statistics_setter(
    statistics: Statistics, batches: Sequence[Tensor], float_network: nn.Module
) -> Callable[[nn.Module], int]:
    """Return a function that sets the statistics of a network in place and returns the number of images used.

    Args:
        batches: unlabelled image batches, [batch, 3, height, width], normalized; with none, they are kept.
        float_network: what joint training started from.
    """
    if statistics == "kept" or not batches:
        return lambda model: 0
    if statistics == "corrected":
        return BatchNormCorrection(float_network, batches).apply_
    return lambda model: recalibrate_batch_norm_(model, batches)
