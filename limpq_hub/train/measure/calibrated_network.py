"""A policy without any training: what the same images give where the float network is only converted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.batch_norm_correction import correct_batch_norm_
from limpq_hub.quant.calibrate import start_steps_
from limpq_hub.quant.convert import build_quantized

# More of them change the steps of least squared error by little, and are all in memory at once.
_STEP_IMAGES = 32


def calibrated_network(
    network: nn.Module, policy: Policy, indicators: Indicators, batches: Sequence[Tensor]
) -> nn.Module:
    """Return a float network at a policy: steps of least squared error, BatchNorm corrected, weights as they were.

    Args:
        network: in eval mode.
        indicators: of the entry that `network` belongs to; they say which grids its layers have.
        batches: unlabelled training images, [batch, 3, height, width], normalized.
    """
    shape = tuple(batches[0].shape[1:])
    quantized = build_quantized(network, policy, indicators.costs, shape, per_channel=indicators.per_channel).eval()
    start_steps_(quantized, torch.cat(list(batches))[:_STEP_IMAGES], "least-error")
    correct_batch_norm_(quantized, batches, network)
    return quantized
