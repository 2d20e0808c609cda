"""What a whole policy costs: the sums and the largest of what its layers cost, in exact integers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from limpq_hub.errors import PolicyError
from limpq_hub.plan.costs import Costs, Counting, LayerCost
from limpq_hub.plan.layer_bits import FLOAT_BITS, LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.rounding import float_below


def total_bitops(costs: Costs, policy: Policy, counting: Counting = "exact") -> int:
    """Return the BitOps of one image under `policy`, every layer included."""
    return _total(costs, policy, lambda cost, bits: cost.bitops(bits, counting))


def total_size_bits(costs: Costs, policy: Policy) -> int:
    """Return the bits of all convolution and linear weights under `policy`."""
    return _total(costs, policy, LayerCost.size_bits)


def total_size_bytes(costs: Costs, policy: Policy) -> int:
    """Return the bytes of all convolution and linear weights under `policy`, a part of one rounded up."""
    return -(-total_size_bits(costs, policy) // 8)


def compression_ratio(costs: Costs, policy: Policy) -> float:
    """Return the 32-bit size of all weights divided by their size under `policy`, as a limit that the policy meets.

    It is 1 of a network without weights.
    """
    size_bits = total_size_bits(costs, policy)
    return (
        float_below(Fraction(FLOAT_BITS * sum(cost.weights for cost in costs.values()), size_bits))
        if size_bits
        else 1.0
    )


def peak_activation_bytes(costs: Costs, policy: Policy) -> int:
    """Return the bytes of the largest layer input under `policy`, for one image."""
    check_layers(costs, policy)
    bits_of = dict(policy.layers.items())  # each look-up in a `FrozenMapping` is a call of Python
    return max(cost.activation_bytes(bits_of[name]) for name, cost in costs.items())


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
    bits_of = dict(policy.layers.items())  # each look-up in a `FrozenMapping` is a call of Python
    return sum(cost_of(cost, bits_of[name]) for name, cost in costs.items())
