"""Numbers at the ends of what floats and integers hold end in an answer or an error of ours, never in another one."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from limpq_hub.errors import LimpqError
from limpq_hub.plan.baseline_policies import policies_to_compare
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.explanation import explain
from limpq_hub.plan.frontier_search import search_frontier
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.optimum import search

COUNTS = (1, 2, 10**9, 10**15, 10**18, 10**19, 10**400)
STEPS = (5e-324, 1e-308, 1e-30, 1e-3, 1.0, 1e30, 1e38, 1e308, 1.7e308)
AMOUNTS = (0, 5e-324, 1e-308, 0.1 * 3, 1, 10**15 + 1, 1e16, 1e100, 1e308, 10**400, Fraction(10**400 + 1, 3))
LIMITS = (
    1e-300,
    "1e-999",
    1,
    3,
    10**18,
    10**20,
    10**22,
    10**400,
    1e100,
    1e308,
    Fraction(10**400 + 1, 3),
    "3G",
    "12.2",
    "0.5MB",
)


def drawn_indicators(rng: random.Random) -> Indicators:
    names = ["a", "b" * rng.choice((1, 5000)), "c"]
    costs = {
        name: LayerCost(*(rng.choice(COUNTS[:5] if rng.random() < 0.98 else COUNTS) for _ in range(4)), False)
        for name in names
    }

    def steps() -> dict[str, dict[int, float]]:
        return {
            name: {bits: rng.choice(STEPS[:7] if rng.random() < 0.99 else STEPS) for bits in (2, 3, 4)}
            for name in names
        }

    return Indicators("toynet", 32, 10, costs, steps(), steps(), alpha=rng.choice((0.0, 1.0, 2.0, 1e300)))


def drawn_budget(rng: random.Random, indicators: Indicators) -> Budget:
    kinds = rng.sample(("bitops", "size", "compression", "activation_memory", "latency", "energy"), rng.randint(1, 3))
    limits = {kind: rng.choice(LIMITS) for kind in kinds}
    for kind in {"latency", "energy"} & set(kinds):
        table = {
            name: {
                (w, a): rng.choice(AMOUNTS[:7] if rng.random() < 0.98 else AMOUNTS)
                for w in (2, 3, 4)
                for a in (2, 3, 4)
            }
            for name in rng.sample(list(indicators.costs), 2)
        }
        limits[kind] = (table, limits[kind])
    return Budget(**limits)


def network(steps: dict[str, dict[int, float]], macs: int = 1, weights: int = 100, inputs: int = 64) -> Indicators:
    costs = {name: LayerCost(macs, macs, weights, inputs, False) for name in steps}
    return Indicators("toynet", 32, 10, costs, steps, steps)


def try_everything(seed: int) -> bool:
    """Return whether the numbers of a seed are searched to an answer; an error that is not ours is not caught."""
    rng = random.Random(seed)
    message = ""
    try:
        indicators = drawn_indicators(rng)
        budget = drawn_budget(rng, indicators)
        plan = search(indicators, budget)
        plan.table()
        str(plan)
        plan.to_json()
        policies_to_compare(indicators, budget)
        explain(indicators, plan).tables()
        search_frontier(indicators, 4)
    except LimpqError as error:
        message = str(error)
    assert len(message) < 2000
    assert message.isprintable()
    return not message


def test_extreme_numbers_are_answered_or_refused_in_our_words():
    assert sum(try_everything(seed) for seed in range(1500)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_very_many_extreme_numbers_are_answered_or_refused_in_our_words(block):
    for seed in range(10_000 + block * 1000, 10_000 + block * 1000 + 1000):
        try_everything(seed)


@pytest.mark.parametrize("step", [5e-324, 1e-320, 1e-308, 1e-300])
def test_costs_near_the_smallest_float_are_solved_by_every_way(step):
    indicators = network({name: {2: 4 * step, 3: 2 * step, 4: step} for name in "abcd"})
    table = {name: {(w, a): w + a for w in (2, 3, 4) for a in (2, 3, 4)} for name in "abcd"}
    # Three constraints are for HiGHS.
    for limits in ({"bitops": 48}, {"bitops": 48, "compression": 8, "latency": (table, 24)}):
        plan = search(indicators, Budget(**limits))
        assert plan.bitops <= 48
        assert 0 < plan.objective <= 48 * step


def test_counts_beyond_any_network_are_refused_where_they_enter():
    message = "^layer 'a': its MACs, weights and inputs must be at most 1e\\+18 each$"
    for count in ("macs", "weights", "inputs"):
        with pytest.raises(LimpqError, match=message):
            network({"a": {2: 0.1}}, **{count: 10**400})


def test_steps_beyond_any_network_are_refused_where_they_enter():
    message = "at 2 bits is 1e\\+308, more than any float32 network can learn; use at most 1e\\+38$"
    with pytest.raises(LimpqError, match=message):
        network({"a": {2: 1e308}})


def test_times_beyond_any_measurement_are_refused():
    with pytest.raises(LimpqError, match="is 1e\\+308: a time is 0 or from 1e-100 to 1e\\+100; use another unit$"):
        search(network({"a": {2: 0.1}}), Budget(latency=({"a": {(2, 2): 1e308}}, 1)))
