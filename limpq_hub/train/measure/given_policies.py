"""Policies of files that a comparison sets beside its own, by the names that were typed for them."""

from __future__ import annotations

from collections.abc import Iterable

from limpq_hub.errors import TrainingError, quoted
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.train.measure.contenders import bitops_limit
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.policy_request import plan_for


def given_policies(pairs: Iterable[str], entry: Entry, budgets: Iterable[str]) -> dict[str, Policy]:
    """Return policies by their names.

    Args:
        pairs: NAME=FILE of each, a `policy.json`.
        budgets: in BitOps, that each policy is compared at.

    Raises:
        TrainingError: a pair is not NAME=FILE, a name is there twice, or a policy is above a budget.
        PolicyError: a policy is malformed, or for another network.
        ArtifactError: a file is no JSON, or of another format.
    """
    limits = {budget: bitops_limit(entry.indicators, budget) for budget in budgets}
    policies: dict[str, Policy] = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not name or not path:
            raise TrainingError(f"--policies {quoted(pair)} is not NAME=FILE, for example mine=out/policy.json")
        if name in policies:
            raise TrainingError(f"--policies {quoted(pair)}: another is called {quoted(name)}: choose another name")
        plan = plan_for(entry, policy=path)
        for budget, limit in limits.items():
            if plan.bitops > limit:
                raise TrainingError(
                    f"--policies {quoted(pair)}: it has {format_bitops(plan.bitops)} BitOps, and --bitops {budget} "
                    f"allows {format_bitops(limit)}: compare it where it fits"
                )
        policies[name] = plan.policy
    return policies
