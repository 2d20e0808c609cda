"""The measured alpha: of least geometric mean over budgets halfway between uniform policies."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.train.measure import alpha as _alpha
from limpq_hub.train.measure.alpha import ALPHAS, with_measured_alpha


def indicators_of(*candidates: int) -> Indicators:
    """Return those of layers of 10, 20 and 40 MACs between a first and a last one of 5, fixed at 8 bits."""
    macs = {"first": 5, "small": 10, "middle": 20, "large": 40, "last": 5}
    ends = LayerBits(8, 8)
    costs = {
        name: LayerCost(count, count, count, count, False, ends if count == 5 else None) for name, count in macs.items()
    }
    weights = {"small": 0.5, "middle": 0.1, "large": 0.2}
    activations = {"small": 0.1, "middle": 0.9, "large": 0.3}
    weight_steps, activation_steps = (
        {name: {bits: scale * 2.0**-bits for bits in candidates} for name, scale in scales.items()}
        for scales in (weights, activations)
    )
    return Indicators("net", 32, 4, costs, weight_steps, activation_steps, alpha=7.0, provenance={"seed": 3})


class Noted:
    """Gives the divergences that a function says, and notes of which policies."""

    def __init__(self, divergence_of) -> None:
        self.divergence_of, self.policies = divergence_of, []

    def __call__(self, policy) -> float:
        self.policies.append(policy)
        return self.divergence_of(policy)


@pytest.fixture
def plans_name_alpha_and_budget(monkeypatch):
    """Let the search return the alpha and the budget that it was given, instead of a policy."""
    monkeypatch.setattr(
        _alpha, "search", lambda indicators, budget, *, alpha: SimpleNamespace(policy=(alpha, budget.bitops))
    )


# 70 MACs are searched, 10 are fixed at 8 x 8 bits: 640 BitOps, then 280, 630, 1120, 1750 or 2520 at 2 to 6 bits.
@pytest.mark.parametrize(
    ("candidates", "budgets"),
    [
        ((6, 5, 4, 3, 2), [920 + 175, 1270 + 245, 1760 + 315]),
        ((2, 4, 3), [920 + 175]),
        ((6, 2), [(920 + 3160) // 2]),
        ((4,), [1760]),
    ],
)
def test_budgets_lie_halfway_between_uniform_policies_the_largest_pair_left_out(
    plans_name_alpha_and_budget, candidates, budgets
):
    divergence = Noted(lambda policy: 1.0)
    with_measured_alpha(indicators_of(*candidates), divergence)
    assert divergence.policies == [(alpha, budget) for alpha in ALPHAS for budget in budgets]


@pytest.mark.parametrize(
    ("candidates", "outliers", "budgets"),
    [
        # 2 bits of the large layer are outliers: 640 + 2 x 2 x 30 + 3 x 3 x 40 = 1120 BitOps at the least.
        ((4, 3, 2), ["large"], [1270 + 245]),
        ((5, 4, 3, 2), ["large"], [1270 + 245]),
        # Nothing below the most bits is left to trade.
        ((3, 2), ["small", "middle", "large"], [1270]),
    ],
)
def test_budgets_that_outliers_put_out_of_reach_are_not_measured(monkeypatch, candidates, outliers, budgets):
    indicators = indicators_of(*candidates)
    smaller = {name: {2: 2.0**-8} for name in outliers}
    weight_steps, activation_steps = (
        {name: {**steps, **smaller.get(name, {})} for name, steps in of_kind.items()}
        for of_kind in (indicators.weight_steps, indicators.activation_steps)
    )
    searched, search = [], _alpha.search

    def noted(indicators, budget, *, alpha):
        searched.append((alpha, budget.bitops))
        return search(indicators, budget, alpha=alpha)

    monkeypatch.setattr(_alpha, "search", noted)
    indicators = replace(indicators, weight_steps=weight_steps, activation_steps=activation_steps)
    with_measured_alpha(indicators, lambda policy: 1.0)
    assert searched == [(alpha, budget) for alpha in ALPHAS for budget in budgets]


def test_the_alpha_of_the_least_geometric_mean_is_taken_not_that_of_the_least_sum(plans_name_alpha_and_budget):
    given = {alpha: [1.0, 1.0, 1.0] for alpha in ALPHAS}
    given |= {0.3: [0.4, 0.4, 0.4], 4.0: [0.01, 0.9, 0.9]}  # geometric means 0.4 and 0.20, sums 1.2 and 1.81
    budgets = 1095, 1515, 2075
    table = {(alpha, budget): given[alpha][place] for alpha in ALPHAS for place, budget in enumerate(budgets)}
    indicators = indicators_of(6, 5, 4, 3, 2)
    found, record = with_measured_alpha(indicators, Noted(table.get))
    assert found.alpha == 4.0
    assert record == {f"{alpha:g}": given[alpha] for alpha in ALPHAS}
    assert found.to_json() == indicators.to_json() | {"alpha": 4.0}


@pytest.mark.parametrize(("best", "measured_to"), [(16.0, 32.0), (32.0, 64.0), (200.0, 512.0), (1e9, 4096.0)])
def test_beyond_the_largest_alpha_it_is_doubled_while_that_helps(plans_name_alpha_and_budget, best, measured_to):
    divergence = Noted(lambda policy: 1 + abs(np.log(policy[0] / best)))
    found, record = with_measured_alpha(indicators_of(4, 3, 2), divergence)
    alphas = [float(alpha) for alpha in record]
    assert alphas[: len(ALPHAS)] == list(ALPHAS)
    assert all(
        alpha == 2 * before for before, alpha in zip(alphas[len(ALPHAS) - 1 :], alphas[len(ALPHAS) :], strict=False)
    )
    assert alphas[-1] == measured_to
    assert found.alpha == min(alphas, key=lambda alpha: abs(np.log(alpha / best)))


def test_the_first_of_equal_alphas_is_taken(plans_name_alpha_and_budget):
    found, _ = with_measured_alpha(indicators_of(4, 3, 2), Noted(lambda policy: 0.5))
    assert found.alpha == ALPHAS[0] == min(ALPHAS)


def test_policies_as_good_as_float_are_no_error(plans_name_alpha_and_budget):
    found, record = with_measured_alpha(
        indicators_of(4, 3, 2), Noted(lambda policy: {0.3: 0.0, 1.0: -1e-8}.get(policy[0], 1e-3))
    )
    assert found.alpha == 0.3
    assert (record["0.3"], record["2"]) == ([0.0], [0.001])


def test_divergences_are_recorded_to_five_places(plans_name_alpha_and_budget):
    _, record = with_measured_alpha(indicators_of(4, 3, 2), Noted(lambda policy: 0.123456789))
    assert record == {f"{alpha:g}": [0.12346] for alpha in ALPHAS}


def test_policies_that_the_search_finds_are_measured_at_each_alpha():
    """The divergence counts the bits of weights: the alpha wins whose policies have most of them."""
    indicators = indicators_of(4, 3, 2)

    def weight_bits(policy: Policy) -> int:
        return sum(bits.weight for bits in policy.layers.values())

    divergence = Noted(lambda policy: 1 / weight_bits(policy))
    found, record = with_measured_alpha(indicators, divergence)
    assert all(isinstance(policy, Policy) for policy in divergence.policies)
    given = [weight_bits(policy) for policy in divergence.policies]
    assert len(set(given)) > 1
    assert found.alpha == float(list(record)[int(np.argmax(given))])
    assert [float(values[0]) for values in record.values()] == pytest.approx([1 / bits for bits in given], abs=1e-5)
