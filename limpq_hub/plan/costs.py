"""What a layer costs at its bits: `LayerCost` and the counting rules, in exact integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from limpq_hub.plan.layer_bits import FLOAT_BITS, LayerBits

Counting = Literal["exact", "limpq"]
# By shape: a convolution of each channel alone; 1x1 to more and to fewer channels, behind a depthwise one to as many;
# to fewer of values that were pooled over the whole picture, and back.
LayerRole = Literal["depthwise", "expand", "project", "squeeze", "excite"]
FIXED_BITS = LayerBits(8, 8)
FLOAT = LayerBits(FLOAT_BITS, FLOAT_BITS)


@dataclass(frozen=True)
class LayerCost:
    """What one layer, or one product of two activations, costs per image, before its bit-widths are known.

    Attributes:
        macs: multiply-accumulates, from the real sizes of the tensors.
        macs_limpq: the same as the published script counts them, its output size not rounded down.
        weights: number of weights, bias excluded; 0 of a product of activations.
        inputs: number of input activations.
        signed: whether the input activations can be negative.
        fixed: bit-widths that the search must not change (first and last layer; `FLOAT` of what stays in float), or
            None.
        offset: whether the input activations, though they can be negative, are bounded below (after SiLU, GELU), so
            that their grid has a zero point of its own.
        role: what the layer is in its block, for people to read: files without it are equal to files with it.
    """

    macs: int
    macs_limpq: int
    weights: int
    inputs: int
    signed: bool
    fixed: LayerBits | None = None
    offset: bool = False
    role: LayerRole | None = field(default=None, compare=False)

    @property
    def is_product(self) -> bool:
        """Whether it is a product of two activations that has bits of its own."""
        return not self.weights and self.fixed != FLOAT

    def to_json(self) -> dict[str, Any]:
        """Return the cost as JSON holds it; "offset", "product" and "role" are there only where they say something."""
        content = asdict(self)
        optional = {"offset": content.pop("offset"), "product": self.is_product, "role": content.pop("role")}
        return content | {key: value for key, value in optional.items() if value}

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
