"""What one search decides: layer groups, their options, and what each loses and takes; and a choice as a `Plan`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from limpq_hub.errors import BudgetError, InfeasibleBudgetError, quoted
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraint_kind import ConstraintKind
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.deadline import NEVER, until
from limpq_hub.plan.importance import Importance, added_up
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.layer_groups import Candidates, LayerGroup, Pins, group_layers
from limpq_hub.plan.outliers import Outlier
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.quantities import python_number
from limpq_hub.plan.solver.programme import Programme
from limpq_hub.plan.solver.solution import Solution


@dataclass(frozen=True)
class SearchProblem:
    """The integer programme of a search, and what its layer groups, options and constraints stand for.

    Attributes:
        indicators: with their outliers.
        outliers: what was left out.
        unbudgeted: layers that get the same bits, and the bits they may get whatever the budget.
        groups: the same with the bits they may get within the budget, in the order of their names, so that the order
            of the layers changes no answer.
        programme: importance and constraints, an entry for each option of each group.
        alpha: factor of the weight importance in the objective.
        counting: how MACs are counted.
        budget: what the constraints come from.
        restricted: whether layers were pinned, excluded or tied, or candidates left out.
        unmet: the errors for limits that leave a group no bits at all; `budget` has the least that do leave some.
        without_effect: what is limited so that every choice is within it, each with the most that one takes; nothing
            where there is no choice.
    """

    indicators: Indicators
    outliers: tuple[Outlier, ...]
    unbudgeted: Sequence[LayerGroup]
    groups: Sequence[LayerGroup]
    programme: Programme
    alpha: float
    counting: Counting
    budget: Budget
    restricted: bool
    unmet: tuple[InfeasibleBudgetError, ...]
    without_effect: tuple[tuple[ConstraintKind[Any], Fraction], ...]

    @classmethod
    def of(
        cls,
        indicators: Indicators,
        budget: Budget,
        *,
        alpha: float | None = None,
        candidates: Candidates | None = None,
        pin: Pins | None = None,
        exclude: Iterable[str] | None = None,
        tie: Iterable[Iterable[str]] | None = None,
        counting: Counting = "exact",
        importance: Importance | None = None,
        apart: int | None = None,
        deadline: float = NEVER,
    ) -> SearchProblem:
        """Return what the arguments of a search ask for.

        Args:
            alpha: factor of the weight importance in the objective; that of the indicators if None.
            candidates: bit-widths that may be used, or by layer pattern; all that were learned if None.
            pin: (weight bits, activation bits) by shell pattern over layer names, a later one winning.
            exclude: shell patterns of layers that keep their most bits, unless they are pinned.
            tie: groups of shell patterns; the layers of a group get the same bits.
            counting: "exact" MACs, or "limpq" as the published script counts them.
            importance: "learned", "coupled" or "measured"; that of the indicators if None.
            apart: how far apart the weight and the activation bits of a layer may be, as `Indicators.using` takes it.
            deadline: when to give up, by `time.monotonic`.

        Raises:
            BudgetError: alpha or counting cannot be, or a layer table lacks bits or names another network's layer.
            PolicyError: a pattern matches nothing, or bits that were not learned are asked for.
            SearchError: the time is over.
        """
        alpha = _checked_alpha(indicators.alpha if alpha is None else alpha)
        if counting not in ("exact", "limpq"):
            raise BudgetError(f'counting={quoted(counting)} is not known: use "exact" or "limpq"')
        indicators = indicators.using(importance, apart)
        _, outliers = indicators.without_outliers
        unbudgeted = group_layers(
            indicators,
            outliers=outliers,
            candidates=candidates,
            pin=pin,
            exclude=exclude,
            tie=tie,
            apart=indicators.apart,
            deadline=deadline,
        )
        restricted = any(choice is not None for choice in (candidates, pin, exclude, tie))
        return cls._of_groups(indicators, outliers, unbudgeted, alpha, counting, budget, restricted, deadline)

    @classmethod
    def _of_groups(
        cls,
        indicators: Indicators,
        outliers: tuple[Outlier, ...],
        unbudgeted: Sequence[LayerGroup],
        alpha: float,
        counting: Counting,
        budget: Budget,
        restricted: bool,
        deadline: float,
    ) -> SearchProblem:
        groups, budget, unmet = _allowed(budget, indicators, unbudgeted, deadline)
        importances = [_importances(indicators, group, alpha) for group in until(deadline, groups)]
        added_up((max(of_group, default=0.0) for of_group in importances), alpha)  # so that every choice has a sum
        programme = Programme(importances, budget.linear_constraints(indicators, groups, counting, deadline))
        has_choice = any(len(group.options) > 1 for group in unbudgeted)
        most_of = [(kind, kind.most_allowed(limit, indicators, unbudgeted)) for kind, limit in budget.kinds]
        most_of += [(constraint.kind, constraint.most_allowed) for constraint in programme.constraints]
        return cls(
            indicators,
            _not_chosen(outliers, groups),
            unbudgeted,
            groups,
            programme,
            alpha,
            counting,
            budget,
            restricted,
            unmet,
            without_effect=tuple((kind, most) for kind, most in most_of if most is not None and has_choice),
        )

    def within(self, budget: Budget, deadline: float) -> SearchProblem:
        """Return the same search within another budget; raises like `of`."""
        return self._of_groups(
            self.indicators,
            self.outliers,
            self.unbudgeted,
            self.alpha,
            self.counting,
            budget,
            self.restricted,
            deadline,
        )

    def plan(self, solution: Solution, seconds: float) -> Plan:
        """Return the plan of a choice, its costs counted afresh."""
        policy = self.policy(solution.choice)
        objective = self.programme.cost(solution.choice)
        return Plan.of(
            policy,
            self.indicators.costs,
            counting=self.counting,
            objective=objective,
            bound=objective if solution.bound is None else solution.bound,
            optimal=solution.bound is None,
            excluded=self.outliers,
            alpha=self.alpha,
            apart=self.indicators.apart,
            importance=self.indicators.objective,
            seconds=seconds,
            notes=self._notes(policy.layers),
            way=solution.way,
            without_effect=tuple(kind.name for kind, _ in self.without_effect),
        )

    def policy(self, choice: Sequence[int]) -> Policy:
        """Return the policy of a choice: the number of the option that each group takes, [groups]."""
        bits = {
            name: group.options[option]
            for group, option in zip(self.groups, choice, strict=True)
            for name in group.layers
        }
        costs = self.indicators.costs
        return Policy(self.indicators.model, {name: bits[name] for name in costs}, self.indicators.input_size)

    def _notes(self, bits: Mapping[str, LayerBits]) -> tuple[str, ...]:
        """Return what the user should know: how a budget was read, what it leaves at the most bits, a vain alpha."""
        limits = list(self.budget.kinds)
        end = "nothing is traded" if len(self.without_effect) == len(limits) else "it limits nothing"
        vain = self.indicators.objective == "measured" and self.alpha != self.indicators.alpha
        notes = (
            *self.budget.readings,
            *(
                [f"alpha={self.alpha:g} changes nothing: it weighs learned steps, and pairs are added up"]
                if vain
                else []
            ),
            *(f"{kind.without_effect(most)}, so {end}" for kind, most in self.without_effect),
        )
        if any(kind.limits_activations for kind, _ in limits):
            return notes
        widths = [
            (bits[group.layers[0]].activation, {each.activation for each in group.options}) for group in self.groups
        ]
        has_choice = any(len(allowed) > 1 for _, allowed in widths)
        if not has_choice or any(chosen < max(allowed) for chosen, allowed in widths):
            return notes
        return (
            *notes,
            "only the weights are limited, so every activation went to its most bits; add bitops= to limit them too",
        )


def _allowed(
    budget: Budget, indicators: Indicators, unbudgeted: Sequence[LayerGroup], deadline: float
) -> tuple[list[LayerGroup], Budget, tuple[InfeasibleBudgetError, ...]]:
    """Return the groups within a budget, what the budget is with each limit raised that leaves none, and the errors."""
    unmet: list[InfeasibleBudgetError] = []
    while True:
        try:
            groups = budget.allowed(indicators, until(deadline, unbudgeted))
        except InfeasibleBudgetError as error:
            unmet.append(error)
            budget = budget.changed({error.constraint: error.minimum})
        else:
            return sorted(groups, key=lambda group: min(group.layers)), budget, tuple(unmet)


def _not_chosen(outliers: Sequence[Outlier], groups: Iterable[LayerGroup]) -> tuple[Outlier, ...]:
    """Return the outliers that are no choice: `candidates` may have left a layer nothing else."""
    if not outliers:
        return ()
    options = {name: group.options for group in groups for name in group.layers}
    return tuple(
        outlier
        for outlier in outliers
        if all(getattr(bits, outlier.kind) != outlier.bits for bits in options[outlier.layer])
    )


def _importances(indicators: Indicators, group: LayerGroup, alpha: float) -> list[float]:
    """Return what each option of a group adds to the objective, summed over its layers; a fixed layer adds nothing."""
    searched = [name for name in group.layers if indicators.costs[name].fixed is None]
    by_layer = [indicators.importances(name, group.options, alpha) for name in searched]
    # A single layer's are taken as they are: it is the usual case, and many groups are searched.
    if len(searched) == 1:
        return by_layer[0]
    return [added_up(of_bits, alpha) for of_bits in zip(*by_layer, strict=True)] or [0.0] * len(group.options)


def _checked_alpha(alpha: object) -> float:
    number = python_number(alpha)
    if number is None or number < 0:
        raise BudgetError(f"alpha={quoted(alpha)} cannot be: use a number of at least 0, for example 2.0")
    return float(number)
