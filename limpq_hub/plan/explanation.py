"""Why a plan looks as it does: which layers got more bits than uniform ones, and what one more bit would cost where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from limpq_hub.plan.budget import format_bitops, format_size
from limpq_hub.plan.costs import total_bitops
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import LayerBits, Policy
from limpq_hub.plan.result import Plan

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Raise:
    """One layer's weights or activations at the next more bits.

    Attributes:
        bits: the bits it would have.
        gained: by how much the objective would fall.
        bitops: how many more BitOps an image would take.
        size_bytes: how many more bytes the weights would take.
    """

    layer: str
    kind: Literal["weight", "activation"]
    bits: int
    gained: float
    bitops: int
    size_bytes: float


@dataclass(frozen=True)
class Explanation:
    """A plan beside a uniform policy, and every single raise.

    Attributes:
        uniform: the policy of equal bits with the most BitOps that takes no more than the plan, or None.
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
            "raises": [vars(one) for one in self.raises],
        }

    def tables(self, most: int = 12) -> list[Table]:
        """Return the differences, and the `most` best raises, to be printed with rich."""
        from rich.table import Table

        tables = []
        if self.uniform is not None:
            bits = next(self.uniform.layers[name] for name, cost in self.plan.costs.items() if cost.fixed is None)
            table = Table(title=f"Beside uniform {bits.weight}/{bits.activation} bits", min_width=40)
            for heading in ("layer", "weight bits", "activation bits"):
                table.add_column(heading, justify="left" if heading == "layer" else "right")
            for name, (here, there) in self.differences().items():
                table.add_row(name, _changed(here.weight, there.weight), _changed(here.activation, there.activation))
            tables.append(table)
        table = Table(title="What one more bit would cost, the most gained per BitOp first", min_width=60)
        for heading in ("layer", "raise", "objective falls by", "BitOps", "weights"):
            table.add_column(heading, justify="left" if heading in ("layer", "raise") else "right")
        for one in self.raises[:most]:
            table.add_row(
                one.layer,
                f"{one.kind} to {one.bits}",
                f"{one.gained:.6f}",
                f"+{format_bitops(one.bitops)}",
                f"+{format_size(round(one.size_bytes))}" if one.size_bytes else "",
            )
        return [*tables, table]


def explain(indicators: Indicators, plan: Plan) -> Explanation:
    """Return why `plan` looks as it does.

    Args:
        indicators: those that the plan was searched in.
    """
    costs, model = indicators.costs, indicators.model
    uniform = [Policy.uniform(model, costs, bits, input_size=indicators.input_size) for bits in indicators.candidates]
    below = [policy for policy in uniform if total_bitops(costs, policy, plan.counting) <= plan.bitops]
    raises = [
        _raise(indicators, plan, name, kind) for name in indicators.weight_steps for kind in ("weight", "activation")
    ]
    known = sorted(filter(None, raises), key=lambda one: -one.gained / one.bitops)
    return Explanation(plan, below[0] if below else None, tuple(known))


def _raise(indicators: Indicators, plan: Plan, name: str, kind: Literal["weight", "activation"]) -> Raise | None:
    """Return the raise to the next bits that a search may choose, or None if there are no more."""
    kept, _ = indicators.without_outliers()
    steps = kept.weight_steps if kind == "weight" else kept.activation_steps
    bits, cost = plan.policy.layers[name], indicators.costs[name]
    higher = [candidate for candidate in steps[name] if candidate > getattr(bits, kind)]
    if not higher:
        return None
    raised = replace(bits, **{kind: min(higher)})
    return Raise(
        layer=name,
        kind=kind,
        bits=min(higher),
        gained=indicators.importance(name, bits, plan.alpha) - indicators.importance(name, raised, plan.alpha),
        bitops=cost.bitops(raised, plan.counting) - cost.bitops(bits, plan.counting),
        size_bytes=(cost.size_bits(raised) - cost.size_bits(bits)) / 8,
    )


def _changed(here: int, there: int) -> str:
    return str(here) if here == there else f"{here} ({here - there:+d})"
