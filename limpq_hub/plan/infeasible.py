"""Why no policy meets a budget, and which budget does."""

from __future__ import annotations

from limpq_hub.errors import InfeasibleBudgetError, SearchError
from limpq_hub.plan.constraints import Row
from limpq_hub.plan.programme import Programme
from limpq_hub.plan.question import Question

_FEWEST_BITS = " (every searched layer at its fewest bits, first and last at 8)"


def check_each_constraint(question: Question) -> None:
    """Check that each constraint can be met on its own.

    Raises:
        InfeasibleBudgetError: one cannot; says what it needs at least.
    """
    for row in question.programme.rows:
        minimum = sum(map(min, row.coefficients))
        if minimum > row.limit:
            because = "" if question.restricted else _FEWEST_BITS
            raise row.infeasible(question.indicators.title, minimum, because=because)


def conflict(question: Question, time_limit_s: float) -> InfeasibleBudgetError | SearchError:
    """Return the error for constraints that each can be met, but not together: the least change of either that works.

    Args:
        time_limit_s: for each search of a least change.
    """
    least = _least_changes(question.programme, time_limit_s)
    if any(total <= row.limit for row, total in least):
        return SearchError("the solver gave two different answers for this budget; try a slightly other one")
    (first, minimum), *others = least
    together = " and ".join(row.constraint for row, _ in others)
    error = first.infeasible(question.indicators.title, minimum, f" together with {together}")
    instead = "".join(f'; or keep it, and use {row.constraint}="{row.text_of(total)}" instead' for row, total in others)
    return InfeasibleBudgetError(
        f"{error}{instead}",
        requested=error.requested,
        minimum=error.minimum,
        maximum=error.maximum,
        constraint=error.constraint,
    )


def _least_changes(programme: Programme, time_limit_s: float) -> list[tuple[Row, int]]:
    """Return the rows that conflict, none of them without need, and the least sum of each that the others allow."""
    found = []
    for row in programme.rows:
        total = programme.least(row, time_limit_s)
        if total is None:
            return _least_changes(programme.without(row), time_limit_s)
        found.append((row, total))
    return found
