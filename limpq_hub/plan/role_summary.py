"""Where the bits of a plan went, by the role of the layers: depthwise, expand, project, squeeze, excite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limpq_hub.plan.costs import LayerRole
from limpq_hub.plan.plan import Plan

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class RoleSummary:
    """The searched layers of one role.

    Attributes:
        layers: how many.
        weight_bits, activation_bits: on average over the layers.
        bitops_share, size_share: of all BitOps and of all bits of weights, 0..1.
    """

    layers: int
    weight_bits: float
    activation_bits: float
    bitops_share: float
    size_share: float


def roles_of(plan: Plan) -> Mapping[LayerRole | None, RoleSummary]:
    """Return the searched layers of each role in the order of execution; under None those of no role."""
    bits, costs = plan.policy.layers, plan.costs
    all_size = sum(costs[name].size_bits(bits[name]) for name in costs)
    names: dict[LayerRole | None, list[str]] = {}
    for name, cost in costs.items():
        if cost.fixed is None:
            names.setdefault(cost.role, []).append(name)
    return {
        role: RoleSummary(
            layers=len(layers),
            weight_bits=sum(bits[name].weight for name in layers) / len(layers),
            activation_bits=sum(bits[name].activation for name in layers) / len(layers),
            bitops_share=_share(sum(costs[name].bitops(bits[name], plan.counting) for name in layers), plan.bitops),
            size_share=_share(sum(costs[name].size_bits(bits[name]) for name in layers), all_size),
        )
        for role, layers in names.items()
    }


def _share(part: int, whole: int) -> float:
    """Return the share of a sum; 0 of nothing, such as the weights of products of activations alone."""
    return part / whole if whole else 0.0


def roles_table(plan: Plan) -> Table:
    """Return the bits of each role, to be printed with rich."""
    from rich.table import Table

    table = Table(title="Bits by the role of the layers", min_width=60)
    for heading in ("role", "layers", "weight bits", "activation bits", "BitOps", "weights"):
        table.add_column(heading, justify="left" if heading == "role" else "right")
    for role, summary in roles_of(plan).items():
        table.add_row(
            role or "other",
            str(summary.layers),
            f"{summary.weight_bits:.2f}",
            f"{summary.activation_bits:.2f}",
            f"{100 * summary.bitops_share:.1f} %",
            f"{100 * summary.size_share:.1f} %",
        )
    return table
