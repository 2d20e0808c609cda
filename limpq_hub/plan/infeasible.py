"""Why no policy meets a budget, and which budget does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

from limpq_hub.errors import BudgetError, InfeasibleBudgetError, SearchError
from limpq_hub.plan.constraint_kind import ConstraintKind
from limpq_hub.plan.constraints.linear_kind import LinearKind
from limpq_hub.plan.costs import FIXED_BITS, FLOAT
from limpq_hub.plan.layer_bits import BITS_KINDS, LayerBits
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver.programme import Programme
from limpq_hub.plan.solver.solving import is_feasible, least_total, solve


def check_each_constraint(problem: SearchProblem, deadline: float) -> None:
    """Check that each constraint can be met on its own.

    Args:
        deadline: when to give up, by `time.monotonic`.

    Raises:
        InfeasibleBudgetError: one cannot, or several cannot; says limits for them that work together with all others.
    """
    programme = problem.programme
    if problem.unmet:
        raise _and_the_rest(problem, deadline)
    unmet = [constraint for constraint in programme.constraints if constraint.least > constraint.limit]
    if not unmet:
        return
    # Each limit that cannot be met is raised in turn to the least that those met or raised before it allow.
    feasible = [constraint for constraint in programme.constraints if constraint.least <= constraint.limit]
    minimum_of: dict[str, int] = {}
    for constraint in unmet:
        total = least_total(Programme(programme.costs, [*feasible, constraint]), constraint, deadline)
        if total is None:  # then those that can be met alone conflict
            raise conflict(replace(problem, programme=Programme(programme.costs, feasible)), deadline, unmet)
        minimum_of[constraint.kind.name] = total
        feasible.append(replace(constraint, limit=total))
    first, *others = unmet
    minimum = minimum_of[first.kind.name]
    ruling_out = dict(_ruling_out(problem, first, minimum, deadline))
    beside = [constraint.kind.name for constraint in _raising(programme, first, minimum, deadline)]
    plain = not (problem.restricted or ruling_out or beside) and first.kind.grows_with_bits
    beside += [kind.keyword(kind.requested_text(Fraction(limit))) for kind, limit in ruling_out.items()]
    alone = f"; alone, {first.kind.name} of {first.span} is possible" if minimum > first.least else ""
    instead = "".join(
        f"; and use {other.keyword(minimum_of[other.kind.name])} as well (alone: {other.span})" for other in others
    )
    raise first.infeasible(
        problem.indicators.title,
        minimum,
        f" beside {' and '.join(beside)}" if beside else "",
        because=_fewest_bits(problem) if plain else "",
        instead=alone + instead + "".join(f"; or raise {kind.name}=" for kind in ruling_out),
    )


def conflict(
    problem: SearchProblem, deadline: float, unmet: Sequence[LinearConstraint] = ()
) -> InfeasibleBudgetError | SearchError:
    """Return the error for constraints that each can be met, but not together: the least change of any that works.

    Args:
        deadline: when to give up, by `time.monotonic`.
        unmet: further constraints that cannot be met alone: what they need once the first change is made.

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
    error = first.infeasible(problem.indicators.title, minimum, f" together with {together}", instead=instead)
    made = changes[:1] if single_changes else changes
    raised = {constraint.kind.name: total for constraint, total in made}
    constraints = [
        replace(constraint, limit=raised.get(constraint.kind.name, constraint.limit))
        for constraint in programme.constraints
    ]
    try:
        if unmet:
            changed = Programme(programme.costs, [*constraints, *unmet])
            check_each_constraint(replace(problem, programme=changed), deadline)
    except InfeasibleBudgetError as other:
        return _followed(error, (constraint.keyword(total) for constraint, total in made), other)
    return error


def _and_the_rest(problem: SearchProblem, deadline: float) -> InfeasibleBudgetError:
    """Return the error for a limit that leaves a group no bits, with what is needed besides."""
    error, *others = problem.unmet
    kind = next(kind for kind, _ in problem.budget.kinds if kind.name == error.constraint)
    rest = replace(problem, unmet=tuple(others))
    with suppress(SearchError):  # what is known is told, though not in time whether it is all
        try:
            check_each_constraint(rest, deadline)
            if solve(rest.programme, deadline) is None:
                raise conflict(rest, deadline)
        except InfeasibleBudgetError as other:
            return _followed(error, [kind.keyword(kind.text(Fraction(error.minimum)))], other)
    return error


def _followed(error: InfeasibleBudgetError, made: Iterable[str], other: InfeasibleBudgetError) -> InfeasibleBudgetError:
    """Return the error with the one that comes next, once the changes are made that it advises."""
    return InfeasibleBudgetError(
        f"{error}; with {' and '.join(made)}, {other}",
        requested=error.requested,
        minimum=error.minimum,
        maximum=error.maximum,
        constraint=error.constraint,
    )


def _ruling_out(
    problem: SearchProblem, first: LinearConstraint, minimum: int, deadline: float
) -> list[tuple[ConstraintKind[Any], Any]]:
    """Return the kinds, with their limits, that rule out bits without which `first` needs no less than `minimum`."""
    name = first.kind.name
    met = {of.kind.name for of in problem.programme.constraints if of.least <= of.limit}
    ruling_out = []
    for kind, limit in problem.budget.kinds:
        if isinstance(kind, LinearKind):  # a sum over layers rules out no bits of a single one
            continue
        with suppress(BudgetError):  # a table lacks the bits that were ruled out: to raise the limit would not do
            without = problem.within(problem.budget.changed({kind.name: None}), deadline).programme
            constraints = [of for of in without.constraints if of.kind.name in met or of.kind.name == name]
            same = next(of for of in constraints if of.kind.name == name)
            total = least_total(Programme(without.costs, constraints), same, deadline)
            if total is not None and same.text_of(total) != first.text_of(minimum):
                ruling_out.append((kind, limit))
    return ruling_out


def _fewest_bits(problem: SearchProblem) -> str:
    """Return why a sum that grows with the bits is no smaller, in brackets: nothing has fewer bits to choose from."""
    indicators = problem.indicators
    searched = [name for name, cost in indicators.costs.items() if cost.fixed is None]
    if not searched:
        return ""
    steps = {"weight": indicators.weight_steps, "activation": indicators.activation_steps}
    fewest = {(kind, name, min(steps[kind][name])) for kind in BITS_KINDS for name in searched}
    left_out = any((outlier.kind, outlier.layer, outlier.bits) in fewest for outlier in problem.outliers)
    near = f"at most {indicators.apart} apart" if indicators.apart else "equal for weights and activations"
    conditions = ["no outliers"] * left_out + [near] * _holds_near(problem)
    that = f" that are {' and '.join(conditions)}" if conditions else ""
    reasons = [f"every searched layer at its fewest bits{that}"]
    fixed = {name: cost.fixed for name, cost in indicators.costs.items() if cost.fixed not in (None, FLOAT)}
    ends = {next(iter(indicators.costs)), [*indicators.costs][-1]}
    at_eight = all(bits == FIXED_BITS for bits in fixed.values())
    if fixed:
        which = "first and last" if fixed.keys() == ends and len(ends) > 1 else f"{len(fixed)} fixed"
        reasons.append(f"{which} at {'8' if at_eight else 'other bits'}")
    in_float = len(indicators.costs) - len(searched) - len(fixed)
    if in_float:
        reasons.append(f"{in_float} in float")
    return f" ({', '.join(reasons)})"


def _holds_near(problem: SearchProblem) -> bool:
    """Return whether a layer may not have its fewest bits because those of its weights and activations are too far."""
    cleaned, _ = problem.indicators.without_outliers
    options = {name: group.options for group in problem.unbudgeted for name in group.layers}
    return any(
        LayerBits(min(steps), min(cleaned.activation_steps[name])) not in options[name]
        for name, steps in cleaned.weight_steps.items()
    )


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
    totals = [(constraint, least_total(programme, constraint, deadline)) for constraint in programme.constraints]
    return [(constraint, total) for constraint, total in totals if total is not None]


def _changes_in_turn(programme: Programme, deadline: float) -> list[tuple[LinearConstraint, int]]:
    """Return constraints and limits that work together, where none can give way alone: the last constraints stay."""
    changes: list[tuple[LinearConstraint, int]] = []
    feasible: list[LinearConstraint] = []
    for constraint in reversed(programme.constraints):
        total = least_total(Programme(programme.costs, [*feasible, constraint]), constraint, deadline)
        if total is not None and total > constraint.limit:
            changes.append((constraint, total))
            constraint = replace(constraint, limit=total)
        feasible.append(constraint)
    return changes


def _conflicting(programme: Programme, first: LinearConstraint, deadline: float) -> list[LinearConstraint]:
    """Return constraints that conflict, none of them without need, `first` among them where it takes part."""
    for constraint in programme.constraints:
        if constraint is not first and not is_feasible(programme.without(constraint), deadline):
            return _conflicting(programme.without(constraint), first, deadline)
    return list(programme.constraints)
