"""What a policy may cost: `Budget`, limits of several kinds at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from limpq_hub.errors import BudgetError
from limpq_hub.plan.constraint_kind import ConstraintKind
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.constraints.layer_table import TableLimit
from limpq_hub.plan.constraints.linear_kind import LinearKind
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.deadline import NEVER, until
from limpq_hub.plan.frozen import FrozenMapping
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_groups import LayerGroup
from limpq_hub.plan.linear_constraint import LinearConstraint

if TYPE_CHECKING:
    from typing_extensions import Unpack


class LimitsBesideBitops(TypedDict, total=False):
    """The limits that a frontier can be searched within, as keyword arguments."""

    size: str | int | None
    compression: str | float | None
    activation_memory: str | int | None
    latency: TableLimit | None
    energy: TableLimit | None


class Limits(LimitsBesideBitops, total=False):
    """Every limit of a budget, as keyword arguments."""

    bitops: str | float | None


@dataclass(frozen=True, init=False, repr=False)
class Budget:
    """Limits that a policy must meet, all at once; at least one is given.

    The keywords are those of `limpq_hub.search`, each one kind of `limpq_hub.plan.constraints`: `Budget(bitops="3G",
    size="4.5MB")`. The attribute of the same name holds what was parsed, for example `LayerBits` where the BitOps are
    "w3a4"; it is None where no limit was given.

    Attributes:
        limits: what was parsed, by keyword, in the order of the kinds.
        readings: how text was read that was not written as plainly as can be, such as "3 g", a sentence each.

    Raises:
        BudgetError: none is given, or one is not in the grammar of its kind.
    """

    limits: FrozenMapping[str, Any]
    readings: tuple[str, ...] = field(compare=False)

    def __init__(self, **limits: Unpack[Limits]) -> None:
        kinds = {kind.name: kind for kind in KINDS}
        for name in limits:
            if name not in kinds:
                raise TypeError(f"Budget() got an unexpected keyword argument {name!r}")
        values = {name: value for name in kinds if (value := limits.get(name)) is not None}
        if not values:
            raise BudgetError('no budget was given: use for example bitops="3G", size="4.5MB" or compression="12.2x"')
        parsed = FrozenMapping({name: kinds[name].parse(value) for name, value in values.items()})
        object.__setattr__(self, "limits", parsed)
        readings = (kinds[name].reading(value) for name, value in values.items())
        object.__setattr__(self, "readings", tuple(filter(None, readings)))

    def __getattr__(self, name: str) -> Any:
        if any(kind.name == name for kind in KINDS):
            return self.limits.get(name)
        raise AttributeError(f"'Budget' object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"Budget({', '.join(f'{name}={limit!r}' for name, limit in self.limits.items())})"

    @property
    def kinds(self) -> Iterator[tuple[ConstraintKind[Any], Any]]:
        """Each kind that is limited, with its limit."""
        return ((kind, self.limits[kind.name]) for kind in KINDS if kind.name in self.limits)

    def changed(self, limits: Mapping[str, Any]) -> Budget:
        """Return this budget with other limits, by keyword and as they were parsed; None where there is none now."""
        changed = copy(self)
        kept = {name: limit for name, limit in {**self.limits, **limits}.items() if limit is not None}
        object.__setattr__(changed, "limits", FrozenMapping(kept))
        return changed

    def allowed(self, indicators: Indicators, groups: Iterable[LayerGroup]) -> list[LayerGroup]:
        """Return the groups without the options that a limit rules out one by one, such as the activation memory.

        Raises:
            InfeasibleBudgetError: a group has no option left.
        """
        groups = list(groups)
        for kind, limit in self.kinds:
            groups = kind.allowed(limit, indicators, groups)
        return groups

    def with_entries(self, groups: Iterable[LayerGroup]) -> list[LayerGroup]:
        """Return the groups without the options for which a table of the budget has no entry.

        A group may have none left.
        """
        groups = list(groups)
        for kind, limit in self.kinds:
            groups = kind.with_entries(limit, groups)
        return groups

    def linear_constraints(
        self, indicators: Indicators, groups: Sequence[LayerGroup], counting: Counting, deadline: float = NEVER
    ) -> list[LinearConstraint]:
        """Return the limits on sums over layers: the constraints of the integer programme.

        Raises:
            BudgetError: a table lacks bits of a layer, or names a layer that the network does not have.
            SearchError: the time is over.
        """
        return [
            kind.constraint(limit, indicators, groups, counting)
            for kind, limit in until(deadline, self.kinds)
            if isinstance(kind, LinearKind)
        ]


def split_limits(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return those of the arguments of a search that are limits, and the others."""
    names = {kind.name for kind in KINDS}
    limits = {name: value for name, value in arguments.items() if name in names}
    return limits, {name: value for name, value in arguments.items() if name not in names}


def typed_limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits among the parsed options of a command line, as keyword arguments of `Budget`."""
    typed = {kind: options.get(kind.name) for kind in KINDS}
    return {kind.name: kind.of_option(value) for kind, value in typed.items() if value is not None}


def limit_words(limits: Mapping[str, Any]) -> list[str] | None:
    """Return the options of a command line that stand for limits, or None where it cannot hold one of them."""
    kinds = {kind.name: kind for kind in KINDS}
    words = []
    for name, value in limits.items():
        values = kinds[name].option_words(value)
        if values is None:
            return None
        words += [kinds[name].flag, *values]
    return words
