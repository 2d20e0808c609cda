"""Why no policy meets a budget, and which budget does."""

from __future__ import annotations

from dataclasses import replace

from limpq_hub.errors import InfeasibleBudgetError, SearchError
from limpq_hub.plan.constraints import Row
from limpq_hub.plan.programme import Programme
from limpq_hub.plan.question import Question

_FEWEST_BITS = " (every searched layer at its fewest bits, first and last at 8)"


def check_each_constraint(question: Question, time_limit_s: float) -> None:
    """Check that each constraint can be met on its own.

    Args:
        time_limit_s: for each search of a limit that works.

    Raises:
        InfeasibleBudgetError: one cannot, or several cannot; says limits for them that work together with all others.
    """
    programme = question.programme
    lowest = {row.constraint: sum(map(min, row.coefficients)) for row in programme.rows}
    unmet = [row for row in programme.rows if lowest[row.constraint] > row.limit]
    if not unmet:
        return
    rows = [row for row in programme.rows if lowest[row.constraint] <= row.limit]
    least: dict[str, int] = {}
    for row in unmet:
        total = Programme(programme.costs, [*rows, row]).least(row, time_limit_s)
        if total is None:  # then those that can be met alone conflict
            raise conflict(replace(question, programme=Programme(programme.costs, rows)), time_limit_s)
        least[row.constraint] = total
        rows.append(replace(row, limit=total))
    first, *others = unmet
    memory = question.budget.activation_memory is not None
    minimum = least[first.constraint]
    plain = (
        not (question.restricted or memory) and first.constraint != "latency" and minimum == lowest[first.constraint]
    )
    instead = "".join(f'; {row.constraint} needs "{row.text_of(least[row.constraint])}" as well' for row in others)
    raise first.infeasible(
        question.indicators.title,
        minimum,
        " beside the activation_memory that was given" if memory else "",
        because=_FEWEST_BITS if plain else "",
        instead=instead + ("; or raise activation_memory" if memory else ""),
    )


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
    return first.infeasible(
        question.indicators.title,
        minimum,
        f" together with {together}",
        instead="".join(
            f'; or keep it, and use {row.constraint}="{row.text_of(total)}" instead' for row, total in others
        ),
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
