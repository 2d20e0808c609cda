"""The certificate of a search: worked out by hand for three layers, and beside all policies by brute force."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
from dataclasses import replace

import pytest

from limpq_hub.errors import PolicyError, SearchError
from limpq_hub.plan import certification
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops

PAIRS = [LayerBits(weight, activation) for weight in (2, 4) for activation in (2, 4)]
# In nats, at 2/2, 2/4, 4/2 and 4/4 bits.
BY_HAND = {"a": (0.9, 0.5, 0.4, 0.0), "b": (0.3, 0.35, 0.25, 0.125), "c": (0.5, 0.25, 0.375, 0.0)}


@pytest.fixture
def three(network):
    """Three layers of 10, 30 and 20 MACs, one MAC more fixed at 8/8 bits, pairs as measured by hand."""
    steps = {name: {2: 0.5, 4: 0.25} for name in BY_HAND}
    macs = {"a": 10, "b": 30, "c": 20, "head": 1}
    weights = dict.fromkeys(macs, 8)
    indicators = network(steps, steps, macs=macs, weights=weights, fixed={"head": (8, 8)}, alpha=2.0)
    pairs = {name: dict(zip(PAIRS, values, strict=True)) for name, values in BY_HAND.items()}
    return replace(indicators, divergences=pairs, objective="measured")


def test_the_certificate_of_three_layers_is_that_of_the_hand(three):
    # 64 BitOps are fixed. Pairs take 4, 8, 8 and 16 per MAC; 560 are left for the three layers, of the 240 that all
    # take at 2/2 to the 960 at 4/4:
    #   a 4/4 (160) + b 2/2 (120) + c 2/4 (160) = 440, 0 + 0.3 + 0.25 = 0.55
    #   a 4/4 (160) + b 4/2 (240) + c 2/4 (160) = 560, 0 + 0.25 + 0.25 = 0.5, the best
    #   a 4/2 (80) + b 2/2 (120) + c 4/4 (320) = 520, 0.4 + 0.3 + 0 = 0.7
    #   all at 4/2 or 2/4: 480, 1.025 and 1.1; all at 2/2: 1.7; all at 4/4: over the budget.
    plan = search(three, Budget(bitops=64 + 560))
    assert [plan.policy.layers[name] for name in "abc"] == [LayerBits(4, 4), LayerBits(4, 2), LayerBits(2, 4)]
    certificate = plan.certificate
    assert (certificate.bound, certificate.gap) == (0.5, 0.0)
    second, uniform = certificate.second_best, certificate.best_uniform
    assert [second.policy.layers[name] for name in "abc"] == [LayerBits(4, 4), LayerBits(2, 2), LayerBits(2, 4)]
    assert (second.objective_behind, second.kl_behind) == pytest.approx((0.05, 0.05))
    assert {uniform.policy.layers[name] for name in "abc"} == {LayerBits(4, 2)}
    assert uniform.policy.layers["head"] == LayerBits(8, 8)
    assert (uniform.objective_behind, uniform.kl_behind) == pytest.approx((0.525, 0.525))
    assert certificate.lines() == [
        "no policy within the budget has a smaller objective",
        "second best policy: objective +0.050000, +0.050000 nats",
        "best uniform policy: objective +0.525000, +0.525000 nats",
    ]
    content = json.loads(json.dumps(certificate.to_json(), allow_nan=False))
    assert Policy.from_json(content["second_best"]["policy"]) == second.policy
    assert content["best_uniform"]["kl_behind"] == uniform.kl_behind


def test_the_learned_objective_is_told_in_expected_divergence_too(three):
    # All layers have the same steps: 1.5 at 2/2 bits, 1.25 at 2/4, 1.0 at 4/2, 0.75 at 4/4. All at 4/2 fill the budget.
    plan = search(three, Budget(bitops=64 + 480), importance="learned")
    assert {plan.policy.layers[name] for name in "abc"} == {LayerBits(4, 2)}
    certificate = plan.certificate
    assert certificate.best_uniform.policy == plan.policy
    assert certificate.best_uniform.objective_behind == 0.0
    second = certificate.second_best
    # a at 4/4 and b at 4/2 leave 80 for c: 2/2 (0.75 + 1 + 1.5 = 3.25); so do a at 2/4 and the rest at 4/2 (3.25).
    assert second.objective_behind == pytest.approx(0.25)
    expected = sum(three.divergences[name][second.policy.layers[name]] for name in "abc") - (0.4 + 0.25 + 0.375)
    assert second.kl_behind == pytest.approx(expected)


def test_without_measured_pairs_nothing_is_said_of_divergence(three):
    plan = search(replace(three, divergences={}, objective="learned"), Budget(bitops=64 + 560))
    certificate = plan.certificate
    assert certificate.second_best.kl_behind is certificate.best_uniform.kl_behind is None
    assert "nats" not in " ".join(certificate.lines())


def all_policies(indicators, budget: int) -> list[tuple[float, tuple[LayerBits, ...]]]:
    """Return objective and bits of every policy within a budget of BitOps, the best first."""
    names = list(indicators.weight_steps)
    policies = []
    for pairs in itertools.product(*(indicators.divergences[name] for name in names)):
        layers = dict(zip(names, pairs, strict=True)) | {"head": LayerBits(8, 8)}
        if total_bitops(indicators.costs, Policy("toynet", layers)) <= budget:
            parts = (indicators.importance(name, layers[name], indicators.alpha) for name in names)
            policies.append((math.fsum(parts), pairs))
    return sorted(policies)


@pytest.mark.parametrize("importance", ["learned", "measured"])
@pytest.mark.parametrize("seed", range(6))
def test_the_second_best_and_the_best_uniform_are_those_of_all_policies(network, seed, importance):
    rng = random.Random(seed)
    names = "abcd"[: 3 + seed % 2]
    steps = [{name: {2: 3 + rng.random(), 3: 2 + rng.random(), 4: rng.random()} for name in names} for _ in "wa"]
    macs = {name: rng.choice([3, 7, rng.randint(1, 40)]) for name in names} | {"head": 1}
    pairs = [LayerBits(weight, activation) for weight in (2, 3, 4) for activation in (2, 3, 4)]
    drawn = network(*steps, macs=macs, weights=dict.fromkeys(macs, 8), fixed={"head": (8, 8)})
    # Some cost the same: then the second best is as good as the best.
    divergences = {name: {bits: rng.choice([rng.random(), 0.25]) for bits in pairs} for name in names}
    indicators = replace(drawn, divergences=divergences, objective=importance)
    least, most = indicators.bitops_range()
    for share in (0.0, 0.05, 0.4, 0.8, 1.0):
        budget = round(least + share * (most - least))
        policies = all_policies(indicators, budget)
        plan = search(indicators, Budget(bitops=budget))
        certificate = plan.certificate
        assert plan.objective == pytest.approx(policies[0][0], rel=1e-12)
        second, uniform = certificate.second_best, certificate.best_uniform
        if len(policies) == 1:
            assert second is None
        else:
            assert second.objective_behind == pytest.approx(policies[1][0] - policies[0][0], abs=1e-9)
            assert second.policy != plan.policy
            assert (
                plan.objective + second.objective_behind,
                total_bitops(indicators.costs, second.policy) <= budget,
            ) == (
                pytest.approx(policies[1][0], rel=1e-9),
                True,
            )
        best_equal = next((objective for objective, bits in policies if len(set(bits)) == 1), None)
        assert best_equal is not None, "all layers at 2/2 bits are within every budget here"
        assert uniform.objective_behind == pytest.approx(best_equal - policies[0][0], abs=1e-9)


def test_what_a_search_may_not_choose_no_runner_up_has(three):
    plan = search(three, Budget(bitops=64 + 560), pin={"a": (2, 2)}, tie=[["b", "c"]])
    certificate = plan.certificate
    for runner_up in (certificate.second_best, certificate.best_uniform):
        assert runner_up.policy.layers["a"] == LayerBits(2, 2)
        assert runner_up.policy.layers["b"] == runner_up.policy.layers["c"]
    every = search(three, Budget(bitops=64 + 560), pin={"*": (2, 2)}).certificate
    assert (every.second_best, every.best_uniform) == (None, None)
    alone = search(three, Budget(bitops=64 + 560), pin={"b": (2, 2)}, candidates={"a": [2], "c": [4]}).certificate
    assert (alone.second_best, alone.best_uniform) == (None, None)


def test_a_layer_that_a_memory_leaves_one_pair_is_part_of_the_uniform_policy(network):
    # 80 inputs at 4 bits take 40 bytes: of equal bits "a" may only have 2, and so has all of a uniform policy.
    steps = {name: {2: 0.5, 4: 0.25} for name in "abc"}
    indicators = network(steps, macs=10, inputs={"a": 80, "b": 8, "c": 8}, alpha=1.0)
    plan = search(indicators, Budget(bitops=40 + 160 + 160, activation_memory=20), apart=0)
    assert [plan.policy.layers[name] for name in "abc"] == [LayerBits(2, 2), LayerBits(4, 4), LayerBits(4, 4)]
    uniform = plan.certificate.best_uniform
    assert {uniform.policy.layers[name] for name in "abc"} == {LayerBits(2, 2)}
    assert uniform.objective_behind == 1.0


def test_two_constraints_hold_for_the_runners_up_too(three):
    # 64 bits of weights are fixed: 72 more let one layer of the three have 4 bits.
    plan = search(three, Budget(bitops=64 + 560, size="17B"))
    allowed = [
        objective for objective, bits in all_policies(three, 64 + 560) if sum(8 * pair.weight for pair in bits) <= 72
    ]
    assert plan.objective == pytest.approx(allowed[0])
    second = plan.certificate.second_best
    assert second.objective_behind == pytest.approx(allowed[1] - allowed[0])
    assert sum(8 * second.policy.layers[name].weight for name in "abc") <= 72


def test_a_certificate_is_searched_for_once_and_survives_a_copy(three, monkeypatch):
    plan = search(three, Budget(bitops=64 + 560))
    assert copy.deepcopy(plan) == plan
    assert plan.certificate is plan.certificate
    monkeypatch.setattr(certification, "_second_best", lambda *arguments: pytest.fail("searched again"))
    assert plan.certificate.gap == 0.0


def test_only_a_search_has_a_certificate(three):
    plan = search(three, Budget(bitops=64 + 560))
    read = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert read == plan
    for other in (read, Plan.of_policy(three, plan.policy)):
        with pytest.raises(PolicyError, match="only a plan that limpq_hub.search returned has a certificate"):
            _ = other.certificate


def test_a_plan_that_is_not_proven_has_its_bound_and_no_second_best(three, monkeypatch):
    plan = search(three, Budget(bitops=64 + 560))
    unproven = replace(plan, bound=plan.objective - 0.125, optimal=False)
    problem, solution, *_ = plan.certify.args
    certificate = certification.certify(problem, replace(solution, bound=unproven.bound), unproven, 10)
    assert (certificate.bound, certificate.gap, certificate.second_best) == (0.375, 0.125, None)
    assert certificate.lines()[0].startswith("bound 0.375000")


def test_a_certificate_that_takes_too_long_says_so(three):
    plan = search(three, Budget(bitops=64 + 560))
    problem, solution, *_ = plan.certify.args
    with pytest.raises(
        SearchError, match="^the plan was found, its certificate was not: no proven optimum in time; raise t"
    ):
        certification.certify(problem, solution, plan, 1e-9)


def test_policies_that_only_rounding_tells_apart_are_level_in_a_certificate(network):
    # 0.3 + 0.3 as floats is less than 0.1 + 0.2 + 0.3, by one rounding.
    level = 0
    for seed in range(60):
        rng = random.Random(seed)
        steps = [
            {
                name: dict(
                    zip((2, 3, 4), sorted((rng.randint(1, 9) / 10 for _ in range(3)), reverse=True), strict=True)
                )
                for name in "abc"
            }
            for _ in "wa"
        ]
        indicators = network(*steps, macs={name: rng.choice([100, 200]) for name in "abc"}, alpha=1.0)
        least, most = indicators.bitops_range()
        certificate = search(indicators, Budget(bitops=rng.randint(least, most))).certificate
        for runner_up in (certificate.second_best, certificate.best_uniform):
            if runner_up is not None:
                # Sums of tenths: all that is less than a tenth is rounding.
                level += runner_up.objective_behind < 1e-6
                assert runner_up.objective_behind >= 0
        assert not any("+-" in line or "-0.000000" in line for line in certificate.lines())
    assert level > 5


def test_a_difference_below_what_is_shown_has_a_plus(three):
    certificate = search(three, Budget(bitops=64 + 560)).certificate
    second = replace(certificate.second_best, objective_behind=-1e-12, kl_behind=-1e-12)
    lines = replace(certificate, second_best=second).lines()
    assert lines[1] == "second best policy: objective +0.000000, +0.000000 nats"
    second = replace(certificate.second_best, objective_behind=-0.25, kl_behind=-0.125)
    lines = replace(certificate, second_best=second).lines()
    assert lines[1] == "second best policy: objective -0.250000, -0.125000 nats"


def test_the_second_best_is_told_beside_a_layer_that_loses_enormously_much_whatever_it_gets(three):
    huge = dict.fromkeys(PAIRS, 1e17)
    plain = search(three, Budget(bitops=64 + 560))
    beside = search(replace(three, divergences={**three.divergences, "b": huge}), Budget(bitops=64 + 560))
    without_b = search(
        replace(three, divergences={**three.divergences, "b": dict.fromkeys(PAIRS, 0.0)}), Budget(bitops=624)
    )
    assert plain.certificate.second_best.objective_behind == pytest.approx(0.05)
    assert beside.policy == without_b.policy
    expected, found = without_b.certificate, beside.certificate
    assert found.second_best.objective_behind == expected.second_best.objective_behind
    assert found.best_uniform.policy == expected.best_uniform.policy
    assert found.best_uniform.objective_behind == expected.best_uniform.objective_behind > 0
