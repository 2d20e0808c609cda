"""Policies of files that a comparison sets beside its own, by the names that were typed for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from limpq_hub.errors import PolicyError, TrainingError, quoted
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.quantities import enough_bitops
from limpq_hub.train.measure.contenders import bitops_limit
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.policy_request import plan_for

# What a cell of a table, the label of a picture and a word of a shell show as it is.
_NAME = re.compile(r"\w[\w .,:+@-]*")


def named_files(pairs: Iterable[str]) -> dict[str, str]:
    """Return paths by their names; no file is read.

    Args:
        pairs: NAME=FILE each.

    Raises:
        TrainingError: a pair is not NAME=FILE, its name cannot be one, or it is there twice.
    """
    paths: dict[str, str] = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not name or not path:
            raise TrainingError(f"--policies {quoted(pair)} is not NAME=FILE, for example mine=out/policy.json")
        if not _NAME.fullmatch(name):
            raise TrainingError(
                f"--policies {quoted(pair)}: a name has letters, digits, spaces and . , : + @ _ - alone"
            )
        if name in paths:
            raise TrainingError(f"--policies {quoted(pair)}: another is called {quoted(name)}: choose another name")
        paths[name] = path
    return paths


def given_policies(paths: Mapping[str, str], entry: Entry, budgets: Iterable[str]) -> dict[str, Policy]:
    """Return policies by their names.

    Args:
        paths: of a `policy.json` each, by names, see `named_files`.
        budgets: in BitOps, that each policy is compared at.

    Raises:
        TrainingError: a policy is above a budget.
        PolicyError: a policy is malformed, or for another network.
        ArtifactError: a file is no JSON, or of another format.
    """
    limits = {budget: bitops_limit(entry.indicators, budget) for budget in budgets}
    policies: dict[str, Policy] = {}
    for name, path in paths.items():
        typed = f"--policies {quoted(f'{name}={path}')}"
        try:
            plan = plan_for(entry, policy=path)
        except PolicyError as error:
            raise PolicyError(f"{typed}: {error}") from None
        for budget, limit in limits.items():
            if plan.bitops > limit:
                raise TrainingError(
                    f"{typed}: it has {plan.bitops:,} BitOps, and --bitops {budget} allows {limit:,}: leave one of "
                    f"them out; it fits from --bitops {enough_bitops(plan.bitops)}"
                )
        policies[name] = plan.policy
    return policies
