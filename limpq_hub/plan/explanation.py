"""Why a plan looks as it does: which layers got more bits than uniform ones, and what more bits would cost where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from limpq_hub.errors import PolicyError
from limpq_hub.plan.baseline_policies import Fits, uniform_largest
from limpq_hub.plan.deadline import deadline_in, until
from limpq_hub.plan.importance import IMPORTANCE_WORDS, asked_distance
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import BITS_KINDS, BitsKind, LayerBits
from limpq_hub.plan.layer_groups import LayerGroup, group_layers
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops, total_size_bits
from limpq_hub.plan.quantities import format_bitops, format_size
from limpq_hub.plan.role_summary import roles_of, roles_table

if TYPE_CHECKING:
    from rich.table import Table

_MOST_RAISES_SHOWN = 12


@dataclass(frozen=True)
class Raise:
    """One layer's weights or activations at the next more bits.

    Attributes:
        layer: its name; of tied layers the first.
        kind: whether its weights or its activations.
        bits: the bits it would have.
        along: the bits of the other kind, where they have to rise with it because bits are held near each other.
        gained: by how much the objective would fall.
        bitops: how many more BitOps an image would take.
        size_bytes: how many more bytes the weights would take.
        tied: other layers that are raised with it.
    """

    layer: str
    kind: BitsKind
    bits: int
    gained: float
    bitops: int
    size_bytes: float
    tied: tuple[str, ...] = ()
    along: int | None = None

    @property
    def text(self) -> str:
        """What is raised, in words: "weight to 4"."""
        other = "activation" if self.kind == "weight" else "weight"
        return f"{self.kind} to {self.bits}" + (f", {other} to {self.along}" if self.along else "")


@dataclass(frozen=True)
class Explanation:
    """A plan beside a uniform policy, and every single raise.

    Attributes:
        plan: the plan that is explained.
        uniform: a policy of equal bits, or None if there is none to compare with.
        raises: most gained per BitOp first.
    """

    plan: Plan
    uniform: Policy | None
    raises: tuple[Raise, ...]

    def differences(self) -> dict[str, tuple[LayerBits, LayerBits]]:
        """Return {layer: (bits of the plan, bits of the uniform policy)} where they differ."""
        if self.uniform is None:
            return {}
        return {
            name: (bits, self.uniform.layers[name])
            for name, bits in self.plan.policy.layers.items()
            if bits != self.uniform.layers[name]
        }

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as JSON can hold it."""
        return {
            "plan": self.plan.to_json(),
            "uniform": self.uniform and self.uniform.to_json(),
            "roles": {role or "other": asdict(summary) for role, summary in roles_of(self.plan).items()},
            "raises": [vars(single_raise) for single_raise in self.raises],
        }

    def tables(self) -> list[Table]:
        """Return the differences, the best raises, and the bits by role where there are several, to print with rich.

        A table without rows is left out: `sentences` say why.
        """
        tables = [self._differences_table(differences)] if (differences := self.differences()) else []
        if self.raises:
            tables.append(self._raises_table())
        if len({cost.role for cost in self.plan.costs.values()} - {None}) > 1:
            tables.append(roles_table(self.plan))
        return tables

    def _differences_table(self, differences: Mapping[str, tuple[LayerBits, LayerBits]]) -> Table:
        """Return the layers whose bits differ from the uniform policy's, a row each."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(
            title=f"Beside uniform {self._uniform_bits()} bits",
            caption=f"{len(differences)} of {len(self.plan.costs)} layers: the others have the same bits in both",
            min_width=40,
        )
        for heading in ("layer", "weight bits", "activation bits"):
            table.add_column(heading, justify="left" if heading == "layer" else "right", overflow="fold")
        for name, (here, there) in differences.items():
            table.add_row(
                escape(name), _changed(here.weight, there.weight), _changed(here.activation, there.activation)
            )
        return table

    def _raises_table(self) -> Table:
        """Return the best raises, a row each."""
        from rich.markup import escape
        from rich.table import Table

        shown = self.raises[:_MOST_RAISES_SHOWN]
        table = Table(
            title="What the next larger bit-width would cost, the most gained per BitOp first",
            caption=None if len(shown) == len(self.raises) else f"{len(shown)} of {len(self.raises)} raises",
            min_width=60,
        )
        falls = f"objective ({IMPORTANCE_WORDS[self.plan.importance]}) falls by"
        for heading in ("layer", "raise", falls, "BitOps", "weights"):
            table.add_column(heading, justify="left" if heading in ("layer", "raise") else "right", overflow="fold")
        for single_raise in shown:
            table.add_row(
                escape(single_raise.layer) + (f" and {len(single_raise.tied)} tied" if single_raise.tied else ""),
                single_raise.text,
                f"{single_raise.gained:.6f}",
                f"+{format_bitops(single_raise.bitops)}",
                f"+{format_size(round(single_raise.size_bytes))}" if single_raise.size_bytes else "",
            )
        return table

    def sentences(self) -> list[str]:
        """Return what stands in place of a table that would be empty, a sentence each."""
        sentences = []
        if self.uniform is not None and not self.differences():
            sentences.append(f"every layer has the bits of the uniform policy, {self._uniform_bits()}")
        if self.uniform is None and any(cost.fixed is None for cost in self.plan.costs.values()):
            sentences.append("no policy of equal bits that all layers learned is within the budget to set it beside")
        if not self.raises:
            sentences.append("every layer has the most bits that it may have: there is none to raise")
        return sentences

    def _uniform_bits(self) -> str:
        """Return the bits of the uniform policy: 4/4; of a network without a choice those of its fixed layers."""
        layers = self.uniform.layers if self.uniform else {}
        searched = [name for name in layers if self.plan.costs[name].fixed is None]
        bits = layers[next(iter(searched or layers))]
        return f"{bits.weight}/{bits.activation}"


def explain(
    indicators: Indicators,
    plan: Plan,
    *,
    fits: Fits | None = None,
    time_limit_s: float = 10,
    **choices: Any,
) -> Explanation:
    """Return why `plan` looks as it does.

    Args:
        indicators: those that the plan was searched in.
        fits: whether a policy is within the budget; if None, whether it takes no more BitOps and bytes than the plan.
            The plan is set beside the largest policy of equal bits that fits, if there is one.
        time_limit_s: seconds after which it gives up, up to a day.
        choices: the `candidates`, `pin`, `exclude` and `tie` that it was searched with: what they rule out is no raise.

    Raises:
        SearchError: the time is over.
    """
    deadline = deadline_in(time_limit_s)
    indicators = indicators.using(plan.importance, asked_distance(plan.apart))
    try:
        uniform = uniform_largest(indicators, fits or partial(_is_no_larger, plan))
    except PolicyError:  # only uneven bits fit, or layers learned none in common
        uniform = None
    _, outliers = indicators.without_outliers
    groups = group_layers(indicators, outliers=outliers, apart=indicators.apart, deadline=deadline, **choices)
    raises = [single_raise for group in until(deadline, groups) for single_raise in _raises(indicators, plan, group)]
    best_first = sorted(raises, key=lambda single_raise: -single_raise.gained / single_raise.bitops)
    return Explanation(plan, uniform, tuple(best_first))


def _is_no_larger(plan: Plan, policy: Policy) -> bool:
    """Return whether `policy` takes no more BitOps and no more bytes than the plan."""
    within_bitops = total_bitops(plan.costs, policy, plan.counting) <= plan.bitops
    return within_bitops and total_size_bits(plan.costs, policy) <= total_size_bits(plan.costs, plan.policy)


def _raises(indicators: Indicators, plan: Plan, group: LayerGroup) -> Iterator[Raise]:
    """Yield the raises of weights and of activations to the next bits that a search may choose, if there are more."""
    bits = plan.policy.layers[group.layers[0]]
    seen = set()
    for kind in BITS_KINDS:
        raised_bits, other_bits = _ordered(bits, kind)
        higher = sorted(_ordered(option, kind) for option in group.options)
        higher = [option for option in higher if option[0] > raised_bits and option[1] >= other_bits]
        alone = [option for option in higher if option[1] == other_bits]
        # A policy that was given may hold bits that no search chooses: nothing moves along with those.
        choices = alone or (higher if bits in group.options else [])
        if not choices:
            continue
        raised, other = choices[0]
        option = LayerBits(raised, other) if kind == "weight" else LayerBits(other, raised)
        if option not in seen:
            seen.add(option)
            yield _raise(indicators, plan, group, kind, option, None if alone else other)


def _ordered(bits: LayerBits, kind: BitsKind) -> tuple[int, int]:
    """Return the bits of a kind, then those of the other."""
    return (bits.weight, bits.activation) if kind == "weight" else (bits.activation, bits.weight)


def _raise(
    indicators: Indicators, plan: Plan, group: LayerGroup, kind: BitsKind, raised: LayerBits, along: int | None
) -> Raise:
    """Return the raise of a group to some bits; `along` as in `Raise`."""
    bits = plan.policy.layers[group.layers[0]]
    costs = [indicators.costs[name] for name in group.layers]
    return Raise(
        layer=group.layers[0],
        tied=group.layers[1:],
        kind=kind,
        bits=getattr(raised, kind),
        gained=sum(
            indicators.importance(name, bits, plan.alpha) - indicators.importance(name, raised, plan.alpha)
            for name in group.layers
        ),
        bitops=sum(cost.bitops(raised, plan.counting) - cost.bitops(bits, plan.counting) for cost in costs),
        size_bytes=sum(cost.size_bits(raised) - cost.size_bits(bits) for cost in costs) / 8,
        along=along,
    )


def _changed(here: int, there: int) -> str:
    return str(here) if here == there else f"{here} ({here - there:+d})"
