"""The options that are left to HiGHS: within every limit, and not so dear that they hide what the others cost."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from limpq_hub.plan.linear_constraint import LinearConstraint

# Where costs reach so much higher than what a better choice may take, they are scaled anew without the others.
_MUCH_HIGHER = 2.0
# Relative: more than rounding adds to the cost of a choice above the least.
_SAFETY = 1e-12


def affordable_options(constraints: Sequence[LinearConstraint], group: int, options: Collection[int]) -> list[int]:
    """Return those of the options of a group that are within every limit while all other groups use the least."""
    most = [constraint.limit - constraint.least + min(constraint.coefficients[group]) for constraint in constraints]
    return [
        option
        for option in options
        if all(
            constraint.coefficients[group][option] <= most_of_constraint
            for constraint, most_of_constraint in zip(constraints, most, strict=True)
        )
    ]


def hopeful_options(
    costs: Sequence[Sequence[float]], options: Sequence[Sequence[int]], choice: Sequence[int]
) -> list[list[int]] | None:
    """Return the options, [groups][options], that a choice better than a given one may take; None if scaling them anew
    gains little.

    One that alone costs more above the least of its group than the whole choice does is in no better one. HiGHS is
    wrong by a share of the largest cost, so one that is far too dear hides what the others cost.
    """
    least = [min(of_group[option] for option in kept) for of_group, kept in zip(costs, options, strict=True)]
    above = math.fsum(of_group[option] - lowest for of_group, option, lowest in zip(costs, choice, least, strict=True))
    largest = max(
        of_group[option] - lowest
        for of_group, kept, lowest in zip(costs, options, least, strict=True)
        for option in kept
    )
    if not 0 < above * _MUCH_HIGHER < largest:
        return None
    most = above * (1 + _SAFETY)
    return [
        [option for option in kept if of_group[option] - lowest <= most]
        for of_group, kept, lowest in zip(costs, options, least, strict=True)
    ]
