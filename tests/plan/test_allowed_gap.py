"""An allowed gap holds for all that a search, a frontier and a comparison solve, and is advised only where it helps."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from limpq_hub.errors import InfeasibleBudgetError, SearchError
from limpq_hub.plan.baseline_policies import policies_to_compare
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.frontier_search import search_frontier
from limpq_hub.plan.optimum import search
from limpq_hub.plan.solver import integer_programme
from limpq_hub.plan.solver.integer_programme import NoProofError, solve_with_highs

BITS = (2, 3, 4)
# What the stubborn HiGHS proves of the best choice, as a share of its cost.
PROVEN = 0.9
SEVERAL = "no proven optimum in time of one of several searches; allow all of them a larger gap by allow_gap="


@pytest.fixture
def drawn(random_network):
    return random_network(random.Random(0), layers=4, candidates=BITS, largest=1000)


@pytest.fixture
def limits(drawn):
    """Two tables whose least the fewest bits do not take, and a size: with BitOps four constraints, so HiGHS solves."""
    rng = random.Random(1)
    tables = [
        {name: {(w, a): rng.randint(1, 99) for w in BITS for a in BITS} for name in drawn.weight_steps} for _ in "le"
    ]
    latency, energy = ((table, sum(sorted(row.values())[5] for row in table.values())) for table in tables)
    return {"size": 10**6, "latency": latency, "energy": energy}


@pytest.fixture
def stubborn_highs(monkeypatch):
    """Make HiGHS find every best choice, and prove nine tenths of its cost in all of the time."""

    def stubborn(costs, constraints, deadline, options=None, allow_gap=0.0):
        choice = solve_with_highs(costs, constraints, deadline, options)
        if choice is None:
            return None
        cost = sum(of_group[option] for of_group, option in zip(costs, choice, strict=True))
        raise NoProofError(choice, PROVEN * float(cost))

    monkeypatch.setattr(integer_programme, "solve_with_highs", stubborn)


def test_with_an_allowed_gap_everything_that_searches_has_an_answer(drawn, limits, stubborn_highs):
    plan = search(drawn, Budget(bitops="w4a4", **limits), allow_gap="20%")
    assert plan.bound == pytest.approx(PROVEN * plan.objective)
    assert not plan.optimal
    assert search_frontier(drawn, 4, budget=Budget(bitops="w4a4", **limits), allow_gap="20%")
    assert "reversed" in policies_to_compare(drawn, Budget(bitops="w4a4", **limits), allow_gap="20%")


def test_the_second_best_of_an_allowed_gap_says_how_much_better_another_may_be(drawn, limits, monkeypatch, request):
    budget = Budget(bitops="w4a4", **limits)
    proven, plan = (search(drawn, budget, allow_gap=gap) for gap in (None, 1e-9))
    assert plan.optimal
    second = proven.certificate.second_best
    assert (second.gap, "gap" in proven.certificate.to_json()["second_best"]) == (0.0, False)
    request.getfixturevalue("stubborn_highs")
    near = search(drawn, budget, allow_gap="20%")
    problem, solution, *_ = plan.certify.args
    certificate = near.certify.func(problem, solution, plan, 10, 0.2)
    assert certificate.second_best.objective_behind == pytest.approx(second.objective_behind)
    # A tenth of the objective of the second best was not proven.
    assert certificate.second_best.gap == pytest.approx((1 - PROVEN) * (plan.objective + second.objective_behind))
    assert certificate.to_json()["second_best"]["gap"] == certificate.second_best.gap
    assert certificate.lines()[1].endswith(f", to a gap of {certificate.second_best.gap:.6f}")


def test_without_one_a_gap_is_advised_and_the_advice_is_true(drawn, limits, stubborn_highs):
    budget = Budget(bitops="w4a4", **limits)
    with pytest.raises(SearchError, match="; allow_gap=(0.1|0.11) takes it, or raise time_limit_s=") as caught:
        search(drawn, budget)
    advised = str(caught.value).partition("allow_gap=")[2].partition(" ")[0]
    assert Fraction(advised) >= 1 - Fraction(PROVEN)
    assert search(drawn, budget, allow_gap=float(advised))


def test_the_gap_of_one_of_several_searches_is_not_advised_for_all_of_them(drawn, limits, stubborn_highs):
    budget = Budget(bitops="w4a4", **limits)
    for searches in (
        lambda **options: search_frontier(drawn, 4, budget=budget, **options),
        lambda **options: policies_to_compare(drawn, budget, **options),
    ):
        for gap in (None, 0.05):
            with pytest.raises(SearchError, match=f"^{SEVERAL}, or raise time_limit_s="):
                searches(allow_gap=gap)
        assert searches(allow_gap=0.11)


def test_a_certificate_that_is_not_proven_in_time_says_that_the_plan_was_found(drawn, limits, request):
    plan = search(drawn, Budget(bitops="w4a4", **limits))
    problem, solution, *_ = plan.certify.args
    request.getfixturevalue("stubborn_highs")
    for gap, why in ((0.0, "no proven optimum in time; "), (0.05, f"{SEVERAL}, or ")):
        message = f"^the plan was found, its certificate was not: {why}raise time_limit_s=, or use fewer candidates$"
        with pytest.raises(SearchError, match=message):
            plan.certify.func(problem, solution, plan, 10, gap)


def test_a_comparison_takes_no_candidates_and_advises_none(drawn, limits, stubborn_highs):
    with pytest.raises(SearchError, match=f"^{SEVERAL}, or raise time_limit_s=$"):
        policies_to_compare(drawn, Budget(bitops="w4a4", **limits))
    with pytest.raises(SearchError, match="^no proven optimum in time; raise time_limit_s=$"):
        policies_to_compare(drawn, Budget(bitops="w4a4", **limits), time_limit_s=1e-9)


def test_the_least_budget_that_works_is_proven_whatever_gap_is_allowed(drawn, limits, monkeypatch, request):
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(drawn, Budget(bitops=1, **limits), allow_gap="20%")
    assert search(drawn, Budget(bitops=caught.value.minimum, **limits)).bitops == caught.value.minimum
    with pytest.raises(InfeasibleBudgetError):
        search(drawn, Budget(bitops=caught.value.minimum - 1, **limits))
    request.getfixturevalue("stubborn_highs")
    # No gap leads to it, so none is advised.
    for gap in (None, "20%"):
        with pytest.raises(SearchError, match="^no proven optimum in time; raise time_limit_s=, or use fewer candidat"):
            search(drawn, Budget(bitops=1, **limits), allow_gap=gap)
