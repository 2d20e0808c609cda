"""What a policy costs: `LayerCost` of each layer and the counting rules, in exact integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from limpq_hub.errors import PolicyError
from limpq_hub.plan.policy import LayerBits, Policy

Counting = Literal["exact", "limpq"]
FIXED_BITS = LayerBits(8, 8)
FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs per image, before its bit-widths are known.

    Attributes:
        macs: multiply-accumulates, from the real output size.
        macs_limpq: the same as the published script counts them, its output size not rounded down.
        weights: number of weights, bias excluded.
        inputs: number of input activations.
        signed: whether the input activations can be negative.
        fixed: bit-widths that the search must not change (first and last layer), or None.
    """

    macs: int
    macs_limpq: int
    weights: int
    inputs: int
    signed: bool
    fixed: LayerBits | None = None

    def macs_counted(self, counting: Counting) -> int:
        """Return the multiply-accumulates by a rule."""
        return self.macs if counting == "exact" else self.macs_limpq

    def bitops(self, bits: LayerBits, counting: Counting = "exact") -> int:
        """Return MACs x weight bits x activation bits."""
        return self.macs_counted(counting) * bitops_per_mac(bits)

    def size_bits(self, bits: LayerBits) -> int:
        """Return the bits that the weights take."""
        return self.weights * bits.weight

    def activation_bytes(self, bits: LayerBits) -> int:
        """Return the bytes that the layer's input takes, rounded up."""
        return -(-self.inputs * bits.activation // 8)


Costs = Mapping[str, LayerCost]


def bitops_per_mac(bits: LayerBits) -> int:
    """Return the BitOps of one multiply-accumulate."""
    return bits.weight * bits.activation


def total_bitops(costs: Costs, policy: Policy, counting: Counting = "exact") -> int:
    """Return the BitOps of one image under `policy`, every layer included."""
    return _total(costs, policy, lambda cost, bits: cost.bitops(bits, counting))


def total_size_bits(costs: Costs, policy: Policy) -> int:
    """Return the bits of all convolution and linear weights under `policy`."""
    return _total(costs, policy, LayerCost.size_bits)


def compression_ratio(costs: Costs, policy: Policy) -> float:
    """Return the 32-bit size of all weights divided by their size under `policy`."""
    return FLOAT_BITS * sum(cost.weights for cost in costs.values()) / total_size_bits(costs, policy)


def peak_activation_bytes(costs: Costs, policy: Policy) -> int:
    """Return the bytes of the largest layer input under `policy`, for one image."""
    check_layers(costs, policy)
    return max(cost.activation_bytes(policy.layers[name]) for name, cost in costs.items())


def check_layers(costs: Costs, policy: Policy) -> None:
    """Raise `PolicyError` unless `policy` names exactly the layers of `costs`."""
    if costs.keys() == policy.layers.keys():
        return
    missing = [name for name in costs if name not in policy.layers]
    foreign = [name for name in policy.layers if name not in costs]
    raise PolicyError(
        f"the policy is for other layers: {_names('it lacks', missing)}{_names('it has foreign', foreign)}"
        f"give bits for exactly the {len(costs)} layers of the network"
    )


def _names(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}; "


def _total(costs: Costs, policy: Policy, cost_of: Callable[[LayerCost, LayerBits], int]) -> int:
    check_layers(costs, policy)
    return sum(cost_of(cost, policy.layers[name]) for name, cost in costs.items())
