"""Alpha, the weight of the weights in the objective, measured: its policies stay nearest to the float network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from limpq_hub.plan.budget import Budget
from limpq_hub.plan.costs import total_bitops
from limpq_hub.plan.ilp import search
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.calibrate import recalibrate_batch_norm_
from limpq_hub.quant.convert import select_policy

ALPHAS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0, 2.0, 3.0)


@torch.no_grad()
def with_measured_alpha(
    indicators: Indicators, supernet: nn.Module, network: nn.Module, images: Sequence[Tensor]
) -> tuple[Indicators, dict[float, list[float]]]:
    """Return the indicators with the best of `ALPHAS`, and the KL divergences from the float network of each.

    The budgets lie halfway between neighbouring uniform policies, the largest pair left out. The best alpha has the
    least geometric mean over the budgets. Half of the images recalibrate BatchNorm, the others are measured.

    Args:
        supernet: jointly trained.
        network: the float network.
        images: training images that are not augmented, [batch, 3, height, width] each, at least two batches.

    Returns:
        Indicators, and {alpha: [KL at each budget, in nats]}.
    """
    half = len(images) // 2
    adapt, held_out = images[:half], images[half:]
    reference = torch.cat([network(batch) for batch in held_out]).log_softmax(-1)
    known: dict[str, float] = {}

    def divergence(policy: Policy) -> float:
        if policy.digest() not in known:
            quantized = select_policy(supernet, policy).eval()
            recalibrate_batch_norm_(quantized, adapt)
            found = torch.cat([quantized(batch) for batch in held_out]).log_softmax(-1)
            distance = nn.functional.kl_div(found, reference, log_target=True, reduction="batchmean")
            known[policy.digest()] = float(distance)
        return known[policy.digest()]

    measured = {
        alpha: [
            divergence(search(indicators, Budget(bitops=budget), alpha=alpha).policy) for budget in _budgets(indicators)
        ]
        for alpha in ALPHAS
    }
    best = min(ALPHAS, key=lambda alpha: sum(map(math.log, measured[alpha])))
    return replace(indicators, alpha=best), measured


def _budgets(indicators: Indicators) -> list[int]:
    costs, ascending = indicators.costs, sorted(indicators.candidates)
    uniform = [total_bitops(costs, Policy.uniform(indicators.model, costs, bits)) for bits in ascending]
    between = [(low + high) // 2 for low, high in itertools.pairwise(uniform)]
    return between[:-1] or between or uniform
