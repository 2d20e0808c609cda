"""What a layer costs at its bits: `LayerCost` and the counting rules, in exact integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from limpq_hub.plan.layer_bits import LayerBits

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
