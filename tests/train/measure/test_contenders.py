"""Which policies a comparison has at a budget: those that cannot be are left out, unless they were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from limpq_hub.errors import InfeasibleBudgetError, TrainingError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.budget_check import fits_of
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.train.measure import contenders as contenders_module
from limpq_hub.train.measure.contenders import contenders, random_policies_to_correlate

COST = LayerCost(macs=10, macs_limpq=10, weights=8, inputs=8, signed=False)
UNIFORM = ["uniform filled", "uniform, best split"]


@pytest.fixture
def coupled() -> Indicators:
    """Two layers whose 2 bits have a smaller step than their 4: only a search that adds up coupled steps takes them."""
    steps = {name: {4: 0.2, 2: 0.1} for name in "ab"}
    return Indicators("toynet", 8, 2, dict.fromkeys("ab", COST), steps, steps, alpha=1.0, objective="coupled")


@pytest.fixture
def uneven(coupled) -> Indicators:
    """Two layers that learned no bit-width in common."""
    steps = {"a": {6: 0.1, 4: 0.2}, "b": {5: 0.1, 3: 0.2}}
    return replace(coupled, weight_steps=steps, activation_steps=steps)


def found(indicators: Indicators, bitops: str, **options) -> tuple[list[str], dict[str, str]]:
    """Return the names of the policies, and why others are left out."""
    left_out: dict[str, str] = {}
    policies = contenders(
        indicators,
        bitops,
        1,
        lambda policy: 0.0,
        {},
        left_out=lambda name, why: left_out.update({name: str(why)}),
        **options,
    )
    return list(policies), left_out


def test_all_are_there_where_the_budget_allows_all(coupled):
    assert found(coupled, "320") == (["coupled", "learned", *UNIFORM, "random, seed 0", "reversed"], {})


def test_a_search_that_finds_nothing_where_the_one_that_was_asked_for_does_is_left_out(coupled):
    names, left_out = found(coupled, "80")
    assert names == ["coupled", *UNIFORM, "random, seed 0", "reversed"]
    assert list(left_out) == ["learned"]
    assert "needs at least 320" in left_out["learned"]


def test_uniform_bits_are_left_out_where_layers_have_none_in_common(uneven):
    names, left_out = found(uneven, "500")
    assert names == ["coupled", "learned", "random, seed 0", "reversed"]
    assert left_out == dict.fromkeys(
        UNIFORM, "the layers learned no bit-width in common, so no policy has equal bits; compare with a random one"
    )


def test_one_that_was_asked_for_and_cannot_be_is_refused(coupled):
    with pytest.raises(TrainingError, match="^--contenders 'learned' cannot be at 80: .* needs at least 320"):
        found(coupled, "80", only=["coupled", "learned"])
    assert found(coupled, "80", only=["coupled", "reversed"]) == (["coupled", "reversed"], {})


def test_a_budget_that_nothing_meets_has_no_contenders(coupled):
    with pytest.raises(InfeasibleBudgetError):
        found(coupled, "79")


def test_random_policies_of_one_limit_share_what_fits_it(coupled, monkeypatch):
    limits = []

    def counted(indicators: Indicators, budget: Budget) -> Callable[[Policy], bool]:
        limits.append(budget.bitops)
        return fits_of(indicators, budget)

    monkeypatch.setattr(contenders_module, "fits_of", counted)
    drawn = random_policies_to_correlate(coupled, "160", 5, ["budget", "range"])
    assert len(limits) == 6
    assert limits[0] == 160
    for limit, policies in (
        (160, drawn["at 160"]),
        *((limits[1 + n], drawn["over all budgets"][n : n + 1]) for n in range(5)),
    ):
        assert all(Plan.of_policy(coupled, policy).bitops <= limit for policy in policies)
