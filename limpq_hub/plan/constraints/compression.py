"""compression="12.2x": how many times smaller the quantized weights are than in 32 bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import Any

from limpq_hub.errors import BudgetError
from limpq_hub.plan.constraints.linear_kind import LinearKind, coefficients_of
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import FLOAT_BITS
from limpq_hub.plan.layer_groups import LayerGroup
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.quantities import exact_number
from limpq_hub.plan.rounding import float_below


class Compression(LinearKind[Fraction]):
    """32-bit size of the weights divided by their size: the only limit that is met by more, not by less."""

    name = "compression"
    help = "times smaller than 32-bit weights: 12.2x"
    unit = "x"
    units = MappingProxyType({"": 1, "x": 1})
    limits_activations = False
    advice = "or less"
    at_least = "allows at most"
    at_most = "and at least"

    def parse(self, value: Any) -> Fraction:
        """Return the ratio of 12.2 or "12.2x", exactly as it was written in decimal."""
        return exact_number(self.name, value, self.units, 'use for example "12.2x" or 12.2')

    def constraint(
        self, limit: Fraction, indicators: Indicators, groups: Sequence[LayerGroup], counting: Counting
    ) -> LinearConstraint:
        """Return the limit on the sum of weights x weight bits.

        Raises:
            BudgetError: the network has no weights.
        """
        costs = indicators.costs
        float_bits = FLOAT_BITS * sum(cost.weights for cost in costs.values())
        if not float_bits:
            raise BudgetError(
                f"{self.name}= limits weights, and {indicators.title} has none: its layers are products of "
                "activations; use bitops="
            )
        return LinearConstraint(
            self,
            coefficients_of(groups, lambda name: costs[name].weights, lambda bits: bits.weight),
            math.floor(float_bits / limit),
            requested=limit,
            amount_of=partial(Fraction, float_bits),
        )

    def without_effect(self, most: Fraction) -> str:
        """Return the clause with the words for a ratio: the most bits give the least of it."""
        return f"{self.name}= is no more than the {self.text(most)} that the most bits give"

    def number(self, amount: Fraction) -> float:
        """Return the largest float that is not above the ratio."""
        return float_below(amount)

    def text(self, amount: Fraction) -> str:
        """Return the ratio with two decimals, rounded down: "12.21x"."""
        hundredths = math.floor(amount * 100)
        return f"{hundredths // 100}.{hundredths % 100:02d}x"
