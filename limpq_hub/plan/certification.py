"""Certify a search: its second best policy by searching again without the best one, and the best uniform policy.

**The second best, exactly.** Any other policy differs from the best one in some group of layers; let it be the first
such group. So all other policies fall into as many parts as there are groups: in part g the groups before g keep the
options of the best policy, group g has all options but that one, and the groups behind it have all of theirs. Each part
is a search of its own, the parts share no policy, and the best of their optima is the second best of all.

Source: Lawler, "A procedure for computing the K best solutions to discrete optimization problems", Management Science
18, 1972.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from limpq_hub.errors import SearchError
from limpq_hub.plan.certificate import Certificate, RunnerUp
from limpq_hub.plan.deadline import deadline_in, until
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver.programme import Programme
from limpq_hub.plan.solver.solution import Solution, one_of_several
from limpq_hub.plan.solver.solving import solve


def certify(
    problem: SearchProblem, solution: Solution, plan: Plan, time_limit_s: float, allow_gap: float = 0.0
) -> Certificate:
    """Return what is proven of the plan of a solution.

    Args:
        time_limit_s: seconds after which it gives up.
        allow_gap: as `solve` takes it, for each search for the second best.

    Raises:
        SearchError: the time is over; the plan stands all the same.
    """
    deadline = deadline_in(time_limit_s)
    optimal = solution.bound is None
    try:
        with one_of_several():
            second = _second_best(problem.programme, solution, deadline, allow_gap) if optimal else _Second(None, 0.0)
        uniform = _best_uniform(problem, deadline)
    except SearchError as error:
        raise type(error)(f"the plan was found, its certificate was not: {error}") from None
    return Certificate(
        bound=plan.bound,
        gap=plan.objective - plan.bound,
        second_best=_runner_up(problem, plan, solution, second.choice, second.gap),
        best_uniform=_runner_up(problem, plan, solution, uniform),
    )


class _Second(NamedTuple):
    """The choice of least cost among all others, [groups], or None; and how much less another one may cost."""

    choice: Sequence[int] | None
    gap: float


def _second_best(programme: Programme, best: Solution, deadline: float, allow_gap: float) -> _Second:
    """Return the second best choice; it has none if no other choice meets the constraints."""
    second: Sequence[int] | None = None
    bound = math.inf
    for options in until(deadline, _parts(programme, best.choice)):
        part = _narrowed(programme, options)
        solution = solve(part, deadline, allow_gap or None)
        if solution is None:
            continue
        choice = [of_group[place] for of_group, place in zip(options, solution.choice, strict=True)]
        bound = min(bound, math.inf if solution.bound is None else solution.bound)
        if second is None or programme.difference(choice, second) < 0:
            second = choice
    return _Second(second, 0.0 if second is None else max(0.0, programme.cost(second) - bound))


def _parts(programme: Programme, best: Sequence[int]) -> Iterator[list[list[int]]]:
    """Yield the options that each group may take in each part, [groups][options]; no group is left without one."""
    for group, taken in enumerate(best):
        others = [option for option in range(len(programme.costs[group])) if option != taken]
        if others:
            before = [[option] for option in best[:group]]
            behind = [list(range(len(costs))) for costs in programme.costs[group + 1 :]]
            yield [*before, others, *behind]


def _narrowed(programme: Programme, options: Sequence[Sequence[int]]) -> Programme:
    """Return a programme in which each group has some of its options only."""
    costs = [[of_group[option] for option in kept] for of_group, kept in zip(programme.costs, options, strict=True)]
    constraints = [
        replace(
            constraint,
            coefficients=tuple(
                tuple(of_group[option] for option in kept)
                for of_group, kept in zip(constraint.coefficients, options, strict=True)
            ),
        )
        for constraint in programme.constraints
    ]
    return Programme(costs, constraints)


def _best_uniform(problem: SearchProblem, deadline: float) -> Sequence[int] | None:
    """Return the choice of least cost that gives one pair of bits to all groups that have a choice, or None.

    A group that a limit leaves one pair counts among them: a uniform policy then has that pair. Groups that are fixed
    or pinned do not count.
    """
    programme, best = problem.programme, None
    with_choice = {group.layers for group in problem.unbudgeted if len(group.options) > 1}
    free = [group.options for group in problem.groups if group.layers in with_choice]
    shared = set(free[0]).intersection(*free[1:]) if free else set[LayerBits]()
    for pair in until(deadline, sorted(shared)):
        choice = [group.options.index(pair) if group.layers in with_choice else 0 for group in problem.groups]
        if any(constraint.total(choice) > constraint.limit for constraint in programme.constraints):
            continue
        if best is None or programme.difference(choice, best) < 0:
            best = choice
    return best


def _runner_up(
    problem: SearchProblem, plan: Plan, best: Solution, choice: Sequence[int] | None, gap: float = 0.0
) -> RunnerUp | None:
    if choice is None:
        return None
    policy = problem.policy(choice)
    divergences = problem.indicators.divergences
    differences = [
        of_pairs[policy.layers[name]] - of_pairs[plan.policy.layers[name]] for name, of_pairs in divergences.items()
    ]
    kl_behind = math.fsum(differences) if divergences else None
    behind = problem.programme.difference(choice, best.choice)
    # Below 0 is only what the search does not tell apart.
    return RunnerUp(policy, max(0.0, behind) if plan.optimal else behind, kl_behind, gap)
