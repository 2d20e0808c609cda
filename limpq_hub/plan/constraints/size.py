"""size="4.5MB": the bytes of all quantized weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from limpq_hub.plan.constraints.linear_kind import LinearKind, coefficients_of
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_groups import LayerGroup
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.quantities import SIZE_UNITS, enough_size, whole_bytes


class Size(LinearKind[int]):
    """Bytes of all quantized weights, without step sizes, biases and BatchNorm."""

    name = "size"
    help = "bytes of all quantized weights: 4.5MB, 4.5MiB"
    unit = "B"
    units = SIZE_UNITS
    limits_activations = False

    def parse(self, value: Any) -> int:
        """Return whole bytes of "4.5MB" (1e6 bytes), "4.5MiB" (2**20) or a number; a fraction is rounded down."""
        return whole_bytes(self.name, value)

    def constraint(
        self, limit: int, indicators: Indicators, groups: Sequence[LayerGroup], counting: Counting
    ) -> LinearConstraint:
        """Return the limit on the sum of weights x weight bits."""
        coefficients = coefficients_of(groups, lambda name: indicators.costs[name].weights, lambda bits: bits.weight)
        return LinearConstraint(self, coefficients, limit * 8, requested=Fraction(limit), amount_of=_bytes_of)

    def text(self, amount: Fraction) -> str:
        """Return bytes with two decimals, rounded up: "4.50MB"."""
        return enough_size(math.ceil(amount))


def _bytes_of(bits: int) -> Fraction:
    return Fraction(bits, 8)
