"""The search against brute force, an exact dynamic programme, and tables solved by hand."""

from __future__ import annotations

import math
import os
import random

import numpy as np
import pulp
import pytest

from limpq_hub.errors import BudgetError, InfeasibleBudgetError, SearchError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.optimum import search
from limpq_hub.plan.policy import LayerBits

KINDS = [("bitops",), ("size",), ("latency",), ("bitops", "size"), ("bitops", "latency"), ("size", "latency")]
# Programmes with small numbers on which CBC, with its preprocessing and cuts, calls a worse policy optimal.
MISJUDGED = (432, 588, 1603, 1639, 1663, 1709, 1795, 1909, 2257, 2329, 2563, 3121)
CASES = [(seed, KINDS[seed % len(KINDS)]) for seed in (*range(300), *MISJUDGED)]


def check_against(outcomes, feasible, searched):
    """Assert that `searched()` is a best feasible policy, or infeasible exactly when there is none."""
    if not feasible.any():
        with pytest.raises(InfeasibleBudgetError, match="cannot be met"):
            searched()
        return
    plan = searched()
    assert plan.optimal
    assert plan.objective == plan.bound == pytest.approx(outcomes.objective[feasible].min(), rel=0, abs=1e-11)
    matching = feasible & (outcomes.bitops == plan.bitops) & (-(-outcomes.size_bits // 8) == plan.size_bytes)
    assert np.isclose(outcomes.objective[matching], plan.objective, rtol=0, atol=1e-11).any()


@pytest.mark.parametrize(("seed", "kinds"), CASES)
def test_search_matches_brute_force_exactly_at_and_one_below_what_a_policy_costs(
    seed, kinds, random_network, every_policy
):
    rng = random.Random(seed)
    layers, candidates = rng.choice([(3, (2, 3, 4, 5)), (4, (2, 3, 4)), (4, (2, 4, 6)), (5, (3, 5))])
    largest, unit = rng.choice([(9, 1), (40, 147_456), (10**3, 1), (10**9, 1)])
    indicators = random_network(rng, layers=layers, candidates=candidates, largest=largest, unit=unit)
    pairs = [(weight, activation) for weight in candidates for activation in candidates]
    table = {f"layer{index}": {bits: rng.randint(0, largest) for bits in pairs} for index in range(layers)}
    outcomes = every_policy(indicators, table)
    values = {"bitops": outcomes.bitops, "size": -(-outcomes.size_bits // 8), "latency": outcomes.latency}
    target = rng.randrange(len(outcomes.objective))
    for below in (0, 1):
        limits = {kind: int(values[kind][target]) - (below if kind == kinds[0] else 0) for kind in kinds}
        if min(limits.values()) < 1:
            continue
        feasible = np.logical_and.reduce([values[kind] <= limit for kind, limit in limits.items()])
        budget = Budget(**{kind: (table, limit) if kind == "latency" else limit for kind, limit in limits.items()})
        check_against(outcomes, feasible, lambda budget=budget: search(indicators, budget))


def exact_front(costs_by_layer, objective_by_layer, capacity):
    """Return the least objective for each budget 0..capacity: a dynamic programme over whole units."""
    best = np.full(capacity + 1, np.inf)
    best[0] = 0.0
    for costs, objectives in zip(costs_by_layer, objective_by_layer, strict=True):
        following = np.full(capacity + 1, np.inf)
        for cost, objective in zip(costs, objectives, strict=True):
            if cost <= capacity:
                np.minimum(following[cost:], best[: capacity + 1 - cost] + objective, out=following[cost:])
        best = following
    return np.minimum.accumulate(best)


@pytest.fixture
def resnet18(network):
    """Return a ResNet-18 at 64x64 with 200 classes, with steps that shrink by about half per bit."""
    rng = random.Random(18)
    macs, weights = {"conv1": 64 * 3 * 49 * 32 * 32, "fc": 512 * 200}, {"conv1": 64 * 3 * 49, "fc": 512 * 200}
    inputs, before, size = {"conv1": 3 * 64 * 64, "fc": 512}, 64, 16
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        size = size // 2 if stage > 1 else size
        convs = {"0.conv1": (before, 9), "0.conv2": (width, 9), "1.conv1": (width, 9), "1.conv2": (width, 9)}
        if stage > 1:
            convs["0.downsample.0"] = (before, 1)
        for name, (channels, kernel) in convs.items():
            name = f"layer{stage}.{name}"
            weights[name] = channels * width * kernel
            macs[name] = weights[name] * size * size
            inputs[name] = channels * size * size * (4 if stage > 1 and channels == before else 1)
        before = width
    searched = [name for name in macs if name.startswith("layer")]

    def steps(base):
        scales = {name: base * rng.lognormvariate(0, 0.7) for name in searched}
        return {
            name: {bits: scale * 2 ** (-0.9 * bits) * rng.uniform(0.9, 1.1) for bits in range(2, 7)}
            for name, scale in scales.items()
        }

    return network(
        steps(0.2), steps(1.0), macs=macs, weights=weights, inputs=inputs, fixed={"conv1": (8, 8), "fc": (8, 8)}
    )


def test_search_matches_an_exact_dynamic_programme_on_resnet18_at_40_budgets(resnet18):
    searched = list(resnet18.weight_steps)
    unit = math.gcd(*(resnet18.costs[name].macs for name in searched))
    fixed = sum(cost.macs * 64 for cost in resnet18.costs.values() if cost.fixed)
    pairs = [(weight, activation) for weight in range(2, 7) for activation in range(2, 7)]
    total = sum(resnet18.costs[name].macs // unit for name in searched)
    assert total == 264  # as measured on the real network
    front = exact_front(
        [
            [resnet18.costs[name].macs // unit * weight * activation for weight, activation in pairs]
            for name in searched
        ],
        [
            [resnet18.activation_steps[name][a] + 2 * resnet18.weight_steps[name][w] for w, a in pairs]
            for name in searched
        ],
        total * 36,
    )
    rng = random.Random(0)
    for units in [4 * total, 36 * total, *(rng.randint(4 * total, 30 * total) for _ in range(38))]:
        plan = search(resnet18, Budget(bitops=fixed + units * unit))
        assert plan.objective == pytest.approx(front[units], rel=0, abs=1e-11)
        assert plan.bitops <= fixed + units * unit


def test_a_table_of_two_layers_solved_by_hand_at_and_below_each_switch(network):
    # Weights and activations of layer "a" cost 3 macs, of "b" 1; activations stay at 4 bits by their one candidate.
    indicators = network(
        {"a": {2: 0.50, 4: 0.10}, "b": {2: 0.90, 4: 0.20}}, {"a": {4: 0.01}, "b": {4: 0.02}},
        macs={"a": 3, "b": 1}, alpha=1.0,
    )  # fmt: skip
    # BitOps: a at 2 bits 24, at 4 bits 48; b at 2 bits 8, at 4 bits 16.
    for bitops, a, b, objective in [
        (32, 2, 2, 1.43),
        (39, 2, 2, 1.43),
        (40, 2, 4, 0.73),
        (55, 2, 4, 0.73),
        (56, 2, 4, 0.73),  # a at 4 bits and b at 2 would fit as well, but lose 1.03
        (63, 2, 4, 0.73),
        (64, 4, 4, 0.33),
        (10**9, 4, 4, 0.33),
    ]:
        plan = search(indicators, Budget(bitops=bitops))
        assert plan.policy.layers == {"a": LayerBits(a, 4), "b": LayerBits(b, 4)}
        assert plan.objective == pytest.approx(objective)
        assert plan.bitops == 3 * 4 * a + 4 * b


def test_a_second_row_changes_the_choice_where_it_binds(network):
    steps = {"wide": {2: 0.4, 4: 0.1}, "narrow": {2: 0.3, 4: 0.1}}
    indicators = network(steps, {"wide": {4: 0.1}, "narrow": {4: 0.1}}, macs=10, weights={"wide": 80, "narrow": 8})
    # One of the two may have 4 weight bits: "wide" by importance, "narrow" where the bytes are limited too.
    assert search(indicators, Budget(bitops=240)).policy.layers["wide"].weight == 4
    plan = search(indicators, Budget(bitops=240, size=24))
    assert (plan.policy.layers["wide"].weight, plan.policy.layers["narrow"].weight) == (2, 4)
    assert (plan.bitops, plan.size_bytes) == (240, 24)


def test_alpha_weighs_weight_steps_against_activation_steps(network):
    indicators = network({"a": {2: 0.3, 4: 0.1}}, {"a": {2: 0.4, 4: 0.1}}, macs=1, alpha=1.0)
    # One side may have 4 bits. Lost: 0.1 alpha + 0.4 with 4 weight bits, 0.3 alpha + 0.1 with 4 activation bits.
    assert search(indicators, Budget(bitops=8)).policy.layers["a"] == LayerBits(2, 4)
    assert search(indicators, Budget(bitops=8), alpha=1.4).policy.layers["a"] == LayerBits(2, 4)
    assert search(indicators, Budget(bitops=8), alpha=1.6).policy.layers["a"] == LayerBits(4, 2)
    plan = search(indicators, Budget(bitops=8), alpha=3)
    assert (plan.objective, plan.alpha) == (pytest.approx(0.7), 3.0)
    assert search(indicators, Budget(bitops=8), alpha=0).policy.layers["a"] == LayerBits(2, 4)


@pytest.mark.parametrize("alpha", [-1, float("nan"), float("inf"), True, "2", pytest.param(10**400, id="huge")])
def test_an_alpha_that_cannot_be_is_refused(network, alpha):
    with pytest.raises(BudgetError, match=r"^alpha=.* cannot be: use a number of at least 0, for example 2.0"):
        search(network({"a": {2: 0.1}}), Budget(bitops="1G"), alpha=alpha)


def test_counting_as_published_spends_the_budget_by_the_published_macs(network):
    indicators = network({"a": {2: 0.3, 4: 0.1}}, {"a": {4: 0.1}}, macs={"a": 100}, macs_limpq={"a": 101})
    assert search(indicators, Budget(bitops=1600)).policy.layers["a"].weight == 4
    plan = search(indicators, Budget(bitops=1600), counting="limpq")
    assert (plan.policy.layers["a"].weight, plan.bitops, plan.counting) == (2, 808, "limpq")
    # The budget "w4a4" is counted by the same rule, so it always allows itself.
    for counting in ("exact", "limpq"):
        assert search(indicators, Budget(bitops="w4a4"), counting=counting).policy.layers["a"] == LayerBits(4, 4)


def test_an_unknown_counting_rule_is_refused(network):
    with pytest.raises(BudgetError, match='counting=\'paper\' is not known: use "exact" or "limpq"'):
        search(network({"a": {2: 0.1}}), Budget(bitops="1G"), counting="paper")


def test_fixed_layers_count_in_the_totals_but_not_in_the_objective(network):
    indicators = network(
        {"a": {2: 0.3}}, fixed={"head": (8, 8)}, macs={"a": 1, "head": 10}, weights={"a": 8, "head": 4}
    )
    plan = search(indicators, Budget(bitops=4 + 640))
    assert (plan.bitops, plan.size_bytes, plan.objective) == (644, (16 + 32) // 8, pytest.approx(0.9))
    assert plan.policy.layers == {"a": LayerBits(2, 2), "head": LayerBits(8, 8)}


def test_the_same_search_gives_the_same_policy_also_among_equal_objectives(network):
    names = [f"layer{index}" for index in range(8)]
    indicators = network({name: {2: 0.3, 3: 0.2, 4: 0.1} for name in names}, macs=7)
    first = search(indicators, Budget(bitops="w3a3"))
    assert all(search(indicators, Budget(bitops="w3a3")).policy == first.policy for _ in range(5))


def test_objectives_that_differ_by_a_hundred_millionth_are_told_apart(network):
    # Either "b" or "c" may have 4 bits; the large step of "a" must not drown what tells them apart.
    indicators = network(
        {"a": {2: 1.0, 4: 0.1}, "b": {2: 2e-4, 4: 1e-4}, "c": {2: 2.0001e-4, 4: 1e-4}},
        {name: {4: 0.1} for name in "abc"}, macs=1, alpha=1.0,
    )  # fmt: skip
    plan = search(indicators, Budget(bitops=16 + 16 + 8))
    assert [bits.weight for bits in plan.policy.layers.values()] == [4, 2, 4]


def test_a_search_leaves_no_file_behind(network, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    search(network({"a": {2: 0.3, 4: 0.1}}), Budget(bitops="w4a4"))
    assert os.listdir(tmp_path) == []


def test_a_solution_that_the_solver_has_not_proven_is_an_error(network, monkeypatch):
    def stopped(problem, *_):
        problem.status, problem.sol_status = pulp.LpStatusOptimal, pulp.LpSolutionIntegerFeasible

    monkeypatch.setattr(pulp.LpProblem, "solve", stopped)
    with pytest.raises(
        SearchError, match=r"no proven optimum within 0.5 s; raise time_limit_s, or use fewer candidates"
    ):
        search(network({"a": {2: 0.3, 4: 0.1}}), Budget(bitops="w4a4"), time_limit_s=0.5)


def test_a_solution_over_budget_in_whole_numbers_is_never_returned(network, monkeypatch):
    weights, activations = {"a": {2: 0.3, 4: 0.1}, "b": {2: 0.2, 4: 0.1}}, {"a": {4: 0.1}, "b": {4: 0.1}}
    indicators = network(weights, activations, macs=1)
    real, solved = pulp.LpProblem.solve, []

    def tolerant(problem, *arguments):
        solved.append(problem)
        real(problem, *arguments)
        if len(solved) == 1:  # a solver whose tolerance lets the better but too costly option through
            for variable in problem.variables():
                variable.varValue = float(variable.name.endswith("_1"))

    monkeypatch.setattr(pulp.LpProblem, "solve", tolerant)
    plan = search(indicators, Budget(bitops=24))
    found = {name: bits.weight for name, bits in plan.policy.layers.items()}
    assert (found, plan.bitops, len(solved)) == ({"a": 4, "b": 2}, 24, 2)
