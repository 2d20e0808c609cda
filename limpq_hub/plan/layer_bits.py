"""The bit-widths of one layer: `LayerBits`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from limpq_hub.errors import PolicyError, quoted

BIT_WIDTHS = range(2, 9)
FLOAT_BITS = 32
BitsKind = Literal["weight", "activation"]
BITS_KINDS: tuple[BitsKind, BitsKind] = ("weight", "activation")


@dataclass(frozen=True, order=True)
class LayerBits:
    """Bit-widths of one layer's weights and of its input activations, each in 2..8, or both 32 of one in float.

    Of a product of two activations `activation` is the bit-width of its first operand, `weight` that of its second.
    """

    weight: int
    activation: int

    def __post_init__(self) -> None:
        given = (self.weight, self.activation)
        whole = all(type(bits) is int for bits in given)  # 32.0 equals 32, and a file writes it otherwise
        if whole and given == (FLOAT_BITS, FLOAT_BITS):
            return
        for what, bits in zip(("weight", "activation"), given, strict=True):
            if type(bits) is not int or bits not in BIT_WIDTHS:
                raise PolicyError(f"{what} bits of {quoted(bits)} cannot be: use a whole number from 2 to 8")

    @property
    def text(self) -> str:
        """Weight bits and activation bits as a file writes them: "4/3"."""
        return f"{self.weight}/{self.activation}"

    @classmethod
    def of_text(cls, text: str) -> LayerBits:
        """Return the bits of a text that `LayerBits.text` gave."""
        weight, activation = text.split("/")
        return cls(int(weight), int(activation))


@cache
def near_pairs(weights: tuple[int, ...], activations: tuple[int, ...], apart: int | None) -> tuple[LayerBits, ...]:
    """Return the pairs of weight and activation bits that are at most `apart` bits apart; all if None or none is."""
    pairs = tuple(LayerBits(weight, activation) for weight in weights for activation in activations)
    near = tuple(bits for bits in pairs if apart is None or abs(bits.weight - bits.activation) <= apart)
    return near or pairs
