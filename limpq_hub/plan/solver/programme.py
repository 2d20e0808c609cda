"""The problem of a search: one option per group, the least total cost, every constraint within its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.solver.scaled_programme import Integers, ScaledProgramme

# More constraints leave too many choices near the bound.
_MOST_CONSTRAINTS_ENUMERATED = 2


@dataclass(frozen=True)
class Programme:
    """What is minimized, and within what.

    Attributes:
        costs: [groups, options], rows of different lengths where groups have different numbers of options; infinite for
            an option that takes no part.
        constraints: each with coefficients of the same shape, and a limit.
    """

    costs: Sequence[Sequence[float]]
    constraints: Sequence[LinearConstraint]

    def with_limit(self, constraint: int, limit: int) -> Programme:
        """Return the same programme with another limit of one constraint, by its number."""
        constraints = list(self.constraints)
        constraints[constraint] = replace(constraints[constraint], limit=limit)
        return Programme(self.costs, constraints)

    def without(self, constraint: LinearConstraint) -> Programme:
        """Return the same programme without one of its constraints."""
        return Programme(self.costs, [other for other in self.constraints if other is not constraint])

    def scaled(self) -> ScaledProgramme | None:
        """Return the programme in whole numbers for numpy, or None where the enumeration does not suit it."""
        if len(self.constraints) > _MOST_CONSTRAINTS_ENUMERATED:
            return None
        return ScaledProgramme.of(self.costs, self.constraints)

    def cost(self, choice: Sequence[int]) -> float:
        """Return the total cost of a choice, [groups]."""
        return math.fsum(costs[option] for costs, option in zip(self.costs, choice, strict=True))

    def difference(self, choice: Sequence[int], other: Sequence[int]) -> float:
        """Return how much more a choice costs than another, [groups] both; exact beside what they have in common."""
        taken = zip(self.costs, choice, other, strict=True)
        return math.fsum(costs[option] - costs[option_of_other] for costs, option, option_of_other in taken)

    def hopeful(self, scaled: ScaledProgramme, choice: Integers) -> Programme | None:
        """Return the programme of the options that a better choice may take; None where that tells nothing apart."""
        hopeful = scaled.hopeful(choice)
        options_taken = zip(self.costs, choice.tolist(), strict=True)
        if hopeful is None or all(of_group[option] == min(of_group) for of_group, option in options_taken):
            return None
        costs = [
            [cost if takes_part else math.inf for cost, takes_part in zip(of_group, taking_part, strict=False)]
            for of_group, taking_part in zip(self.costs, hopeful.tolist(), strict=True)
        ]
        # Costs that are equal as floats stay so on every scale.
        return Programme(costs, self.constraints) if costs != [list(of_group) for of_group in self.costs] else None

    def gap(self, choice: Sequence[int], bound: float) -> float:
        """Return how much more than a bound a choice costs, as a share of its cost; infinite where it costs nothing."""
        cost = self.cost(choice)
        return max(0.0, cost - bound) / cost if cost > 0 else math.inf if cost > bound else 0.0
