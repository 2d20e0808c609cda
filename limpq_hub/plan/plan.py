"""What a search returns: `Plan`, a policy with its costs and the proof that none is better."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from limpq_hub.errors import ArtifactFormatError, ArtifactVersionError, PolicyError, quoted
from limpq_hub.plan.certificate import Certificate
from limpq_hub.plan.costs import FLOAT, Costs, Counting, LayerCost
from limpq_hub.plan.importance import Importance, added_up, is_distance, objective_words
from limpq_hub.plan.indicator_fields import cost_of
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import check_shape, errors_naming
from limpq_hub.plan.outliers import Outlier
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import (
    check_layers,
    compression_ratio,
    peak_activation_bytes,
    total_bitops,
    total_size_bytes,
)
from limpq_hub.plan.quantities import format_bitops, format_size

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1
_PROOF = {
    "counting": str,
    "objective": float,
    "bound": float,
    "optimal": bool,
    "alpha": float,
    "seconds": float,
    "way": str,
}
_OUTLIER = {"layer": str, "kind": str, "bits": int, "step": float, "step_above": float}
_SHAPE = {"format": int, "policy": dict, "costs": dict, "excluded": [_OUTLIER], "notes": [str], **_PROOF}


@dataclass(frozen=True)
class Plan:
    """A policy, what it costs, and how it was proven.

    Attributes:
        policy: bits of every layer, first and last included.
        costs: cost of each layer before its bits were known.
        bitops: BitOps of one image, first and last layer included.
        size_bytes: bytes of all quantized weights, without step sizes, biases and BatchNorm.
        compression: 32-bit size of the weights divided by their size; rounded down, so that it is a limit this meets.
        activation_bytes: bytes of the largest layer input, for one image.
        objective: sum over the searched layers of what `Indicators.importance` says of their bits.
        bound: proven lower bound of the objective under the same budget and choices; equal to it when optimal.
        optimal: whether the policy is proven to be the best.
        excluded: outliers that were no choice.
        alpha: factor of the weight importance in the objective.
        counting: the rule that `bitops` follows.
        seconds: time the search took.
        way: how the optimum, or the bound, was proven: "enumeration", "dynamic programme", "bound" (no policy within
            the budget loses less than this one does) or "HiGHS"; "" if it was not.
        notes: what the user should know about this result, a sentence each.
        importance: what the objective adds up: "learned" step sizes, both of a layer "coupled", or what was "measured"
            of each pair of bits.
        apart: how far apart the weight and the activation bits of a searched layer could be; None for any.
        without_effect: keywords of the limits that every choice of bits meets; JSON does not hold them.
        certify: gives the certificate; None of a plan that no search has just returned.
    """

    policy: Policy
    costs: Costs = field(repr=False)
    bitops: int
    size_bytes: int
    compression: float
    activation_bytes: int
    objective: float
    bound: float
    optimal: bool
    excluded: tuple[Outlier, ...]
    alpha: float
    counting: Counting
    seconds: float
    notes: tuple[str, ...] = ()
    way: str = ""
    importance: Importance = "learned"
    apart: int | None = None
    without_effect: tuple[str, ...] = field(default=(), repr=False, compare=False)
    certify: Callable[[], Certificate] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """Return the figures in one line."""
        proof = "proven optimal" if self.optimal else f"bound {self.bound:.6f}"
        return (
            f"{self.policy.model}: {self.bitops:,} BitOps, {self.size_bytes:,} bytes of weights "
            f"({self.compression:.2f}x), objective {self.objective:.6f}, {proof}"
        )

    @classmethod
    def of(cls, policy: Policy, costs: Costs, *, counting: Counting = "exact", **proof: Any) -> Plan:
        """Return the plan of `policy`, its costs counted afresh.

        Args:
            proof: the remaining attributes.
        """
        return cls(
            policy=policy,
            costs=costs,
            bitops=total_bitops(costs, policy, counting),
            size_bytes=total_size_bytes(costs, policy),
            compression=compression_ratio(costs, policy),
            activation_bytes=peak_activation_bytes(costs, policy),
            counting=counting,
            **proof,
        )

    @classmethod
    def of_policy(
        cls, indicators: Indicators, policy: Policy, *, alpha: float | None = None, counting: Counting = "exact"
    ) -> Plan:
        """Return the plan of a policy that no search has found; its bound, 0, is all that is proven.

        Raises:
            PolicyError: the policy is for other layers, or uses bits that were not learned.
            BudgetError: alpha makes the objective infinite.
        """
        check_layers(indicators.costs, policy)
        alpha = indicators.alpha if alpha is None else alpha
        for name, cost in indicators.costs.items():
            if cost.fixed not in (None, policy.layers[name]):
                raise PolicyError(
                    f"layer {quoted(name)} is fixed at {cost.fixed.text} bits, the policy has "
                    f"{policy.layers[name].text}; give it {cost.fixed.text} there"
                )
        return cls.of(
            policy,
            indicators.costs,
            counting=counting,
            objective=added_up(
                (indicators.importance(name, policy.layers[name], alpha) for name in indicators.weight_steps), alpha
            ),
            bound=0.0,
            optimal=False,
            excluded=(),
            alpha=alpha,
            seconds=0.0,
            importance=indicators.objective,
        )

    @cached_property
    def certificate(self) -> Certificate:
        """The bound, and how far the second best policy and the best uniform one lie behind; searched for once.

        Raises:
            PolicyError: no search has returned this plan: it was read from a file, or made of a policy.
            SearchError: it took longer than the time limit of the search.
        """
        if self.certify is None:
            raise PolicyError("only a plan that limpq_hub.search returned has a certificate: search for it again")
        return self.certify()

    @property
    def float_bitops(self) -> int:
        """BitOps of what stays in float, because no search can give it bits."""
        return sum(cost.bitops(FLOAT, self.counting) for cost in self.costs.values() if cost.fixed == FLOAT)

    def mean_bits(self) -> tuple[float, float]:
        """Return the mean weight bits and the mean activation bits of the searched layers; of all if none is."""
        searched = [bits for name, bits in self.policy.layers.items() if self.costs[name].fixed is None]
        layers = searched or list(self.policy.layers.values())
        weights, activations = sum(bits.weight for bits in layers), sum(bits.activation for bits in layers)
        return weights / len(layers), activations / len(layers)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it; its "policy" is the content of a `policy.json`."""
        return {
            "format": FORMAT,
            "policy": self.policy.to_json(),
            "bitops": self.bitops,
            "size_bytes": self.size_bytes,
            "compression": self.compression,
            "activation_bytes": self.activation_bytes,
            "objective": self.objective,
            "bound": self.bound,
            "optimal": self.optimal,
            "excluded": [asdict(outlier) for outlier in self.excluded],
            "alpha": self.alpha,
            "counting": self.counting,
            "seconds": self.seconds,
            "notes": list(self.notes),
            "way": self.way,
            **({"importance": self.importance} if self.importance != "learned" else {}),
            **({"apart": self.apart} if self.apart is not None else {}),
            "costs": {name: cost.to_json() for name, cost in self.costs.items()},
        }

    @classmethod
    def from_json(cls, content: Any, name: str = "plan") -> Plan:
        """Return the plan in parsed JSON that `to_json` gave; its costs are counted afresh and must agree.

        Args:
            name: what to call the content in an error.

        Raises:
            ArtifactFormatError: the content is not a plan.
            ArtifactVersionError: the content is a plan of another format.
        """
        check_shape(content, _SHAPE, name)
        if content["format"] != FORMAT:
            raise ArtifactVersionError(
                f"{name} is of format {quoted(content['format'])}, this version reads {FORMAT}; upgrade limpq-hub"
            )
        if content["counting"] not in get_args(Counting):
            raise ArtifactFormatError(f"{name}: counting {quoted(content['counting'])} is not known")
        importance = content.get("importance", "learned")
        if importance not in get_args(Importance):
            raise ArtifactFormatError(f"{name}: importance {quoted(importance)} is not known")
        apart = content.get("apart")
        if not is_distance(apart):
            raise ArtifactFormatError(f"{name}: apart {quoted(apart)} is no number of bits")
        if content["alpha"] < 0:
            raise ArtifactFormatError(f"{name}: alpha {content['alpha']} is below 0")
        if any(outlier["kind"] not in ("weight", "activation") for outlier in content["excluded"]):
            raise ArtifactFormatError(f"{name}: the kind of an excluded entry is neither weight nor activation")
        if content["bound"] > content["objective"]:
            raise ArtifactFormatError(f"{name}: the bound {content['bound']} is above the objective")
        with errors_naming(name):
            policy = Policy.from_json(content["policy"])
            costs = {layer: cost_of(layer, cost, searchable=False) for layer, cost in content["costs"].items()}
            check_layers(costs, policy)
        for layer, cost in costs.items():
            if cost.fixed not in (None, policy.layers[layer]):
                raise ArtifactFormatError(
                    f"{name}: layer {quoted(layer)} is fixed at {cost.fixed.text} bits, not so in the policy"
                )
        plan = cls.of(
            policy,
            costs,
            excluded=tuple(Outlier(**{key: outlier[key] for key in _OUTLIER}) for outlier in content["excluded"]),
            notes=tuple(content["notes"]),
            importance=importance,
            apart=apart,
            **{key: content[key] for key in _PROOF},
        )
        for key in ("bitops", "size_bytes", "activation_bytes", "compression"):
            recount = getattr(plan, key)
            # Earlier versions rounded the ratio to the nearest float, perhaps upwards.
            accepted = (recount, math.nextafter(recount, math.inf)) if key == "compression" else (recount,)
            if content.get(key) not in accepted:
                raise ArtifactFormatError(
                    f"{name}: {key} is {quoted(content.get(key))}, a recount gives {quoted(recount)}"
                )
        return plan

    def table(self) -> Table:
        """Return the bits of each layer with what they cost, to be printed with rich."""
        from rich.markup import escape
        from rich.table import Table

        size = f" at {self.policy.input_size}x{self.policy.input_size}" if self.policy.input_size else ""
        proof = "proven optimal" if self.optimal else f"bound {self.bound:.6f}"
        in_float = f", {self.float_bitops / self.bitops:.1%} of the BitOps in float" if self.float_bitops else ""
        table = Table(
            title=f"{escape(self.policy.model)}{size}: {format_bitops(self.bitops)} BitOps, "
            f"{format_size(self.size_bytes)}",
            caption=f"{self.compression:.2f}x smaller than float32, objective {self.objective:.6f} "
            f"({objective_words(self.importance, self.apart)})\n{proof}, {self.seconds * 1000:.0f} ms"
            f"{' by ' + self.way if self.way else ''}{in_float}",
        )
        for heading in ("layer", "weight bits", "activation bits", "MACs", "BitOps", "share"):
            table.add_column(heading, justify="left" if heading == "layer" else "right", overflow="fold")
        for name, bits in self.policy.layers.items():
            cost = self.costs[name]
            bitops = cost.bitops(bits, self.counting)
            table.add_row(
                escape(name) + _marked(cost),
                str(bits.weight),
                str(bits.activation),
                format_bitops(cost.macs_counted(self.counting)),
                format_bitops(bitops),
                f"{bitops / self.bitops:.1%}",
            )
        return table


def _marked(cost: LayerCost) -> str:
    """Return what a table says of a layer behind its name."""
    if cost.fixed is None:
        return ""
    return " (float)" if cost.fixed == FLOAT else " (fixed)"
