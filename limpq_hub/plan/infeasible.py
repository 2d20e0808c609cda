"""Why no policy meets a budget, and which budget does."""

from __future__ import annotations

from dataclasses import replace

from limpq_hub.errors import InfeasibleBudgetError, SearchError
from limpq_hub.plan.constraints.linear_kind import LinearKind
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver.programme import Programme

_FEWEST_BITS = " (every searched layer at its fewest bits, first and last at 8)"


def check_each_constraint(problem: SearchProblem, deadline: float) -> None:
    """Check that each constraint can be met on its own.

    Args:
        deadline: when to give up, by `time.monotonic`.

    Raises:
        InfeasibleBudgetError: one cannot, or several cannot; says limits for them that work together with all others.
    """
    programme = problem.programme
    unmet = [constraint for constraint in programme.constraints if constraint.least > constraint.limit]
    if not unmet:
        return
    # Each limit that cannot be met is raised in turn to the least that those met or raised before it allow.
    feasible = [constraint for constraint in programme.constraints if constraint.least <= constraint.limit]
    minimum_of: dict[str, int] = {}
    for constraint in unmet:
        total = Programme(programme.costs, [*feasible, constraint]).least(constraint, deadline)
        if total is None:  # then those that can be met alone conflict
            raise conflict(replace(problem, programme=Programme(programme.costs, feasible)), deadline)
        minimum_of[constraint.kind.name] = total
        feasible.append(replace(constraint, limit=total))
    first, *others = unmet
    # A kind that is no sum over layers has ruled out options of each layer instead.
    ruling_out = [kind.name for kind, _ in problem.budget.kinds if not isinstance(kind, LinearKind)]
    minimum = minimum_of[first.kind.name]
    beside = [constraint.kind.name for constraint in _raising(programme, first, minimum, deadline)]
    plain = not (problem.restricted or ruling_out or beside) and first.kind.grows_with_bits
    beside += [f"the {name} that was given" for name in ruling_out]
    alone = f"; alone, {first.kind.name} of {first.span} is possible" if minimum > first.least else ""
    instead = "".join(
        f"; and use {other.keyword(minimum_of[other.kind.name])} as well (alone: {other.span})" for other in others
    )
    raise first.infeasible(
        problem.indicators.title,
        minimum,
        f" beside {' and '.join(beside)}" if beside else "",
        because=_FEWEST_BITS if plain else "",
        instead=alone + instead + "".join(f"; or raise {name}" for name in ruling_out),
    )


def conflict(problem: SearchProblem, deadline: float) -> InfeasibleBudgetError | SearchError:
    """Return the error for constraints that each can be met, but not together: the least change of any that works.

    Args:
        deadline: when to give up, by `time.monotonic`.

    Raises:
        SearchError: a least change is not proven in time.
    """
    programme = problem.programme
    single_changes = _single_changes(programme, deadline)
    changes = single_changes or _changes_in_turn(programme, deadline)
    if not changes or any(total <= constraint.limit for constraint, total in single_changes):
        return SearchError("the solver gave two different answers for this budget; try a slightly other one")
    (first, minimum), *others = changes
    together = " and ".join(
        constraint.kind.name for constraint in _conflicting(programme, first, deadline) if constraint is not first
    )
    # Without a single change that works, all of them are needed.
    before, after = ("or keep it, and", "instead") if single_changes else ("and", "as well")
    instead = "".join(f"; {before} use {other.keyword(total)} {after} (alone: {other.span})" for other, total in others)
    return first.infeasible(problem.indicators.title, minimum, f" together with {together}", instead=instead)


def _raising(programme: Programme, first: LinearConstraint, minimum: int, deadline: float) -> list[LinearConstraint]:
    """Return the constraints that can be met, and that leave `first` no sum below `minimum`."""
    if minimum == first.least:
        return []
    below = replace(first, limit=minimum - 1)
    met = [constraint for constraint in programme.constraints if constraint.least <= constraint.limit]
    conflicting = _conflicting(Programme(programme.costs, [*met, below]), below, deadline)
    return [constraint for constraint in conflicting if constraint is not below]


def _single_changes(programme: Programme, deadline: float) -> list[tuple[LinearConstraint, int]]:
    """Return the constraints that can give way alone, each with the least sum that all others allow."""
    totals = [(constraint, programme.least(constraint, deadline)) for constraint in programme.constraints]
    return [(constraint, total) for constraint, total in totals if total is not None]


def _changes_in_turn(programme: Programme, deadline: float) -> list[tuple[LinearConstraint, int]]:
    """Return constraints and limits that work together, where none can give way alone: the last constraints stay."""
    changes: list[tuple[LinearConstraint, int]] = []
    feasible: list[LinearConstraint] = []
    for constraint in reversed(programme.constraints):
        total = Programme(programme.costs, [*feasible, constraint]).least(constraint, deadline)
        if total is not None and total > constraint.limit:
            changes.append((constraint, total))
            constraint = replace(constraint, limit=total)
        feasible.append(constraint)
    return changes


def _conflicting(programme: Programme, first: LinearConstraint, deadline: float) -> list[LinearConstraint]:
    """Return constraints that conflict, none of them without need, `first` among them where it takes part."""
    for constraint in programme.constraints:
        if constraint is not first and not programme.without(constraint).is_feasible(deadline):
            return _conflicting(programme.without(constraint), first, deadline)
    return list(programme.constraints)
