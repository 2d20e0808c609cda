"""A sensitivity of layers that needs no training and no images: the relative error of rounding their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limpq_hub.plan.indicators import Indicators


def weight_errors(weights: Mapping[str, NDArray[Any]], indicators: Indicators) -> dict[str, dict[int, float]]:
    """Return |w - Q(w)|^2 / |w|^2 of each searched layer at each bit-width that it learned.

    Q rounds to the grid that the published joint training starts from, of step max |mean -+ 3 std| / 2^(bits - 1).

    Args:
        weights: float weights by layer, of any shape.

    Source: the published LIMPQ code for the step.
    """
    return {
        name: {bits: _relative_error(weights[name], bits) for bits in steps}
        for name, steps in indicators.weight_steps.items()
    }


def by_weight_errors(indicators: Indicators, errors: Mapping[str, Mapping[int, float]], activation: int) -> Indicators:
    """Return indicators whose search lowers the sum of `errors`, every activation at `activation` bits."""
    at_these_bits = {name: {activation: steps[activation]} for name, steps in indicators.activation_steps.items()}
    return replace(
        indicators,
        weight_steps=errors,
        activation_steps=at_these_bits,
        alpha=1.0,
        divergences={},
        objective="learned",
        apart=None,
    )


def _relative_error(weight: NDArray[Any], bits: int) -> float:
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    mean, spread = float(weight.mean()), 3 * float(weight.std())
    step = max(abs(mean - spread), abs(mean + spread)) / 2 ** (bits - 1)
    power = float(np.square(weight).sum())
    if not power:
        return 1.0
    rounded = np.clip(np.rint(weight / step), lowest, highest) * step
    # Indicators are numbers above 0.
    return max(float(np.square(weight - rounded).sum()) / power, float(np.finfo(np.float64).tiny))
