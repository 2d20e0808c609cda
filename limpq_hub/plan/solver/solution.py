"""A choice that a search found, checked, or near enough to a bound where there was no proof in time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from limpq_hub.errors import SearchError
from limpq_hub.plan.deadline import MORE_TIME, NOT_IN_TIME, NotInTimeError
from limpq_hub.plan.rounding import decimal_above
from limpq_hub.plan.solver.programme import Programme
from limpq_hub.plan.solver.scaled_programme import Integers

ENUMERATION = "enumeration"
DYNAMIC_PROGRAMME = "dynamic programme"
BOUND = "bound"
HIGHS = "HiGHS"


class _NotNearEnoughError(NotInTimeError):
    """No policy is as near to the bound as is allowed; the gap that would do for this one search is advised."""


@dataclass(frozen=True)
class Solution:
    """A choice, and how it was found.

    Attributes:
        choice: [groups], the number of the option that each group takes.
        way: "enumeration", "dynamic programme", "bound" (the choice costs no more than what all cost at least) or
            "HiGHS"; of a choice that is not proven to be the best, the way that proved the bound.
        bound: no choice costs less in total; None if this one is proven to be the best.
    """

    choice: list[int]
    way: str
    bound: float | None = None


def checked(programme: Programme, options: Integers | None, way: str, bound: float | None = None) -> Solution | None:
    """Return a choice, [groups], as a solution, its coefficients added up afresh; None stays None.

    Raises:
        SearchError: it is over a limit.
    """
    if options is None:
        return None
    choice = options.tolist()
    if any(constraint.total(choice) > constraint.limit for constraint in programme.constraints):
        raise SearchError(
            f"the {way} returned a policy over the budget, which is a fault of limpq-hub: report it with the model "
            "and the budget"
        )
    return Solution(choice, way, None if bound is None else min(bound, programme.cost(choice)))


def near_enough(
    programme: Programme, choice: list[int] | None, bound: float, near: Solution | None, allow_gap: float | None
) -> Solution:
    """Return the better of two choices if it is near enough to the better of the bounds.

    Raises:
        SearchError: it is not, or there is no choice; says which gap was reached.
    """
    choices = (choice, near.choice if near else None)
    known = [one_choice for one_choice in choices if one_choice is not None]
    if not known:
        raise NotInTimeError(f"{NOT_IN_TIME}; {MORE_TIME}")
    best = min(known, key=programme.cost)
    bound = min(programme.cost(best), max(bound, near.bound if near and near.bound is not None else -math.inf))
    gap = programme.gap(best, bound)
    if gap <= (allow_gap or 0.0):
        return Solution(best, HIGHS, bound)
    # Rounded up, so that it is enough; from 1 on it is none that can be allowed.
    enough = decimal_above(Fraction(gap), 2) if gap < 1 else "1"
    if allow_gap is None or enough == "1":
        raise NotInTimeError(f"{NOT_IN_TIME}; {MORE_TIME}")
    raise _NotNearEnoughError(
        f"{NOT_IN_TIME}: the best policy that was found loses at most {gap:.2g} of its objective more than the "
        f"optimum; allow_gap={enough} takes it, or {MORE_TIME}"
    )


@contextmanager
def one_of_several() -> Iterator[None]:
    """Leave the gap that would do out of the errors of a block that searches several times: others may need more."""
    try:
        yield
    except _NotNearEnoughError:
        raise NotInTimeError(
            f"{NOT_IN_TIME} of one of several searches; allow all of them a larger gap by allow_gap=, or {MORE_TIME}"
        ) from None
