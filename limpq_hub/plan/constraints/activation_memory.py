"""activation_memory="64kB": the bytes of the largest layer input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from limpq_hub.errors import InfeasibleBudgetError
from limpq_hub.plan.constraint_kind import ConstraintKind
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.layer_groups import LayerGroup
from limpq_hub.plan.quantities import SIZE_UNITS, whole_bytes


class ActivationMemory(ConstraintKind[int]):
    """Bytes of the largest layer input of one image: no sum over layers, so it rules out options of each layer."""

    name = "activation_memory"
    help = "bytes of the largest layer input: 64kB"
    unit = "B"
    units = SIZE_UNITS
    limits_activations = True
    advice = "or more, or a smaller input"

    def parse(self, value: Any) -> int:
        """Return whole bytes, in the grammar of `size`."""
        return whole_bytes(self.name, value)

    def allowed(self, limit: int, indicators: Indicators, groups: Sequence[LayerGroup]) -> list[LayerGroup]:
        """Return the groups without the options at which the input of a layer takes more bytes than the limit.

        Raises:
            InfeasibleBudgetError: a group has no option left.
        """
        allowed = [
            replace(
                group, options=tuple(bits for bits in group.options if _input_bytes(indicators, group, bits) <= limit)
            )
            for group in groups
        ]
        if all(group.options for group in allowed):
            return allowed
        minimum, maximum = _least_and_most(indicators, groups)
        least = self.text(Fraction(minimum))
        raise InfeasibleBudgetError(
            f"{self.keyword(self.requested_text(Fraction(limit)))} cannot be met: the largest layer input of "
            f"{indicators.title} takes at least {least}; use {self.keyword(least)} {self.advice}",
            requested=limit,
            minimum=minimum,
            maximum=maximum,
            constraint=self.name,
        )

    def most_allowed(self, limit: int, indicators: Indicators, groups: Sequence[LayerGroup]) -> Fraction | None:
        """Return the bytes of the largest layer input at its most bits where they are within the limit, else None."""
        _, most = _least_and_most(indicators, groups)
        return Fraction(most) if most <= limit else None

    def text(self, amount: Fraction) -> str:
        """Return whole bytes, rounded up: "65536B"."""
        return f"{math.ceil(amount)}B"


def _input_bytes(indicators: Indicators, group: LayerGroup, bits: LayerBits) -> int:
    return max(indicators.costs[name].activation_bytes(bits) for name in group.layers)


def _least_and_most(indicators: Indicators, groups: Sequence[LayerGroup]) -> tuple[int, int]:
    """Return the bytes of the largest layer input with every layer at its fewest bits, and at its most."""
    of_groups = [[_input_bytes(indicators, group, bits) for bits in group.options] for group in groups]
    return max(map(min, of_groups)), max(map(max, of_groups))
