"""Whether a policy meets a budget, told for many policies of the same network."""

from __future__ import annotations

from collections.abc import Callable

from limpq_hub.plan.budget import Budget
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.deadline import NEVER, check_time
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_groups import group_layers
from limpq_hub.plan.policy import Policy


def fits_of(
    indicators: Indicators, budget: Budget, counting: Counting = "exact", deadline: float = NEVER
) -> Callable[[Policy], bool]:
    """Return a function that says whether a policy of learned bits meets `budget`, outliers included.

    A policy with bits that a table of the budget lacks does not fit: a search that had to choose among others needs no
    entries for them.

    Args:
        deadline: after which the function raises a `SearchError`, by `time.monotonic`: whoever tries policy after
            policy then stops.
    """
    groups = budget.with_entries(budget.allowed(indicators, group_layers(indicators)))
    any_fits = all(group.options for group in groups)
    constraints = budget.linear_constraints(indicators, groups, counting) if any_fits else []
    places = [{bits: place for place, bits in enumerate(group.options)} for group in groups]

    def fits(policy: Policy) -> bool:
        """Return whether a policy is within every limit."""
        check_time(deadline)
        choice = []
        for group, place_of in zip(groups, places, strict=True):
            place = place_of.get(policy.layers[group.layers[0]])
            if place is None:
                return False
            choice.append(place)
        return all(constraint.total(choice) <= constraint.limit for constraint in constraints)

    return fits
