"""Why no policy meets a budget, and which budget does."""

from __future__ import annotations

from dataclasses import replace

from limpq_hub.errors import InfeasibleBudgetError, SearchError
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver.programme import Programme

_FEWEST_BITS = " (every searched layer at its fewest bits, first and last at 8)"


def check_each_constraint(question: SearchProblem, deadline: float) -> None:
    """Check that each constraint can be met on its own.

    Args:
        deadline: when to give up, by `time.monotonic`.

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
        total = Programme(programme.costs, [*rows, row]).least(row, deadline)
        if total is None:  # then those that can be met alone conflict
            raise conflict(replace(question, programme=Programme(programme.costs, rows)), deadline)
        least[row.constraint] = total
        rows.append(replace(row, limit=total))
    first, *others = unmet
    memory = question.budget.activation_memory is not None
    minimum = least[first.constraint]
    beside = [row.constraint for row in _raising(programme, first, minimum, deadline)]
    plain = not (question.restricted or memory or beside) and first.kind.grows_with_bits
    beside += ["the activation_memory that was given"] if memory else []
    alone = f"; alone, {first.constraint} of {first.span} is possible" if minimum > first.least else ""
    instead = "".join(
        f'; {row.constraint} ({row.span}) needs "{row.text_of(least[row.constraint])}" as well' for row in others
    )
    raise first.infeasible(
        question.indicators.title,
        minimum,
        f" beside {' and '.join(beside)}" if beside else "",
        because=_FEWEST_BITS if plain else "",
        instead=alone + instead + ("; or raise activation_memory" if memory else ""),
    )


def conflict(question: SearchProblem, deadline: float) -> InfeasibleBudgetError | SearchError:
    """Return the error for constraints that each can be met, but not together: the least change of any that works.

    Args:
        deadline: when to give up, by `time.monotonic`.

    Raises:
        SearchError: a least change is not proven in time.
    """
    programme = question.programme
    least = _least_changes(programme, deadline)
    changes = least or _changes_in_turn(programme, deadline)
    if not changes or any(total <= row.limit for row, total in least):
        return SearchError("the solver gave two different answers for this budget; try a slightly other one")
    (first, minimum), *others = changes
    taking_part = _conflicting(programme, first, deadline)
    together = " and ".join(row.constraint for row in taking_part if row is not first)
    # Without a single change that works, all of them are needed.
    before, after = ("or keep it, and use", "instead") if least else ("and", "as well")
    instead = "".join(
        f'; {before} {row.constraint}="{row.text_of(total)}" {after} (alone: {row.span})' for row, total in others
    )
    return first.infeasible(question.indicators.title, minimum, f" together with {together}", instead=instead)


def _raising(programme: Programme, first: LinearConstraint, minimum: int, deadline: float) -> list[LinearConstraint]:
    """Return the rows that can be met, and that leave `first` no sum below `minimum`."""
    if minimum == first.least:
        return []
    below = replace(first, limit=minimum - 1)
    met = [row for row in programme.rows if row.least <= row.limit]
    return [row for row in _conflicting(Programme(programme.costs, [*met, below]), below, deadline) if row is not below]


def _least_changes(programme: Programme, deadline: float) -> list[tuple[LinearConstraint, int]]:
    """Return the rows that can give way alone, each with the least sum that all others allow."""
    totals = [(row, programme.least(row, deadline)) for row in programme.rows]
    return [(row, total) for row, total in totals if total is not None]


def _changes_in_turn(programme: Programme, deadline: float) -> list[tuple[LinearConstraint, int]]:
    """Return rows and limits of them that work together, where no row can give way alone: the last rows stay."""
    found: list[tuple[LinearConstraint, int]] = []
    kept: list[LinearConstraint] = []
    for row in reversed(programme.rows):
        total = Programme(programme.costs, [*kept, row]).least(row, deadline)
        if total is not None and total > row.limit:
            found.append((row, total))
            row = replace(row, limit=total)
        kept.append(row)
    return found


def _conflicting(programme: Programme, first: LinearConstraint, deadline: float) -> list[LinearConstraint]:
    """Return rows that conflict, none of them without need, `first` among them where it takes part."""
    for row in programme.rows:
        if row is not first and programme.without(row).solve(deadline) is None:
            return _conflicting(programme.without(row), first, deadline)
    return list(programme.rows)
