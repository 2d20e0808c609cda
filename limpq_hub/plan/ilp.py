"""The search: an integer programme over the indicators, solved exactly, recounted in integers, and proven."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence

import pulp

from limpq_hub.errors import BudgetError, SearchError, shown
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraints import Pins, Row, Unit, describe, rows_of, units_of, within_activation_memory
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.result import Plan

# CBC takes a solution as better only if it is by more than 1e-5: costs are scaled to reach up to this.
_COST_SCALE = 1e4
_MOST_REPAIRS = 20
# The solver that comes with PuLP 3.
_CBC = pulp.PULP_CBC_CMD.pulp_cbc_path


def search(
    indicators: Indicators,
    budget: Budget,
    *,
    alpha: float | None = None,
    candidates: Sequence[int] | None = None,
    pin: Pins | None = None,
    exclude: Iterable[str] | None = None,
    tie: Iterable[Iterable[str]] | None = None,
    counting: Counting = "exact",
    time_limit_s: float = 10,
) -> Plan:
    """Return the policy of least importance lost among all that meet `budget`, proven optimal.

    Args:
        alpha: weight of the weight steps in the objective; that of the indicators if None.
        candidates: bit-widths that may be used, or None for all that were learned.
        pin: (weight bits, activation bits) by shell pattern over layer names.
        exclude: shell patterns of layers that keep their most bits.
        tie: groups of shell patterns; the layers of a group get the same bits.
        counting: "exact" MACs, or "limpq" as the published script counts them.

    Raises:
        InfeasibleBudgetError: no policy meets the budget; says what the smallest one is.
        PolicyError: a pattern matches nothing, or bits that were not learned are asked for.
        SearchError: no proven optimum within `time_limit_s`.

    Source: LIMPQ (ECCV 2022), the integer programme over learned step sizes.
    """
    began = time.perf_counter()
    alpha = _checked_alpha(indicators.alpha if alpha is None else alpha)
    if counting not in ("exact", "limpq"):
        raise BudgetError(f'counting={shown(counting)} is not known: use "exact" or "limpq"')
    kept, outliers = indicators.without_outliers()
    units = units_of(kept, candidates=candidates, pin=pin, exclude=exclude, tie=tie)
    units = within_activation_memory(kept, budget, units)
    rows = rows_of(kept, budget, units, counting)
    costs = [[_importance(kept, unit, option, alpha) for option in range(len(unit.options))] for unit in units]
    for row in rows:
        minimum = sum(map(min, row.coefficients))
        if minimum > row.limit:
            raise row.infeasible(describe(kept), minimum)
    choice = solve(costs, rows, time_limit_s)
    if choice is None:
        raise _jointly_infeasible(kept, rows, time_limit_s)
    bits = {name: unit.options[picked] for unit, picked in zip(units, choice, strict=True) for name in unit.layers}
    policy = Policy(kept.model, {name: bits[name] for name in kept.costs}, kept.input_size)
    objective = math.fsum(of_unit[picked] for of_unit, picked in zip(costs, choice, strict=True))
    return Plan.of(
        policy,
        kept.costs,
        counting=counting,
        objective=objective,
        bound=objective,
        optimal=True,
        excluded=outliers,
        alpha=alpha,
        seconds=time.perf_counter() - began,
        notes=_notes(budget),
    )


def solve(costs: Sequence[Sequence[float]], rows: Sequence[Row], time_limit_s: float) -> list[int] | None:
    """Return the option of each unit with the least total cost that meets all rows, or None if there is none.

    Args:
        costs: for each unit, the cost of each option.

    Raises:
        SearchError: no proven optimum within `time_limit_s`.
    """
    slopes = [[cost - min(of_unit) for cost in of_unit] for of_unit in costs]
    scale = _COST_SCALE / (max(map(max, slopes)) or 1.0)
    problem = pulp.LpProblem("limpq", pulp.LpMinimize)
    picks = [
        [problem.add_variable(f"pick_{unit}_{option}", cat=pulp.LpBinary) for option in range(len(of_unit))]
        for unit, of_unit in enumerate(costs)
    ]
    problem += scale * _weighted(slopes, picks)
    for of_pick in picks:
        problem += pulp.lpSum(of_pick) == 1
    for row in rows:
        coefficients, limit = _reduced(row)
        problem += _weighted(coefficients, picks) <= limit
    deadline = time.monotonic() + time_limit_s
    for _ in range(_MOST_REPAIRS):
        left = max(deadline - time.monotonic(), 0.01)
        problem.solve(pulp.COIN_CMD(path=_CBC, msg=False, gapRel=0, gapAbs=0, threads=1, timeLimit=left))
        if problem.status == pulp.LpStatusInfeasible:
            return None
        # `status` also reads Optimal when a time limit stopped at a merely feasible point; `sol_status` does not.
        if problem.sol_status != pulp.LpSolutionOptimal:
            break
        choice = [max(range(len(of_pick)), key=lambda option: of_pick[option].varValue or 0) for of_pick in picks]
        if all(_sum(row, choice) <= row.limit for row in rows):
            return choice
        # The solver's tolerance let a policy through that is over budget in exact integers: forbid just that one.
        problem += pulp.lpSum(of_pick[option] for of_pick, option in zip(picks, choice, strict=True)) <= len(choice) - 1
    raise SearchError(f"no proven optimum within {time_limit_s:g} s; raise time_limit_s, or use fewer candidates")


def _weighted(
    weights: Sequence[Sequence[float]], picks: Sequence[Sequence[pulp.LpVariable]]
) -> pulp.LpAffineExpression:
    """Return the sum over units and options of weight x pick."""
    terms = zip(itertools.chain(*weights), itertools.chain(*picks), strict=True)
    return pulp.LpAffineExpression([(pick, weight) for weight, pick in terms])


def _reduced(row: Row) -> tuple[list[list[int]], int]:
    """Return the row with each unit's least coefficient taken out, divided by the gcd: the smallest integers."""
    lowest = [min(of_unit) for of_unit in row.coefficients]
    extra = [[weight - low for weight in of_unit] for of_unit, low in zip(row.coefficients, lowest, strict=True)]
    divisor = math.gcd(*(weight for of_unit in extra for weight in of_unit)) or 1
    return [[weight // divisor for weight in of_unit] for of_unit in extra], (row.limit - sum(lowest)) // divisor


def _sum(row: Row, choice: Sequence[int]) -> int:
    return sum(of_unit[picked] for of_unit, picked in zip(row.coefficients, choice, strict=True))


def _importance(indicators: Indicators, unit: Unit, option: int, alpha: float) -> float:
    searched = [name for name in unit.layers if indicators.costs[name].fixed is None]
    return math.fsum(indicators.importance(name, unit.options[option], alpha) for name in searched)


def _jointly_infeasible(indicators: Indicators, rows: Sequence[Row], time_limit_s: float) -> Exception:
    """Return the error for rows that each can be met, but not together: says what the first would need."""
    first, others = rows[0], rows[1:]
    cheapest = solve([list(map(float, of_unit)) for of_unit in first.coefficients], others, time_limit_s)
    minimum = math.inf if cheapest is None else _sum(first, cheapest)
    if cheapest is None or minimum <= first.limit:
        return SearchError("the constraints cannot be met together; relax one of them")
    given = f" together with {' and '.join(row.constraint for row in others)}"
    return first.infeasible(describe(indicators), minimum, given)


def _checked_alpha(alpha: float) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha < 0:
        raise BudgetError(f"alpha={shown(alpha)} cannot be: use a number of at least 0, for example 2.0")
    return float(alpha)


def _notes(budget: Budget) -> tuple[str, ...]:
    if budget.bitops is None and budget.latency is None:
        return (
            "only the weights are limited, so every activation went to its most bits; add bitops= to limit them too",
        )
    return ()
