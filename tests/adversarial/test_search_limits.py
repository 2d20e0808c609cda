"""A search keeps its time and its memory, whatever the programme; computed tables are solved as rounded ones are."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest

from limpq_hub.errors import InfeasibleBudgetError, SearchError
from limpq_hub.plan.baseline_policies import policies_to_compare
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraints.bitops import BitOps
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.explanation import explain
from limpq_hub.plan.frontier_search import search_frontier
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.optimum import search
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.solver.programme import Programme
from limpq_hub.plan.solver.solving import solve

LARGEST = 10**6
BITS = (2, 3, 4, 5, 6)
# A step of the search that was begun when the time is over is ended: this many seconds on a busy machine.
ONE_STEP_S = 0.6


def hard_programme(kind: str, groups: int, options: int, rows: int, seed: int = 0) -> Programme:
    """Return a programme whose costs follow what the options use, so that many choices are near the bound.

    Source: Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", EJOR 83, 1995, for the kinds.
    """
    rng = random.Random(f"{kind} {groups} {options} {rows} {seed}")
    tables = [[sorted(rng.randint(1, LARGEST) for _ in range(options)) for _ in range(groups)] for _ in range(rows)]
    cost_of = {
        "subset sum": lambda used, place: rows * LARGEST - used,
        "strongly correlated": lambda used, place: 60 * LARGEST - used - LARGEST // 10 * place,
        "nearly equal": lambda used, place: (rows * LARGEST - used) * 1e-6 * rng.uniform(0.999, 1.001),
        "weakly correlated": lambda used, place: 2 * rows * LARGEST - used + rng.randint(0, LARGEST // 10),
        "uncorrelated": lambda used, place: rng.random(),
    }[kind]
    costs = [
        [cost_of(sum(used), place) for place, used in enumerate(zip(*of_group, strict=True))]
        for of_group in zip(*tables, strict=True)
    ]
    limits = [(sum(map(min, table)) + sum(map(max, table))) // 2 for table in tables]
    return Programme(
        costs,
        [
            LinearConstraint(BitOps(), tuple(map(tuple, table)), limit, requested=Fraction(limit), amount_of=Fraction)
            for table, limit in zip(tables, limits, strict=True)
        ],
    )


def memory_kb(what: str) -> int:
    """Return a line of what Linux says of the memory of this process: VmRSS is what it has, VmHWM the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def check_within_time(programme: Programme, seconds: float) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM is counted anew
    before = memory_kb("VmRSS")
    # Its own seconds: on a busy machine others take some of those on the clock.
    began = time.process_time()
    with suppress(SearchError):
        solution = solve(programme, time.monotonic() + seconds)
        assert all(constraint.total(solution.choice) <= constraint.limit for constraint in programme.constraints)
    assert time.process_time() - began < 1.1 * seconds + ONE_STEP_S
    assert memory_kb("VmHWM") - before < 2**20


KINDS = ["subset sum", "strongly correlated", "nearly equal", "weakly correlated", "uncorrelated"]


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_hard_programme_is_solved_or_given_up_in_time(kind, rows):
    check_within_time(hard_programme(kind, 50, 25, rows), 0.4)


@pytest.mark.parametrize(
    ("kind", "groups", "options", "rows"),
    [("uncorrelated", 20_000, 25, 2), ("strongly correlated", 1000, 49, 2), ("nearly equal", 2000, 25, 2)],
)
def test_a_large_programme_is_solved_or_given_up_in_time(kind, groups, options, rows):
    check_within_time(hard_programme(kind, groups, options, rows), 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kind", KINDS)
def test_many_hard_programmes_are_solved_or_given_up_in_time(kind, seed):
    rng = random.Random(f"{kind} {seed}")
    programme = hard_programme(kind, rng.choice((20, 50, 300, 3000)), rng.choice((4, 25, 49)), rng.randint(1, 3), seed)
    check_within_time(programme, rng.choice((0.05, 0.3, 1.0)))


@pytest.mark.parametrize(("kind", "rows"), [("subset sum", 1), ("weakly correlated", 1), ("weakly correlated", 2)])
def test_correlated_costs_of_fifty_layers_are_proven_within_three_seconds(kind, rows):
    assert solve(hard_programme(kind, 50, 25, rows), time.monotonic() + 3).bound is None


@pytest.mark.parametrize(
    ("kind", "rows"), [("strongly correlated", 1), ("subset sum", 2), ("nearly equal", 1), ("nearly equal", 2)]
)
def test_where_there_is_no_proof_a_choice_within_a_ten_thousandth_of_the_bound_is_there_at_once(kind, rows):
    programme = hard_programme(kind, 50, 25, rows)
    began = time.process_time()
    solution = solve(programme, time.monotonic() + 3, allow_gap=1e-4)
    assert time.process_time() - began < 3
    cost = programme.cost(solution.choice)
    assert solution.bound is None or cost * (1 - 1e-4) <= solution.bound <= cost


def many_layers(layers: int) -> Indicators:
    """Return layers of random costs and steps, all different."""
    rng = random.Random(layers)
    costs = {
        f"layer{index}": LayerCost(*([rng.randint(10**6, 10**9)] * 2), rng.randint(10**3, 10**6), 9, False)
        for index in range(layers)
    }

    def steps() -> dict[str, dict[int, float]]:
        scales = {name: rng.lognormvariate(-4, 0.7) for name in costs}
        return {
            name: {bits: scale * 2**-bits * rng.uniform(0.95, 1.05) for bits in BITS} for name, scale in scales.items()
        }

    return Indicators("many", 224, 1000, costs, steps(), steps())


@pytest.fixture(scope="module")
def thousands():
    return many_layers(5000)


def test_indicators_of_thousands_of_layers_are_written_and_read_in_linear_time():
    many = many_layers(20_000)
    began = time.process_time()
    assert Indicators.from_json(many.to_json()) == many
    assert time.process_time() - began < 4  # minutes where every layer looks at all of them


def test_the_time_limit_holds_with_twenty_thousand_layers():
    many = many_layers(20_000)
    began = time.process_time()
    with suppress(SearchError):
        search(many, Budget(bitops="w4a4", compression=8), time_limit_s=0.5)
    assert time.process_time() - began < 1.1 * 0.5 + ONE_STEP_S


@pytest.mark.parametrize("seconds", [0.05, 0.3])
@pytest.mark.parametrize(
    "work",
    [
        lambda many, seconds: search(many, Budget(bitops="w4a4", compression=8), time_limit_s=seconds),
        lambda many, seconds: search(many, Budget(bitops=1, size=1), time_limit_s=seconds),
        lambda many, seconds: search_frontier(many, 10_000, time_limit_s=seconds),
        lambda many, seconds: policies_to_compare(many, Budget(bitops="w3a4"), time_limit_s=seconds),
        lambda many, seconds: explain(many, Plan.of_policy(many, many.fewest_bits()), time_limit_s=seconds),
    ],
    ids=["search", "conflict", "frontier", "baselines", "explain"],
)
def test_everything_that_searches_looks_at_its_one_time_limit(thousands, work, seconds):
    began = time.process_time()
    with suppress(SearchError, InfeasibleBudgetError):
        work(thousands, seconds)
    assert time.process_time() - began < 1.1 * seconds + ONE_STEP_S


FORMS = {
    "tenths": (lambda product: 0.1 * product, 0.1),
    "sevenths": (lambda product: product / 7, 1 / 7),
    "milliseconds from seconds": (lambda product: product * 0.001 * 1000, 1.0),
    "averages": (lambda product: sum([product * 0.3] * 7) / 7, 0.3),
    "thirds of a million": (lambda product: product * 1e6 / 3, 1e6 / 3),
    "tiny": (lambda product: product * 1.1e-12, 1.1e-12),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_of_computed_floats_is_solved_as_its_whole_numbers_are(form):
    computed, unit = FORMS[form]
    indicators = many_layers(20)
    for limit in (200, 201, 300, 317):
        tables = [
            {name: {(w, a): entry(w * a) for w in BITS for a in BITS} for name in indicators.costs}
            for entry in (int, computed)
        ]
        whole = search(indicators, Budget(latency=(tables[0], limit)))
        began = time.process_time()
        plan = search(indicators, Budget(latency=(tables[1], limit * unit)))
        assert time.process_time() - began < 1
        assert plan.objective == pytest.approx(whole.objective, rel=1e-12)
        used = sum(bits.weight * bits.activation for bits in plan.policy.layers.values())
        assert used <= limit
    # Below the least that can be there is nothing, and the least that is named works.
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(latency=(tables[1], 79 * unit)))
    least = search(indicators, Budget(latency=(tables[1], caught.value.minimum)))
    assert {(bits.weight, bits.activation) for bits in least.policy.layers.values()} == {(2, 2)}


def test_a_computed_table_beside_bitops_is_solved_too():
    indicators = many_layers(20)
    tables = [
        {name: {(w, a): entry(w + a) for w in BITS for a in BITS} for name in indicators.costs}
        for entry in (int, lambda total: total / 7)
    ]
    whole = search(indicators, Budget(bitops="w4a4", latency=(tables[0], 150)))
    plan = search(indicators, Budget(bitops="w4a4", latency=(tables[1], 150 / 7)))
    assert plan.objective == pytest.approx(whole.objective, rel=1e-12)
