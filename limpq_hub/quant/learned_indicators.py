"""The learned step sizes of a supernet, read out as importance indicators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limpq_hub.plan.costs import Costs
from limpq_hub.plan.indicators import DEFAULT_ALPHA, Indicators
from limpq_hub.quant.convert import architecture_of, has_channel_steps
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.quantizer import LsqQuantizer


def root_mean_square(steps: Tensor) -> Tensor:
    """Return one step, [], for those of the channels of a layer, [channels].

    The squared rounding error of a channel is proportional to its squared step: the error of the layer is then what it
    would be if every channel had this step.
    """
    return steps.square().mean().sqrt()


def read_indicators(
    supernet: nn.Module,
    costs: Costs,
    *,
    input_size: int,
    num_classes: int,
    alpha: float = DEFAULT_ALPHA,
    provenance: Mapping[str, Any] | None = None,
    reduction: Callable[[Tensor], Tensor] = root_mean_square,
) -> Indicators:
    """Return the learned step sizes of a jointly trained supernet as indicators.

    Args:
        costs: cost of each layer, from `profile_module` of the float network.
        input_size: height and width in pixels.
        num_classes: of the classifier.
        alpha: factor of the weight steps in the objective of the search.
        provenance: how the step sizes came about, as JSON holds it.
        reduction: from the steps of the channels of a layer, [channels], to its indicator, []; not applied where a
            layer has one step.
    """
    searched = {name: layer for name, layer in quantized_layers(supernet) if costs[name].fixed is None}
    return Indicators(
        model=architecture_of(supernet),
        input_size=input_size,
        num_classes=num_classes,
        costs=costs,
        weight_steps={name: _steps(layer.weight_quantizer, reduction) for name, layer in searched.items()},
        activation_steps={name: _steps(layer.activation_quantizer, reduction) for name, layer in searched.items()},
        alpha=alpha,
        provenance=provenance or {},
        per_channel=has_channel_steps(supernet),
    )


@torch.no_grad()
def _steps(quantizer: LsqQuantizer, reduction: Callable[[Tensor], Tensor]) -> dict[int, float]:
    steps = {bits: quantizer.step_of(bits) for bits in quantizer.candidates}
    return {bits: float(reduction(step) if step.dim() else step) for bits, step in steps.items()}
