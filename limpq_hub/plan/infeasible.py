"""Why no policy meets a budget, and which budget does."""

from __future__ import annotations

from dataclasses import replace

from limpq_hub.errors import InfeasibleBudgetError, SearchError
from limpq_hub.plan.programme import Programme
from limpq_hub.plan.question import Question
from limpq_hub.plan.row import Row

_FEWEST_BITS = " (every searched layer at its fewest bits, first and last at 8)"


def check_each_constraint(question: Question, time_limit_s: float) -> None:
    """Check that each constraint can be met on its own.

    Args:
        time_limit_s: for each search of a limit that works.

    Raises:
        InfeasibleBudgetError: one cannot, or several cannot; says limits for them that work together with all others.
    """
    programme = question.programme
    unmet = [row for row in programme.rows if row.least > row.limit]
    if not unmet:
        return
    rows = [row for row in programme.rows if row.least <= row.limit]
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
    plain = not (question.restricted or memory) and first.constraint != "latency" and minimum == first.least
    instead = "".join(
        f'; {row.constraint} ({row.span}) needs "{row.text_of(least[row.constraint])}" as well' for row in others
    )
    raise first.infeasible(
        question.indicators.title,
        minimum,
        " beside the activation_memory that was given" if memory else "",
        because=_FEWEST_BITS if plain else "",
        instead=instead + ("; or raise activation_memory" if memory else ""),
    )


def conflict(question: Question, time_limit_s: float) -> InfeasibleBudgetError | SearchError:
    """Return the error for constraints that each can be met, but not together: the least change of any that works.

    Args:
        time_limit_s: for each search of a least change.
    """
    programme = question.programme
    least = _least_changes(programme, time_limit_s)
    if any(total <= row.limit for row, total in least):
        return SearchError("the solver gave two different answers for this budget; try a slightly other one")
    changes = least or _changes_in_turn(programme, time_limit_s)
    (first, minimum), *others = changes
    taking_part = _conflicting(programme, first, time_limit_s)
    together = " and ".join(row.constraint for row in taking_part if row is not first)
    # Without a single change that works, all of them are needed.
    before, after = ("or keep it, and use", "instead") if least else ("and", "as well")
    instead = "".join(
        f'; {before} {row.constraint}="{row.text_of(total)}" {after} (alone: {row.span})' for row, total in others
    )
    return first.infeasible(question.indicators.title, minimum, f" together with {together}", instead=instead)


def _least_changes(programme: Programme, time_limit_s: float) -> list[tuple[Row, int]]:
    """Return the rows that can give way alone, each with the least sum that all others allow."""
    totals = [(row, programme.least(row, time_limit_s)) for row in programme.rows]
    return [(row, total) for row, total in totals if total is not None]


def _changes_in_turn(programme: Programme, time_limit_s: float) -> list[tuple[Row, int]]:
    """Return rows and limits of them that work together, where no row can give way alone: the last rows stay."""
    found: list[tuple[Row, int]] = []
    kept: list[Row] = []
    for row in reversed(programme.rows):
        total = Programme(programme.costs, [*kept, row]).least(row, time_limit_s)
        if total is not None and total > row.limit:
            found.append((row, total))
            row = replace(row, limit=total)
        kept.append(row)
    return found


def _conflicting(programme: Programme, first: Row, time_limit_s: float) -> list[Row]:
    """Return rows that conflict, none of them without need, `first` among them where it takes part."""
    for row in programme.rows:
        if row is not first and programme.without(row).solve(time_limit_s) is None:
            return _conflicting(programme.without(row), first, time_limit_s)
    return list(programme.rows)
