"""The search against brute force in whole numbers, an exact dynamic programme, and tables solved by hand."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limpq_hub import cli
from limpq_hub.errors import BudgetError, InfeasibleBudgetError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.plan.plan import Plan

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
# By the number of constraints; the kinds take turns.
KINDS = {
    1: [("bitops",), ("size",), ("latency",)],
    2: [("bitops", "size"), ("bitops", "latency"), ("size", "latency")],
    3: [("bitops", "size", "latency")],
}
# The largest count of operations, weights and inputs, and what all of them are multiples of.
SIZES = [(9, 1), (40, 147_456), (10**3, 1), (10**8, 1), (10**10, 1)]
SCALES = [1.0, 1e-2, 1e-5, 1e-9]
# Programmes of each number of constraints, size and scale, 2,400 in all: three constraints take HiGHS a minute for all.
SEEDS = [
    pytest.param(1, range(40), id="1 constraint"),
    pytest.param(2, range(40), id="2 constraints"),
    pytest.param(3, range(4), id="3 constraints"),
    pytest.param(3, range(4, 40), id="3 constraints, the others", marks=pytest.mark.slow),
]


def scaled(indicators, factor):
    """Return the indicators with all steps multiplied by `factor`."""

    def steps(of):
        return {name: {bits: step * factor for bits, step in of_layer.items()} for name, of_layer in of.items()}

    return replace(
        indicators, weight_steps=steps(indicators.weight_steps), activation_steps=steps(indicators.activation_steps)
    )


def whole(number):
    """Return a float as a whole number of 2^-1074, the smallest float: without any rounding."""
    numerator, denominator = float(number).as_integer_ratio()
    return numerator * (2**1074 // denominator)


def exact_objectives(indicators):
    """Return the objective of every policy of a network without outliers, in whole numbers of 2^-1074."""
    total = np.zeros(1, object)
    for name, cost in indicators.costs.items():
        of_layer = (
            [
                whole(activation) + int(indicators.alpha) * whole(weight)
                for weight in indicators.weight_steps[name].values()
                for activation in indicators.activation_steps[name].values()
            ]
            if cost.fixed is None
            else [0]
        )
        total = np.add.outer(total, np.array(of_layer, object)).ravel()
    return total


def exact_objective(indicators, policy):
    return sum(
        whole(steps[policy.layers[name].activation])
        + int(indicators.alpha) * whole(indicators.weight_steps[name][policy.layers[name].weight])
        for name, steps in indicators.activation_steps.items()
    )


def used_by(drawn, policy):
    """Return what a policy uses of each constraint, counted from its bits."""
    layers = policy.layers.items()
    costs = drawn.indicators.costs
    return {
        "bitops": sum(costs[name].macs * bits.weight * bits.activation for name, bits in layers),
        "size": -(-sum(costs[name].weights * bits.weight for name, bits in layers) // 8),
        "latency": sum(drawn.table[name][bits.weight, bits.activation] for name, bits in layers if name in drawn.table),
    }


def check_exactly(drawn, limits, best):
    """Assert that the search finds a policy of objective `best` within the limits, or none if it is None."""
    budget = drawn.budget(limits)
    if best is None:
        with pytest.raises(InfeasibleBudgetError, match="cannot be met"):
            search(drawn.indicators, budget)
        return
    plan = search(drawn.indicators, budget)
    used = used_by(drawn, plan.policy)
    assert all(used[kind] <= limit for kind, limit in limits.items()), "over budget"
    assert exact_objective(drawn.indicators, plan.policy) == best, "not the best"
    assert (plan.bitops, plan.size_bytes, plan.optimal) == (used["bitops"], used["size"], True)
    assert plan.objective == plan.bound == pytest.approx(best / 2**1074)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("constraints", "seeds"), SEEDS)
def test_search_matches_brute_force_exactly_at_and_one_below_what_a_policy_costs(
    drawn_network, constraints, seeds, size, scale
):
    for seed in seeds:
        rng = random.Random(f"{constraints} {size} {scale} {seed}")
        drawn = drawn_network(rng, [size])
        drawn = drawn._replace(indicators=scaled(drawn.indicators, scale))
        objectives = exact_objectives(drawn.indicators)
        kinds = KINDS[constraints][seed % len(KINDS[constraints])]
        limits = {kind: int(drawn.values[kind][drawn.target]) for kind in kinds}
        if seed % 2:  # at the edge: the least of the first that the others allow, and one below that is infeasible
            met = np.full(len(objectives), True)
            for kind in kinds[1:]:
                met &= drawn.values[kind] <= limits[kind]
            limits[kinds[0]] = int(drawn.values[kinds[0]][met].min())
        for _ in range(2):
            if min(limits.values()) > 0:
                feasible = np.logical_and.reduce([drawn.values[kind] <= limit for kind, limit in limits.items()])
                best = objectives[feasible].min() if feasible.any() else None
                check_exactly(drawn, limits, best)
            limits[kinds[0]] -= 1


def exact_frontier(costs_by_layer, objective_by_layer, capacity):
    """Return the least objective for each budget 0..capacity: a dynamic programme over whole numbers."""
    best = np.full(capacity + 1, np.inf)
    best[0] = 0.0
    for costs, objectives in zip(costs_by_layer, objective_by_layer, strict=True):
        following = np.full(capacity + 1, np.inf)
        for cost, objective in zip(costs, objectives, strict=True):
            if cost <= capacity:
                np.minimum(following[cost:], best[: capacity + 1 - cost] + objective, out=following[cost:])
        best = following
    return np.minimum.accumulate(best)


def learned(steps):
    """Return the steps of one layer without those that are smaller than the one of the next more bits."""
    above = dict(zip(sorted(steps), sorted(steps)[1:], strict=False))
    return {bits: step for bits, step in steps.items() if bits not in above or step >= steps[above[bits]]}


def check_at_many_budgets(indicators, budgets, macs):
    """Assert that searches find what `exact_frontier` does; return the number of different objectives.

    Args:
        macs: operations of all searched layers, divided by their greatest common divisor.
    """
    searched = list(indicators.weight_steps)
    divisor = math.gcd(*(indicators.costs[name].macs for name in searched))
    fixed = sum(
        cost.macs * cost.fixed.weight * cost.fixed.activation for cost in indicators.costs.values() if cost.fixed
    )
    assert sum(indicators.costs[name].macs // divisor for name in searched) == macs
    options = [
        [
            (
                indicators.costs[name].macs // divisor * weight * activation,
                activation_step + indicators.alpha * weight_step,
            )
            for weight, weight_step in learned(indicators.weight_steps[name]).items()
            for activation, activation_step in learned(indicators.activation_steps[name]).items()
        ]
        for name in searched
    ]
    costs, objectives = ([[option[which] for option in of_layer] for of_layer in options] for which in (0, 1))
    least, most = (sum(map(which, costs)) for which in (min, max))
    frontier = exact_frontier(costs, objectives, most)
    rng = random.Random(0)
    different = set()
    for macs_bits in (least, most, *(rng.randint(least, most) for _ in range(budgets - 2))):
        plan = search(indicators, Budget(bitops=fixed + macs_bits * divisor + rng.randrange(divisor)))
        # Sums of up to 53 floats of about 1, in another order.
        assert plan.objective == pytest.approx(frontier[macs_bits], rel=0, abs=1e-12)
        assert plan.bitops <= fixed + macs_bits * divisor
        different.add(plan.objective)
    return len(different)


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


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    """Return the indicators that the authors published."""
    if not REFERENCE.is_dir():
        pytest.skip("../shared/reference is absent")
    output = str(tmp_path_factory.mktemp("import") / "x.json")
    pickle = str(REFERENCE / "limpq_resnet50_indicators.pkl")
    assert cli.main(["import", pickle, "--model", "resnet50", "--input-size", "224", "--output", output]) == 0
    return Indicators.load(output)


def test_search_matches_an_exact_dynamic_programme_on_resnet18_at_500_budgets(resnet18):
    assert check_at_many_budgets(resnet18, 500, macs=264) > 300  # as measured on the real network


def test_search_matches_an_exact_dynamic_programme_on_the_published_resnet50_at_500_budgets(resnet50):
    assert check_at_many_budgets(resnet50, 500, macs=309) > 300


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


def test_a_second_constraint_changes_the_choice_where_it_binds(network):
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


TIES = """
import json
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.optimum import search
names = [f"layer{index}" for index in range(8)]
steps = {name: {2: 0.375, 3: 0.25, 4: 0.125} for name in names}
costs = {name: LayerCost(7, 7, 8, 8, False) for name in names}
indicators = Indicators("toynet", 32, 10, costs, steps, steps)
table = {name: {(w, a): w + a for w in (2, 3, 4) for a in (2, 3, 4)} for name in names}
budgets = Budget(bitops=513), Budget(bitops=513, size=25), Budget(bitops=513, size=25, latency=(table, 60))
plans = [search(indicators, budget) for budget in budgets]
print(json.dumps([[[bits.weight, bits.activation] for bits in plan.policy.layers.values()] for plan in plans]))
print(*[plan.way for plan in plans])
"""


def test_the_same_search_gives_the_same_policy_in_every_process_also_among_equal_objectives(run_python):
    first, second = (run_python(TIES, PYTHONHASHSEED=seed).stdout for seed in ("1", "2"))
    assert first.endswith("enumeration enumeration HiGHS\n")
    assert second == first


@pytest.mark.parametrize(("largest", "multiple_of"), [(9, 1), (10**9, 1), (40, 147_456)])
def test_steps_in_another_unit_give_the_same_policy(drawn_network, largest, multiple_of):
    for seed in range(12):
        drawn = drawn_network(random.Random(seed), [(largest, multiple_of)])
        kinds = KINDS[1 + seed % 2][seed % 3]
        budget = drawn.budget({kind: int(drawn.values[kind][drawn.target]) for kind in kinds})
        plan = search(drawn.indicators, budget)
        for power in range(-6, 7):
            again = search(scaled(drawn.indicators, 10.0**power), budget)
            assert again.policy == plan.policy
            assert again.objective == pytest.approx(plan.objective * 10.0**power)


def test_layers_in_another_order_get_the_same_bits(drawn_network):
    for seed in range(60):
        rng = random.Random(seed)
        drawn = drawn_network(rng, SIZES)
        # Few different steps, so that many policies lose the same.
        coarse = replace(
            drawn.indicators,
            **{
                kind: {
                    name: {bits: math.ceil(step * 64) / 64 for bits, step in of_layer.items()}
                    for name, of_layer in getattr(drawn.indicators, kind).items()
                }
                for kind in ("weight_steps", "activation_steps")
            },
        )
        names = list(coarse.costs)
        rng.shuffle(names)
        shuffled = replace(
            coarse,
            costs={name: coarse.costs[name] for name in names},
            weight_steps={name: coarse.weight_steps[name] for name in names if name in coarse.weight_steps},
        )
        kinds = KINDS[1 + seed % 3 if seed < 12 else 1 + seed % 2][0]
        budget = drawn.budget({kind: int(drawn.values[kind][drawn.target]) for kind in kinds})
        plan, again = search(coarse, budget), search(shuffled, budget)
        assert dict(again.policy.layers) == dict(plan.policy.layers)
        assert list(again.policy.layers) == names


@pytest.mark.parametrize("kinds", [*KINDS[1], *KINDS[2]], ids="+".join)
def test_the_objective_falls_as_a_budget_grows_and_never_rises(drawn_network, kinds):
    for seed in range(8):
        drawn = drawn_network(random.Random(seed), SIZES)
        fixed = {kind: int(np.median(drawn.values[kind])) for kind in kinds[1:]}
        met = np.full(len(drawn.outcomes.objective), True)
        for kind, limit in fixed.items():
            met &= drawn.values[kind] <= limit
        values = np.sort(drawn.values[kinds[0]][met])
        limits = values[np.linspace(0, len(values) - 1, 12).astype(int)]
        plans = [search(drawn.indicators, drawn.budget({kinds[0]: int(limit)} | fixed)) for limit in limits if limit]
        exact = [exact_objective(drawn.indicators, plan.policy) for plan in plans]
        assert all(more <= less for less, more in itertools.pairwise(exact))
        assert len(set(exact)) > 1


def test_bits_that_cost_more_and_lose_as_much_change_nothing(drawn_network):
    changed = 0
    for seed in range(60):
        drawn = drawn_network(random.Random(seed), SIZES)
        kinds = [("bitops",), ("size",), ("bitops", "size")][seed % 3]
        budget = drawn.budget({kind: int(drawn.values[kind][drawn.target]) for kind in kinds})
        more = {
            kind: {
                name: {**steps, max(steps) + 1: steps[max(steps)]}
                for name, steps in getattr(drawn.indicators, kind).items()
            }
            for kind in ("weight_steps", "activation_steps")
        }
        plan = search(drawn.indicators, budget)
        assert search(replace(drawn.indicators, **more), budget).policy == plan.policy
        changed += plan.policy != drawn.indicators.most_bits()
    assert changed > 50


def test_objectives_that_differ_by_a_hundred_millionth_are_told_apart(network):
    # Either "b" or "c" may have 4 bits; the large step of "a" must not drown what tells them apart.
    indicators = network(
        {"a": {2: 1.0, 4: 0.1}, "b": {2: 2e-4, 4: 1e-4}, "c": {2: 2.0001e-4, 4: 1e-4}},
        {name: {4: 0.1} for name in "abc"}, macs=1, alpha=1.0,
    )  # fmt: skip
    plan = search(indicators, Budget(bitops=16 + 16 + 8))
    assert [bits.weight for bits in plan.policy.layers.values()] == [4, 2, 4]


def test_a_search_with_few_candidates_says_how_it_was_proven(network):
    indicators = network({name: {2: 0.3, 4: 0.1} for name in "abc"})
    table = {name: {(w, a): w + a for w in (2, 4) for a in (2, 4)} for name in "abc"}
    assert search(indicators, Budget(bitops="w4a4")).way == "enumeration"
    assert search(indicators, Budget(bitops="w4a4", compression=8)).way == "enumeration"
    assert search(indicators, Budget(bitops="w4a4", size="1MB", latency=(table, 24))).way == "HiGHS"


def test_a_plan_that_an_earlier_version_proved_with_another_solver_is_still_read(network):
    plan = search(network({"a": {2: 0.3, 4: 0.1}}), Budget(bitops="w4a4"))
    stored = plan.to_json() | {"way": "another solver"}
    assert Plan.from_json(stored) == replace(plan, way="another solver")


def test_a_network_of_fixed_layers_has_nothing_to_choose(network):
    indicators = network({}, fixed={"stem": (8, 8), "head": (8, 8)}, macs=1)
    plan = search(indicators, Budget(bitops=128))
    assert (plan.bitops, plan.objective, plan.optimal) == (128, 0, True)
    with pytest.raises(InfeasibleBudgetError, match=r'^bitops="127" cannot be met'):
        search(indicators, Budget(bitops=127))


@pytest.mark.parametrize("diverged", [1e6, 1e12, 1e15, 1e16, 1e30])
@pytest.mark.parametrize("constraints", [1, 3])
def test_a_step_that_diverged_changes_neither_the_plan_nor_its_second_best(network, diverged, constraints):
    def searched(step):
        steps = {name: {2: 0.8, 4: 0.2, 8: 0.01} for name in "abc"}
        indicators = network({**steps, "a": {**steps["a"], 2: step}}, steps)
        table = {"a": {(weight, activation): 1 for weight in steps["a"] for activation in steps["a"]}}
        others = {"size": 150, "latency": (table, 3)} if constraints == 3 else {}
        return search(indicators, Budget(bitops=100_000, **others))

    # By hand: 2 bits of that layer's weights are in neither policy.
    usual, beside = searched(0.9), searched(diverged)
    assert usual.policy.layers["a"].weight > 2
    assert (beside.objective, beside.optimal) == (pytest.approx(usual.objective, rel=1e-12), True)
    behind = usual.certificate.second_best.objective_behind
    assert beside.certificate.second_best.objective_behind == pytest.approx(behind, abs=1e-9)
