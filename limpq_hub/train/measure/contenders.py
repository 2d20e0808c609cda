"""The policies that a comparison sets beside the one of a search, all within the same budget, and random ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType

from limpq_hub.errors import (
    BudgetError,
    InfeasibleBudgetError,
    LimpqError,
    PolicyError,
    SearchError,
    TrainingError,
    quoted,
)
from limpq_hub.plan.baseline_policies import random_policy, reversed_importance, uniform_filled, uniform_splits
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.budget_check import fits_of
from limpq_hub.plan.constraints.bitops import bitops_allowed
from limpq_hub.plan.deadline import NOT_IN_TIME, NotInTimeError
from limpq_hub.plan.importance import APART, Importance
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import Policy
from limpq_hub.train.measure.criteria import APART_OF
from limpq_hub.train.settings import CorrelateOver
from limpq_hub.zoo.planning import search


def check_contenders(
    only: Sequence[str],
    indicators: Indicators,
    bitops: str,
    random_policies: int,
    criteria: Iterable[str],
    given: Collection[str],
) -> None:
    """Check the names of policies before any is searched; `contenders` says what the arguments are.

    Raises:
        TrainingError: one of `only` would not be there, one that is given would be left out, or is called as another.
    """
    names = _choices(indicators, bitops, random_policies, lambda policy: 0.0, dict.fromkeys(criteria, indicators))
    for name in only:
        if name not in (*names, *given):
            raise TrainingError(f"--contenders {quoted(name)} is none of {', '.join(map(quoted, (*names, *given)))}")
    for name in given:
        if name in names:
            raise TrainingError(f"--policies: {quoted(name)} is what another policy is called: choose another name")
        if only and name not in only:
            raise TrainingError(f"--policies: {quoted(name)} is not among --contenders: add it, or leave the file out")


def contenders(
    indicators: Indicators,
    bitops: str,
    random_policies: int,
    divergence: Callable[[Policy], float],
    criteria: Mapping[str, Indicators],
    *,
    given: Mapping[str, Policy] = MappingProxyType({}),
    only: Sequence[str] = (),
    left_out: Callable[[str, LimpqError], None] = lambda name, why: None,
) -> dict[str, Policy]:
    """Return the policies to compare at a budget, by what they are called, in the order of the table.

    First is the one that a search returns, where it is not left out by `only`.

    Args:
        random_policies: how many of them are random.
        divergence: from the float network, in nats; chooses among the uniform splits.
        criteria: indicators measured by other criteria, by their names; a search in each gives a policy.
        given: policies that were chosen elsewhere, by their names.
        only: names of those to return, see `check_contenders`; all if empty.
        left_out: called with the name of each that the budget does not allow, and why.

    Raises:
        InfeasibleBudgetError: the search of the indicators finds nothing within the budget.
        TrainingError: the budget does not allow one of `only`.
    """
    choices = _choices(indicators, bitops, random_policies, divergence, criteria)
    choices |= {name: partial(given.__getitem__, name) for name in given}
    policies: dict[str, Policy] = {}
    for name, choose in choices.items():
        if only and name not in only:
            continue
        try:
            policies[name] = choose()
        except (BudgetError, InfeasibleBudgetError, PolicyError) as error:
            if only:
                raise TrainingError(f"--contenders {quoted(name)} cannot be at {bitops}: {error}") from error
            if not policies:
                raise
            left_out(name, error)
    return policies


def _choices(
    indicators: Indicators,
    bitops: str,
    random_policies: int,
    divergence: Callable[[Policy], float],
    criteria: Mapping[str, Indicators],
) -> dict[str, Callable[[], Policy]]:
    """Return a function that makes each policy, by its name; the first searches by the objective of the indicators."""
    fits = fits_of(indicators, Budget(bitops=bitops))

    def searched(of: Indicators, importance: Importance | None = None) -> Policy:
        """Return the policy that a search within the budget finds; any bits are a choice by another importance."""
        apart = None if importance is None else max(APART)
        try:
            return search(of, bitops=bitops, importance=importance, apart=apart).policy
        except NotInTimeError:  # no option of a training gives it a gap, or more time
            raise SearchError(f"--bitops {bitops}: {NOT_IN_TIME}; give a slightly other one") from None

    choices: dict[str, Callable[[], Policy]] = {_name(indicators): partial(searched, indicators)}
    others: list[Importance] = ["learned", "measured"] if indicators.divergences else ["learned"]
    choices |= {name: partial(searched, indicators, name) for name in others if name not in choices}
    choices |= {name: partial(searched, measured) for name, measured in criteria.items() if name not in choices}
    choices["uniform filled"] = lambda: uniform_filled(indicators, fits)
    choices["uniform, best split"] = lambda: min(uniform_splits(indicators, fits), key=divergence)
    for seed in range(random_policies):
        choices[f"random, seed {seed}"] = partial(random_policy, indicators, fits, seed)
    choices["reversed"] = lambda: searched(reversed_importance(indicators))
    return choices


def _name(indicators: Indicators) -> str:
    """Return what the policy of a search is called: its importance, and how near bits are held, as a criterion."""
    words = {apart: word for word, apart in APART_OF.items()}
    return f"{indicators.objective}{words.get(indicators.apart, f':{indicators.apart}')}"


def bitops_limit(indicators: Indicators, bitops: str) -> int:
    """Return the BitOps of a budget as a whole number."""
    return bitops_allowed(Budget(bitops=bitops).bitops, indicators)


def random_policies_to_correlate(
    indicators: Indicators, bitops: str, count: int, over: Collection[CorrelateOver]
) -> dict[str, list[Policy]]:
    """Return random policies to rank by an objective, by the name of where they are.

    Args:
        bitops: the budget of those at one budget.
        count: how many of each kind.
        over: "budget" for those within that budget, "range" for budgets spread over the whole range.
    """
    least, most = indicators.bitops_range()
    limits = {}
    if "budget" in over:
        limits[f"at {bitops}"] = [bitops_limit(indicators, bitops)] * count
    if "range" in over:
        limits["over all budgets"] = [least + (most - least) * (place + 1) // (count + 1) for place in range(count)]
    # What fits is worked out once where one limit follows the same.
    fits = lru_cache(maxsize=1)(lambda limit: fits_of(indicators, Budget(bitops=limit)))
    return {
        name: [random_policy(indicators, fits(limit), 1000 + seed) for seed, limit in enumerate(limits_of_name)]
        for name, limits_of_name in limits.items()
    }
