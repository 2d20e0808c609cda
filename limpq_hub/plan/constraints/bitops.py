"""bitops="3G": the BitOps of one image."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from limpq_hub.errors import BudgetError, quoted
from limpq_hub.plan.constraints.linear_kind import LinearKind, coefficients_of
from limpq_hub.plan.costs import Counting, bitops_per_mac
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.layer_groups import LayerGroup
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.plan.quantities import BITOPS_UNITS, UNIFORM_BITOPS, enough_bitops, whole_number
from limpq_hub.plan.rounding import decimal_above

# Whole BitOps have no more decimals in the largest unit.
_ALL_DIGITS = 40
# More than any network of a zoo takes: a limit that is none.
ANY_BITOPS = 10**30
_LIKE_UNIFORM = re.compile(r"w\d*|[wa]\d*[wa]\d*", re.ASCII | re.IGNORECASE)


def bitops_allowed(limit: int | LayerBits, indicators: Indicators, counting: Counting = "exact") -> int:
    """Return how many BitOps the limit of a budget allows: itself, or those of the uniform policy that it names."""
    if isinstance(limit, int):
        return limit
    uniform = Policy.uniform(indicators.model, indicators.costs, limit.weight, limit.activation)
    return total_bitops(indicators.costs, uniform, counting)


class BitOps(LinearKind[int | LayerBits]):
    """BitOps of one image, first and last layer included: a whole number, or the bits of a uniform policy."""

    name = "bitops"
    help = "BitOps per image: 3G, 850M, 2.5e9, or w3a4 for those of that uniform policy"
    units = BITOPS_UNITS
    word = "bitops?|bops?"
    limits_activations = True
    advice = "or more, or a smaller input"

    def parse(self, value: Any) -> int | LayerBits:
        """Return BitOps, a fraction of one rounded down, or the `LayerBits` of a uniform policy such as "w3a4"."""
        if isinstance(value, str) and (uniform := UNIFORM_BITOPS.fullmatch(value)):
            return LayerBits(int(uniform[1]), int(uniform[2]))
        advice = 'use for example "3G", "850M", 2.5e9, or "w3a4" for the BitOps of a uniform policy'
        if isinstance(value, str) and _LIKE_UNIFORM.fullmatch(value):
            raise BudgetError(
                f'bitops={quoted(value)} is no uniform policy: "w3a4" is one, 3 bits for all weights and 4 for all '
                f"activations, and both are from 2 to 8; {advice}"
            )
        return whole_number(self.name, value, self.units, advice, self.word)

    def constraint(
        self, limit: int | LayerBits, indicators: Indicators, groups: Sequence[LayerGroup], counting: Counting
    ) -> LinearConstraint:
        """Return the limit on the sum of MACs x weight bits x activation bits."""
        costs, allowed = indicators.costs, bitops_allowed(limit, indicators, counting)
        coefficients = coefficients_of(groups, lambda name: costs[name].macs_counted(counting), bitops_per_mac)
        return LinearConstraint(self, coefficients, allowed, requested=Fraction(allowed), amount_of=Fraction)

    def text(self, amount: Fraction) -> str:
        """Return BitOps with two decimals, rounded up: "14.37G"."""
        return enough_bitops(math.ceil(amount))

    def requested_text(self, requested: Fraction) -> str:
        """Return BitOps in the unit that what is needed is told in, with as many decimals as they have."""
        unit = next(unit for unit in ("G", "M", "K", "") if self.units[unit] <= requested or not unit)
        return f"{decimal_above(requested / self.units[unit], _ALL_DIGITS)}{unit}"
