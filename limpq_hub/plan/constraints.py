"""From indicators and a budget to the rows of the integer programme, in exact integers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from limpq_hub.errors import BudgetError, InfeasibleBudgetError, shown
from limpq_hub.plan.budget import Budget, LatencyTable, enough_bitops, enough_size
from limpq_hub.plan.costs import FLOAT_BITS, Counting, bitops_per_mac, total_bitops
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_groups import LayerGroup, units_of
from limpq_hub.plan.linear_constraint import Coefficients, LinearConstraint, decimal_above
from limpq_hub.plan.policy import LayerBits, Policy


def rows_of(
    indicators: Indicators, budget: Budget, units: Sequence[LayerGroup], counting: Counting
) -> list[LinearConstraint]:
    """Return the rows of the integer programme, one per constraint that adds up over layers."""
    costs, rows = indicators.costs, []

    def sizes() -> Coefficients:
        return _products(units, lambda name: costs[name].weights, lambda bits: bits.weight)

    if budget.bitops is not None:
        limit = budget.bitops
        if isinstance(limit, LayerBits):
            uniform = Policy.uniform(indicators.model, costs, limit.weight, limit.activation)
            limit = total_bitops(costs, uniform, counting)
        rows.append(
            LinearConstraint(
                "bitops",
                _products(units, lambda name: costs[name].macs_counted(counting), bitops_per_mac),
                limit,
                requested=Fraction(limit),
                value_of=int,
                text_of=enough_bitops,
                advice="or more, or a smaller input",
            )
        )
    if budget.size is not None:
        rows.append(
            LinearConstraint(
                "size",
                sizes(),
                budget.size * 8,
                requested=Fraction(budget.size),
                value_of=lambda bits: -(-bits // 8),
                text_of=lambda bits: enough_size(-(-bits // 8)),
                advice="or more",
            )
        )
    if budget.compression is not None:
        float_bits = FLOAT_BITS * sum(cost.weights for cost in costs.values())
        rows.append(
            LinearConstraint(
                "compression",
                sizes(),
                math.floor(float_bits / budget.compression),
                requested=budget.compression,
                value_of=lambda bits: _float_below(Fraction(float_bits, bits)),
                text_of=lambda bits: _ratio_text(float_bits, bits),
                advice="or less",
            )
        )
    if budget.latency is not None:
        table, limit = budget.latency
        times = {name: _times(table, name, units) for name in table}
        scale = math.lcm(limit.denominator, *(time.denominator for row in times.values() for time in row.values()))
        rows.append(
            LinearConstraint(
                "latency",
                tuple(
                    tuple(
                        int(scale * sum(times[name][bits] for name in unit.layers if name in times))
                        for bits in unit.options
                    )
                    for unit in units
                ),
                int(limit * scale),
                requested=limit,
                value_of=lambda total: _float_above(Fraction(total, scale)),
                text_of=lambda total: decimal_above(Fraction(total, scale)),
                advice="or more",
            )
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


def within_activation_memory(indicators: Indicators, budget: Budget, units: Sequence[LayerGroup]) -> list[LayerGroup]:
    """Return the units without the options whose layer input is larger than the budget allows.

    Raises:
        InfeasibleBudgetError: a layer has no option left.
    """
    limit = budget.activation_memory
    if limit is None:
        return list(units)
    costs = indicators.costs

    def bytes_of(unit: LayerGroup, bits: LayerBits) -> int:
        return max(costs[name].activation_bytes(bits) for name in unit.layers)

    kept = [
        LayerGroup(unit.layers, tuple(bits for bits in unit.options if bytes_of(unit, bits) <= limit)) for unit in units
    ]
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


def _products(
    units: Sequence[LayerGroup], amount_of: Callable[[str], int], factor_of: Callable[[LayerBits], int]
) -> Coefficients:
    """Return, for each unit, what its layers have times the factor of each of its options."""
    found: list[tuple[int, ...]] = []
    for options, alike in itertools.groupby(units, lambda unit: unit.options):
        factors = [factor_of(bits) for bits in options]
        for unit in alike:
            amount = sum(map(amount_of, unit.layers))
            found.append(tuple([amount * factor for factor in factors]))
    return tuple(found)


def _times(table: LatencyTable, name: str, units: Sequence[LayerGroup]) -> dict[LayerBits, Fraction]:
    unit = next((unit for unit in units if name in unit.layers), None)
    if unit is None:
        raise BudgetError(
            f"the latency table names layer {shown(name)}, which the network does not have; remove it, or check its "
            "name"
        )
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


def _float_below(exact: Fraction) -> float:
    """Return the largest float that is not above `exact`."""
    near = float(exact)
    return near if Fraction(near) <= exact else math.nextafter(near, -math.inf)


def _float_above(exact: Fraction) -> float:
    """Return the smallest float that is not below `exact`."""
    near = float(exact)
    return near if Fraction(near) >= exact else math.nextafter(near, math.inf)
