"""Which policy of an entry is meant: one that was given, or the best one within a budget. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpq_hub.errors import BudgetError, PolicyError, shown
from limpq_hub.plan import optimum
from limpq_hub.plan.budget import CONSTRAINTS, Budget, enough_bitops
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.planning import SearchOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


def plan_for(entry: Entry, policy: Any = None, **constraints: Unpack[SearchOptions]) -> Plan:
    """Return the plan of a given policy, or of a search in the indicators of `entry`.

    Args:
        policy: as `load` takes it.
        constraints: every argument of `search`.

    Raises:
        BudgetError: neither or both are given.
        PolicyError: the policy is malformed, or for another network.
        ArtifactError: its file is no JSON, or of another format.
    """
    for key in constraints.keys() - SearchOptions.__annotations__.keys():
        raise TypeError(f"{key!r} is not an argument of load or search; see limpq_hub.search")
    given = {key: value for key, value in constraints.items() if value is not None}
    indicators = entry.indicators
    if policy is not None:
        if given:
            raise BudgetError(f"give a policy or {', '.join(given)}, not both")
        policy = _read_policy(policy)
        if policy.model != indicators.model:
            raise PolicyError(f"the policy is for {shown(policy.model)}, {entry.name} is a {indicators.model}")
        if policy.input_size not in (None, indicators.input_size):
            raise PolicyError(
                f"the policy is for {policy.input_size} pixels, {entry.name} takes {indicators.input_size}"
            )
        return Plan.of_policy(indicators, policy)
    limits = {key: given.pop(key) for key in CONSTRAINTS if key in given}
    if not limits:
        known = entry.summary()
        lowest, highest = enough_bitops(known["minimum_bitops"]), enough_bitops(known["maximum_bitops"])
        names = ", ".join(published.name for published in entry.published) or "none"
        raise BudgetError(
            f'{entry.name} needs a budget or a policy: give bitops= between "{lowest}" and "{highest}", or size=, '
            f"compression=, activation_memory=, latency= or policy=; fine-tuned policies: {names}"
        )
    return optimum.search(indicators, Budget(**limits), **given)


def _read_policy(policy: Any) -> Policy:
    if isinstance(policy, Plan):
        return policy.policy
    if isinstance(policy, str | os.PathLike):
        if not Path(policy).is_file():
            raise PolicyError(f"there is no file {shown(str(policy))}; give the path of a policy.json")
        policy = read_json(policy)
    if isinstance(policy, Mapping):
        policy = Policy.from_json(policy.get("policy", policy))
    if not isinstance(policy, Policy):
        raise PolicyError(f"policy={shown(policy)}: give a Policy, a Plan, or the content or path of a policy.json")
    return policy
