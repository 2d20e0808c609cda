"""Which policy of an entry is meant: one that was given, or the best one within a budget. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpq_hub.errors import ArtifactVersionError, BudgetError, PolicyError, quoted
from limpq_hub.plan import optimum
from limpq_hub.plan.budget import Budget, split_limits
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.quantities import enough_bitops
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.planning import SearchOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


def plan_for(entry: Entry, policy: Any = None, **options: Unpack[SearchOptions]) -> Plan:
    """Return the plan of a given policy, or of a search in the indicators of `entry`.

    Args:
        policy: as `load` takes it.
        options: every keyword of `limpq_hub.search`.

    Raises:
        BudgetError: neither or both are given.
        PolicyError: the policy is malformed, or for another network.
        ArtifactError: its file is no JSON, or of another format.
        TypeError: an option is no keyword of `limpq_hub.search`.
    """
    for key in options.keys() - SearchOptions.__annotations__.keys():
        raise TypeError(f"{key!r} is not an argument of load or search; see limpq_hub.search")
    arguments = {key: value for key, value in options.items() if value is not None}
    indicators = entry.indicators
    if policy is not None:
        if arguments:
            raise BudgetError(f"give policy= or {', '.join(f'{key}=' for key in arguments)}, not both")
        policy = _read_policy(policy)
        if policy.model != indicators.model:
            raise PolicyError(f"the policy is for {quoted(policy.model)}, {entry.name} is a {indicators.model}")
        if policy.input_size not in (None, indicators.input_size):
            raise PolicyError(
                f"the policy is for {policy.input_size} pixels, {entry.name} takes {indicators.input_size}"
            )
        return Plan.of_policy(indicators, policy)
    limits, choices = split_limits(arguments)
    if not limits:
        summary = entry.summary()
        lowest, highest = enough_bitops(summary["minimum_bitops"]), enough_bitops(summary["maximum_bitops"])
        published = ", ".join(checkpoint.name for checkpoint in entry.published) or "none"
        others = ", ".join(f"{kind.name}=" for kind in KINDS if kind.name != "bitops")
        raise BudgetError(
            f'{entry.name} needs a budget or a policy: give bitops= between "{lowest}" and "{highest}", or {others} '
            f"or policy=; fine-tuned policies: {published}"
        )
    return optimum.search(indicators, Budget(**limits), **choices)


def _read_policy(policy: Any) -> Policy:
    if isinstance(policy, Plan):
        return policy.policy
    if isinstance(policy, str | os.PathLike):
        inside = Path(policy, "policy.json")
        if os.path.isfile(inside):
            raise PolicyError(f"{quoted(str(policy))} is a folder; give its file, {quoted(str(inside))}")
        if not os.path.exists(policy) or os.path.isdir(policy):
            raise PolicyError(f"there is no file {quoted(str(policy))}; give the path of a policy.json")
        try:
            return _of_content(read_json(policy))
        except (PolicyError, ArtifactVersionError) as error:
            raise type(error)(f"{os.fspath(policy)}: {error}") from None
    return _of_content(policy)


def _of_content(policy: Any) -> Policy:
    if isinstance(policy, Mapping):
        return Policy.from_json(policy.get("policy", policy))
    if not isinstance(policy, Policy):
        raise PolicyError(f"policy={quoted(policy)}: give a Policy, a Plan, or the content or path of a policy.json")
    return policy
