"""The bit-widths of one layer: `LayerBits`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from limpq_hub.errors import PolicyError, quoted

BIT_WIDTHS = range(2, 9)
BitsKind = Literal["weight", "activation"]
BITS_KINDS: tuple[BitsKind, BitsKind] = ("weight", "activation")


@dataclass(frozen=True, order=True)
class LayerBits:
    """Bit-widths of one layer's weights and of its input activations, each in 2..8."""

    weight: int
    activation: int

    def __post_init__(self) -> None:
        for what, bits in (("weight", self.weight), ("activation", self.activation)):
            if type(bits) is not int or bits not in BIT_WIDTHS:
                raise PolicyError(f"{what} bits of {quoted(bits)} cannot be: use a whole number from 2 to 8")
