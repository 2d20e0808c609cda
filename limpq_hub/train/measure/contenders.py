"""The policies that a comparison sets beside the one of a search, all within the same budget, and random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from limpq_hub.plan.baseline_policies import random_policy, reversed_importance, uniform_filled, uniform_splits
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.zoo.planning import search


def contenders(
    indicators: Indicators,
    bitops: str,
    random_policies: int,
    divergence: Callable[[Policy], float],
    criteria: Mapping[str, Indicators],
) -> dict[str, Policy]:
    """Return the policies to compare at a budget, by what they are called; first the one that a search returns.

    Args:
        random_policies: how many of them are random.
        divergence: from the float network, in nats; chooses among the uniform splits.
        criteria: indicators measured by other criteria, by their names; a search in each gives a policy.
    """
    limit = bitops_limit(indicators, bitops)

    def fits(policy: Policy) -> bool:
        return total_bitops(indicators.costs, policy) <= limit

    own = {indicators.objective: search(indicators, bitops=bitops).policy}
    if indicators.objective == "measured":
        own["learned"] = search(indicators, bitops=bitops, importance="learned").policy
    elif indicators.divergences:
        own["measured"] = search(indicators, bitops=bitops, importance="measured").policy
    return {
        **own,
        **{name: search(measured, bitops=bitops).policy for name, measured in criteria.items() if name not in own},
        "uniform filled": uniform_filled(indicators, fits),
        "uniform, best split": min(uniform_splits(indicators, fits), key=divergence),
        **{f"random, seed {seed}": random_policy(indicators, fits, seed) for seed in range(random_policies)},
        "reversed": search(reversed_importance(indicators), bitops=bitops).policy,
    }


def bitops_limit(indicators: Indicators, bitops: str) -> int:
    """Return the BitOps of a budget as a whole number."""
    limit = Budget(bitops=bitops).bitops
    if isinstance(limit, int):
        return limit
    uniform = Policy.uniform(indicators.model, indicators.costs, limit.weight, limit.activation)
    return total_bitops(indicators.costs, uniform)


def random_policies_to_correlate(indicators: Indicators, bitops: str, count: int) -> dict[str, list[Policy]]:
    """Return random policies within one budget, and as many within budgets spread over the whole range."""
    least, most = indicators.bitops_range()
    limits = {
        f"at {bitops}": [bitops_limit(indicators, bitops)] * count,
        "over all budgets": [least + (most - least) * (place + 1) // (count + 1) for place in range(count)],
    }
    return {
        name: [_random_within(indicators, limit, 1000 + seed) for seed, limit in enumerate(limits_of_name)]
        for name, limits_of_name in limits.items()
    }


def _random_within(indicators: Indicators, limit: int, seed: int) -> Policy:
    return random_policy(indicators, lambda policy: total_bitops(indicators.costs, policy) <= limit, seed)
