"""What one search decides: units and their options, what each loses and costs; and from a choice back to a `Plan`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from limpq_hub.errors import BudgetError, shown
from limpq_hub.plan.budget import Budget, is_number
from limpq_hub.plan.constraints import rows_of, within_activation_memory
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.indicators import Indicators, Outlier
from limpq_hub.plan.layer_groups import Candidates, LayerGroup, Pins, units_of
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import LayerBits, Policy
from limpq_hub.plan.solver.programme import Programme, Solution


@dataclass(frozen=True)
class SearchProblem:
    """The integer programme of a search, and what its units, options and rows stand for.

    Attributes:
        indicators: without their outliers.
        outliers: what was left out.
        units: layers that get the same bits, and the bits they may get; in the order of their names, so that the order
            of the layers changes no answer.
        programme: costs and rows, an entry for each option of each unit.
        restricted: whether layers were pinned, excluded or tied, or candidates left out.
    """

    indicators: Indicators
    outliers: tuple[Outlier, ...]
    units: Sequence[LayerGroup]
    programme: Programme
    alpha: float
    counting: Counting
    budget: Budget
    restricted: bool

    @classmethod
    def of(
        cls,
        indicators: Indicators,
        budget: Budget,
        *,
        alpha: float | None = None,
        candidates: Candidates | None = None,
        pin: Pins | None = None,
        exclude: Iterable[str] | None = None,
        tie: Iterable[Iterable[str]] | None = None,
        counting: Counting = "exact",
    ) -> SearchProblem:
        """Return the question that the arguments of a search ask.

        Args:
            alpha: factor of the weight importance in the objective; that of the indicators if None.
            candidates: bit-widths that may be used, or by layer pattern; all that were learned if None.
            pin: (weight bits, activation bits) by shell pattern over layer names.
            exclude: shell patterns of layers that keep their most bits.
            tie: groups of shell patterns; the layers of a group get the same bits.
            counting: "exact" MACs, or "limpq" as the published script counts them.

        Raises:
            BudgetError: alpha or counting cannot be, or a latency table lacks a layer or bits.
            InfeasibleBudgetError: no layer bits are within the activation memory.
            PolicyError: a pattern matches nothing, or bits that were not learned are asked for.
        """
        alpha = _checked_alpha(indicators.alpha if alpha is None else alpha)
        if counting not in ("exact", "limpq"):
            raise BudgetError(f'counting={shown(counting)} is not known: use "exact" or "limpq"')
        kept, outliers = indicators.without_outliers()
        units = units_of(kept, learned=indicators.candidates, candidates=candidates, pin=pin, exclude=exclude, tie=tie)
        units = sorted(within_activation_memory(kept, budget, units), key=lambda unit: min(unit.layers))
        costs = [_importances(kept, unit, alpha) for unit in units]
        programme = Programme(costs, rows_of(kept, budget, units, counting))
        restricted = any(given is not None for given in (candidates, pin, exclude, tie))
        return cls(kept, outliers, units, programme, alpha, counting, budget, restricted)

    def plan(self, solution: Solution, seconds: float) -> Plan:
        """Return the plan of the best choice, its costs counted afresh."""
        bits: Mapping[str, LayerBits] = {
            name: unit.options[picked]
            for unit, picked in zip(self.units, solution.choice, strict=True)
            for name in unit.layers
        }
        costs = self.indicators.costs
        objective = self.programme.total(solution)
        return Plan.of(
            Policy(self.indicators.model, {name: bits[name] for name in costs}, self.indicators.input_size),
            costs,
            counting=self.counting,
            objective=objective,
            bound=objective,
            optimal=True,
            excluded=self.outliers,
            alpha=self.alpha,
            seconds=seconds,
            notes=self._notes(bits),
            way=solution.way,
        )

    def _notes(self, bits: Mapping[str, LayerBits]) -> tuple[str, ...]:
        """Return what the user should know: a budget of weights alone leaves the activations at their most bits."""
        limits = (self.budget.bitops, self.budget.activation_memory, self.budget.latency)
        most = all(
            bits[unit.layers[0]].activation == max(option.activation for option in unit.options) for unit in self.units
        )
        if most and all(limit is None for limit in limits):
            return (
                "only the weights are limited, so every activation went to its most bits; add bitops= to limit them "
                "too",
            )
        return ()


def _importances(indicators: Indicators, unit: LayerGroup, alpha: float) -> list[float]:
    searched = [name for name in unit.layers if indicators.costs[name].fixed is None]
    of_layers = [indicators.importances(name, unit.options, alpha) for name in searched]
    found = of_layers[0] if len(searched) == 1 else [math.fsum(of_bits) for of_bits in zip(*of_layers, strict=True)]
    found = found or [0.0] * len(unit.options)
    if not all(map(math.isfinite, found)):
        raise BudgetError(f"alpha={alpha:g} makes the importance of layer {shown(unit.layers[0])} infinite; lower it")
    return found


def _checked_alpha(alpha: float) -> float:
    if not is_number(alpha) or alpha < 0:
        raise BudgetError(f"alpha={shown(alpha)} cannot be: use a number of at least 0, for example 2.0")
    return float(alpha)


def check_time_limit(time_limit_s: float) -> None:
    """Raise `BudgetError` unless the time limit is a number of seconds above 0."""
    if not is_number(time_limit_s) or time_limit_s <= 0:
        raise BudgetError(f"time_limit_s={shown(time_limit_s)} cannot be: use a number of seconds above 0")
