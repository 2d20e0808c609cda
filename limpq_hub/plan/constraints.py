"""From indicators and a budget to the rows of the integer programme, in exact integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from limpq_hub.errors import BudgetError, InfeasibleBudgetError, shown
from limpq_hub.plan.budget import Budget, LatencyTable, enough_bitops, enough_size
from limpq_hub.plan.costs import FLOAT_BITS, Counting, total_bitops
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import LayerBits, Policy
from limpq_hub.plan.units import Unit, units_of


@dataclass(frozen=True)
class Row:
    """One limit: the chosen coefficients, one per unit, add up to at most `limit`.

    Attributes:
        constraint: name of the argument of `search` it stands for.
        coefficients: for each unit, one whole number per option.
        requested: the limit as it was asked for, in the units of the constraint.
        value_of: turns a sum of coefficients into the units of the constraint, rounded so that it can be fed back.
        text_of: turns a sum of coefficients into text that can be fed back as this constraint.
        advice: how the text is used.
    """

    constraint: str
    coefficients: tuple[tuple[int, ...], ...]
    limit: int
    requested: Fraction
    value_of: Callable[[int], float]
    text_of: Callable[[int], str]
    advice: str

    def total(self, choice: Sequence[int]) -> int:
        """Return the sum of the coefficients of the chosen options, one per unit."""
        return sum(of_unit[picked] for of_unit, picked in zip(self.coefficients, choice, strict=True))

    def infeasible(
        self, model: str, minimum: int, given: str = "", because: str = "", instead: str = ""
    ) -> InfeasibleBudgetError:
        """Return the error for a limit below `minimum`, the smallest sum that is possible.

        Args:
            given: words for the other constraints that the minimum depends on.
            because: words for why it is no smaller.
            instead: words for what else would work, or is needed.
        """
        maximum = sum(map(max, self.coefficients))
        at_least, at_most = (
            ("allows at most", "and at least")
            if self.constraint == "compression"
            else ("needs at least", "and uses at most")
        )
        values = sorted((self.value_of(minimum), self.value_of(maximum)))
        return InfeasibleBudgetError(
            f'{self.constraint}="{_as_asked(self)}" cannot be met{given}: {model} {at_least} {self.text_of(minimum)}'
            f"{because} {at_most} {self.text_of(maximum)}; "
            f'use {self.constraint}="{self.text_of(minimum)}" {self.advice}{instead}',
            requested=float(self.requested) if self.requested.denominator > 1 else int(self.requested),
            minimum=values[0],
            maximum=values[1],
            constraint=self.constraint,
        )


def rows_of(indicators: Indicators, budget: Budget, units: Sequence[Unit], counting: Counting) -> list[Row]:
    """Return the rows of the integer programme, one per constraint that adds up over layers."""
    costs, rows = indicators.costs, []

    def add(constraint: str, cost_of: Callable[[str, LayerBits], int], limit: int, **texts: Any) -> None:
        coefficients = tuple(
            tuple(cost_of(unit.layers[0], bits) for bits in unit.options)
            if len(unit.layers) == 1
            else tuple(sum(cost_of(name, bits) for name in unit.layers) for bits in unit.options)
            for unit in units
        )
        rows.append(Row(constraint, coefficients, limit, **texts))

    def size_of(name: str, bits: LayerBits) -> int:
        return costs[name].size_bits(bits)

    if budget.bitops is not None:
        limit = budget.bitops
        if isinstance(limit, LayerBits):
            uniform = Policy.uniform(indicators.model, costs, limit.weight, limit.activation)
            limit = total_bitops(costs, uniform, counting)
        add(
            "bitops",
            lambda name, bits: costs[name].bitops(bits, counting),
            limit,
            requested=Fraction(limit),
            value_of=int,
            text_of=enough_bitops,
            advice="or more, or a smaller input",
        )
    if budget.size is not None:
        add(
            "size",
            size_of,
            budget.size * 8,
            requested=Fraction(budget.size),
            value_of=lambda bits: -(-bits // 8),
            text_of=lambda bits: enough_size(-(-bits // 8)),
            advice="or more",
        )
    if budget.compression is not None:
        float_bits = FLOAT_BITS * sum(cost.weights for cost in costs.values())
        add(
            "compression",
            size_of,
            math.floor(float_bits / budget.compression),
            requested=budget.compression,
            value_of=lambda bits: _float_below(Fraction(float_bits, bits)),
            text_of=lambda bits: _ratio_text(float_bits, bits),
            advice="or less",
        )
    if budget.latency is not None:
        table, limit = budget.latency
        times = {name: _times(table, name, units) for name in table}
        scale = math.lcm(limit.denominator, *(time.denominator for row in times.values() for time in row.values()))
        add(
            "latency",
            lambda name, bits: int(times[name][bits] * scale) if name in times else 0,
            int(limit * scale),
            requested=limit,
            value_of=lambda total: _float_above(Fraction(total, scale)),
            text_of=lambda total: _decimal_above(Fraction(total, scale)),
            advice="or more",
        )
    return rows


def fits_of(indicators: Indicators, budget: Budget, counting: Counting = "exact") -> Callable[[Policy], bool]:
    """Return a function that says whether a policy of learned bits meets `budget`, outliers included."""
    units = units_of(indicators, learned=indicators.candidates)
    units = within_activation_memory(indicators, budget, units)
    try:
        rows = rows_of(indicators, budget, units, counting)
    except BudgetError:  # a latency table need not know bits that no search chooses: these do not fit
        kept, _ = indicators.without_outliers()
        units = within_activation_memory(kept, budget, units_of(kept, learned=indicators.candidates))
        rows = rows_of(kept, budget, units, counting)
    places = [{bits: place for place, bits in enumerate(unit.options)} for unit in units]

    def fits(policy: Policy) -> bool:
        choice = [at.get(policy.layers[unit.layers[0]]) for unit, at in zip(units, places, strict=True)]
        return None not in choice and all(row.total(choice) <= row.limit for row in rows)

    return fits


def within_activation_memory(indicators: Indicators, budget: Budget, units: Sequence[Unit]) -> list[Unit]:
    """Return the units without the options whose layer input is larger than the budget allows.

    Raises:
        InfeasibleBudgetError: a layer has no option left.
    """
    limit = budget.activation_memory
    if limit is None:
        return list(units)
    costs = indicators.costs

    def bytes_of(unit: Unit, bits: LayerBits) -> int:
        return max(costs[name].activation_bytes(bits) for name in unit.layers)

    kept = [Unit(unit.layers, tuple(bits for bits in unit.options if bytes_of(unit, bits) <= limit)) for unit in units]
    if all(unit.options for unit in kept):
        return kept
    minimum = max(min(bytes_of(unit, bits) for bits in unit.options) for unit in units)
    maximum = max(max(bytes_of(unit, bits) for bits in unit.options) for unit in units)
    raise InfeasibleBudgetError(
        f'activation_memory="{limit}B" cannot be met: the largest layer input of {indicators.title} takes at least '
        f'{minimum}B; use activation_memory="{minimum}B" or more, or a smaller input',
        requested=limit,
        minimum=minimum,
        maximum=maximum,
        constraint="activation_memory",
    )


def _times(table: LatencyTable, name: str, units: Sequence[Unit]) -> dict[LayerBits, Fraction]:
    unit = next((unit for unit in units if name in unit.layers), None)
    if unit is None:
        raise BudgetError(f"the latency table names layer {shown(name)}, which the network does not have")
    times = {}
    for bits in unit.options:
        time = table[name].get((bits.weight, bits.activation))
        if time is None:
            raise BudgetError(
                f"the latency table has no time for layer {shown(name)} at {bits.weight} weight and "
                f"{bits.activation} activation bits; add it"
            )
        times[bits] = Fraction(time) if isinstance(time, int) else Fraction(repr(float(time)))
    return times


def _ratio_text(float_bits: int, bits: int) -> str:
    hundredths = float_bits * 100 // bits
    return f"{hundredths // 100}.{hundredths % 100:02d}x"


def _as_asked(row: Row) -> str:
    """Return the limit as it was asked for, never rounded onto the minimum."""
    if row.constraint == "bitops":
        for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
            if row.requested >= size and row.requested * 1000 % size == 0:
                return f"{float(row.requested / size):.3f}".rstrip("0").rstrip(".") + unit
        return str(row.requested)
    unit = {"size": "B", "compression": "x"}.get(row.constraint, "")
    return _decimal_above(row.requested, digits=12) + unit


def _float_below(exact: Fraction) -> float:
    """Return the largest float that is not above `exact`."""
    near = float(exact)
    return near if Fraction(near) <= exact else math.nextafter(near, -math.inf)


def _float_above(exact: Fraction) -> float:
    """Return the smallest float that is not below `exact`."""
    near = float(exact)
    return near if Fraction(near) >= exact else math.nextafter(near, math.inf)


def _decimal_above(exact: Fraction, digits: int = 4) -> str:
    """Return `exact` rounded up to at least `digits` significant digits, as plain decimal text."""
    places = max(0, digits - math.floor(math.log10(exact)) - 1) if exact else 0
    scaled = str(math.ceil(exact * 10**places)).rjust(places + 1, "0")
    return f"{scaled[:-places]}.{scaled[-places:]}".rstrip("0").rstrip(".") if places else scaled
