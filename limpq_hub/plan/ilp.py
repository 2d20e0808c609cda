"""The search: an integer programme over the indicators, solved exactly, recounted in integers, and proven."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pulp

from limpq_hub.errors import BudgetError, SearchError, shown
from limpq_hub.plan.budget import Budget, is_number
from limpq_hub.plan.constraints import Row, rows_of, within_activation_memory
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.result import Plan
from limpq_hub.plan.units import Pins, Unit, units_of

# CBC takes a solution as better only if it is by more than 1e-5: costs are scaled to reach up to this.
_COST_SCALE = 1e4
_MOST_REPAIRS = 100
# Coefficients up to this stay exact within the solver's tolerances.
_LARGEST_COEFFICIENT = 10**5
_FEWEST_BITS = " (every searched layer at its fewest bits, first and last at 8)"
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
        alpha: factor of the weight importance in the objective; that of the indicators if None.
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
    units = units_of(kept, learned=indicators.candidates, candidates=candidates, pin=pin, exclude=exclude, tie=tie)
    units = within_activation_memory(kept, budget, units)
    rows = rows_of(kept, budget, units, counting)
    costs = [[_importance(kept, unit, option, alpha) for option in range(len(unit.options))] for unit in units]
    for row in rows:
        minimum = sum(map(min, row.coefficients))
        if minimum > row.limit:
            unrestricted = pin is None and exclude is None and tie is None and candidates is None
            raise row.infeasible(kept.title, minimum, because=_FEWEST_BITS if unrestricted else "")
    choice = solve(costs, rows, time_limit_s)
    if choice is None:
        raise _jointly_infeasible(kept.title, rows, time_limit_s)
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
    affordable = [_affordable(rows, unit, len(of_unit)) for unit, of_unit in enumerate(costs)]
    if not all(affordable):
        return None

    def narrowed(table: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(of_unit[o] for o in kept) for of_unit, kept in zip(table, affordable, strict=True))

    rows = [replace(row, coefficients=narrowed(row.coefficients)) for row in rows]
    if all(len(kept) == 1 for kept in affordable):
        choice = [0] * len(costs) if all(_sum(row, [0] * len(costs)) <= row.limit for row in rows) else None
    else:
        choice = _solve_programme(narrowed(costs), rows, time_limit_s)
    return choice and [kept[picked] for kept, picked in zip(affordable, choice, strict=True)]


def _affordable(rows: Sequence[Row], unit: int, options: int) -> list[int]:
    """Return the options of a unit that fit every row while all other units take their least."""
    spare = [row.limit - sum(map(min, row.coefficients)) + min(row.coefficients[unit]) for row in rows]
    return [
        o
        for o in range(options)
        if all(row.coefficients[unit][o] <= most for row, most in zip(rows, spare, strict=True))
    ]


def _solve_programme(costs: Sequence[Sequence[float]], rows: Sequence[Row], time_limit_s: float) -> list[int] | None:
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
        _run_solver(problem, left)
        if problem.status == pulp.LpStatusInfeasible:
            return None
        # `status` also reads Optimal when a time limit stopped at a merely feasible point; `sol_status` does not.
        if problem.sol_status != pulp.LpSolutionOptimal:
            raise SearchError(
                f"no proven optimum within {time_limit_s:g} s; raise time_limit_s, or use fewer candidates"
            )
        choice = [max(range(len(of_pick)), key=lambda option: of_pick[option].varValue or 0) for of_pick in picks]
        broken = next((row for row in rows if _sum(row, choice) > row.limit), None)
        if broken is None:
            return choice
        # The rounded row let a policy through that is over budget in exact integers: forbid it, and with it every
        # policy that costs at least as much in each unit.
        problem += pulp.lpSum(
            pick
            for of_pick, of_unit, picked in zip(picks, broken.coefficients, choice, strict=True)
            for pick, weight in zip(of_pick, of_unit, strict=True)
            if weight >= of_unit[picked]
        ) <= len(choice) - 1  # fmt: skip
    raise SearchError(f"the solver returned {_MOST_REPAIRS} policies that are over budget; try a slightly other budget")


def _run_solver(problem: pulp.LpProblem, time_limit_s: float) -> None:
    # Preprocessing made CBC call a worse policy optimal, and its `threads` made one solve in 500 wait for ten seconds.
    # Without preprocessing it crashes on one tiny infeasible programme in 1,000: then preprocessing may say that it is
    # infeasible, which `_jointly_infeasible` checks, but its solutions are not trusted.
    for ways in (["preprocess off", "cuts off"], ["cuts off"]):
        solver = pulp.COIN_CMD(path=_CBC, msg=False, gapRel=0, gapAbs=0, timeLimit=time_limit_s, options=ways)
        try:
            problem.solve(solver)
        except pulp.PulpSolverError:
            continue
        if "preprocess off" in ways or problem.status == pulp.LpStatusInfeasible:
            return
    raise SearchError("the solver failed on this budget; try a slightly other one")


def _weighted(
    weights: Sequence[Sequence[float]], picks: Sequence[Sequence[pulp.LpVariable]]
) -> pulp.LpAffineExpression:
    """Return the sum over units and options of weight x pick."""
    terms = zip(itertools.chain(*weights), itertools.chain(*picks), strict=True)
    return pulp.LpAffineExpression([(pick, weight) for weight, pick in terms])


def _reduced(row: Row) -> tuple[list[list[int]], float]:
    """Return the row in small integers: each unit's least coefficient taken out, divided by the gcd.

    Where the result is still large it is rounded down, which lets more policies through and never fewer; the caller
    recounts. The half unit above the limit keeps the solver's tolerance away from it.
    """
    lowest = [min(of_unit) for of_unit in row.coefficients]
    extra = [[weight - low for weight in of_unit] for of_unit, low in zip(row.coefficients, lowest, strict=True)]
    divisor = math.gcd(*itertools.chain(*extra)) or 1
    divisor *= max(1, max(itertools.chain(*extra)) // divisor // _LARGEST_COEFFICIENT)
    return [[weight // divisor for weight in of_unit] for of_unit in extra], (row.limit - sum(lowest)) // divisor + 0.5


def _sum(row: Row, choice: Sequence[int]) -> int:
    return sum(of_unit[picked] for of_unit, picked in zip(row.coefficients, choice, strict=True))


def _importance(indicators: Indicators, unit: Unit, option: int, alpha: float) -> float:
    searched = [name for name in unit.layers if indicators.costs[name].fixed is None]
    return math.fsum(indicators.importance(name, unit.options[option], alpha) for name in searched)


def _jointly_infeasible(model: str, rows: Sequence[Row], time_limit_s: float) -> Exception:
    """Return the error for rows that each can be met, but not together: says what the first would need."""
    first, others = rows[0], rows[1:]
    cheapest = solve([list(map(float, of_unit)) for of_unit in first.coefficients], others, time_limit_s)
    if cheapest is None:
        return _jointly_infeasible(model, others, time_limit_s)
    minimum = _sum(first, cheapest)
    if minimum <= first.limit:
        return SearchError("the solver gave two different answers for this budget; try a slightly other one")
    return first.infeasible(model, minimum, f" together with {' and '.join(row.constraint for row in others)}")


def _checked_alpha(alpha: float) -> float:
    if not is_number(alpha) or alpha < 0:
        raise BudgetError(f"alpha={shown(alpha)} cannot be: use a number of at least 0, for example 2.0")
    return float(alpha)


def _notes(budget: Budget) -> tuple[str, ...]:
    if budget.bitops is None and budget.latency is None and budget.activation_memory is None:
        return (
            "only the weights are limited, so every activation went to its most bits; add bitops= to limit them too",
        )
    return ()
