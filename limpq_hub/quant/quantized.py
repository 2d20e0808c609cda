"""`Quantized`: what quantized layers and products share, two quantizers and the active bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

from limpq_hub.errors import PolicyError, UnsupportedLayerError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.quantizer import LsqQuantizer


class Quantized(nn.Module):
    """What quantized layers and products share: a quantizer for each of two operands, and the active bits.

    Attributes:
        weight_quantizer: of the weight; of the second operand of a product.
        activation_quantizer: of the input; of the first operand of a product.
    """

    weight_quantizer: LsqQuantizer
    activation_quantizer: LsqQuantizer

    @property
    def bits(self) -> LayerBits | None:
        """The active bit-widths, or None while the layer runs in float."""
        weight, activation = self.weight_quantizer.bits, self.activation_quantizer.bits
        return None if weight is None or activation is None else LayerBits(weight, activation)

    def runs_at(self, bits: LayerBits | None) -> bool:
        """Return whether these are the active bit-widths, which each call asks; `bits == layer.bits` takes longer."""
        # Out of torch's dictionary: a module as an attribute is looked up in three places, an error in between.
        weight, activation = self._modules["weight_quantizer"], self._modules["activation_quantizer"]
        active = cast(LsqQuantizer, weight).bits, cast(LsqQuantizer, activation).bits
        return None in active if bits is None else active == (bits.weight, bits.activation)

    def check_bits(self, bits: LayerBits) -> None:
        """Raise `PolicyError` unless the layer has a step size at `bits`."""
        for kind, bit_width, quantizer in (
            ("weight", bits.weight, self.weight_quantizer),
            ("activation", bits.activation, self.activation_quantizer),
        ):
            if bit_width not in quantizer.candidates:
                candidates = ", ".join(map(str, quantizer.candidates))
                raise PolicyError(f"{bit_width} {kind} bits cannot be set: the candidates are {candidates}")

    def set_bits_(self, bits: LayerBits | None) -> None:
        """Switch the layer to `bits`, or to float with None.

        Raises:
            PolicyError: a bit-width that the layer was not trained for.
        """
        if bits is not None:
            self.check_bits(bits)
        self.weight_quantizer.bits = None if bits is None else bits.weight
        self.activation_quantizer.bits = None if bits is None else bits.activation


def quantized_layers(module: nn.Module) -> Iterator[tuple[str, Quantized]]:
    """Yield every quantized layer and product with its name; of layers that share a weight the first."""
    quantizers = set()
    for name, layer in module.named_modules():
        if isinstance(layer, Quantized) and layer.weight_quantizer not in quantizers:
            quantizers.add(layer.weight_quantizer)
            yield name, layer


def check_names_are_free(module: nn.Module, name: str, added: type[nn.Module]) -> None:
    """Raise `UnsupportedLayerError` if a module has what a class in front of its own would hide.

    Args:
        name: of the module.
        added: the class that is put in front of its own.
    """
    added_names = {
        key
        for part in added.__mro__[: added.__mro__.index(nn.Module)]
        for key in (*vars(part), *vars(part).get("__annotations__", ()))
        if not key.startswith("__") and key != "weight"
    }
    taken = sorted(key for key in added_names - {*dir(nn.Module)} if hasattr(module, key))
    if taken:
        leave = f', or leave it in float with exclude=["{name}"]' if name else ""
        raise UnsupportedLayerError(
            f"{name or 'the network'} ({type(module).__name__}) has {taken[0]!r} of its own, which a quantized one has "
            f"too: call it something else{leave}"
        )


def shares_quantizers(module: nn.Module, layer: Quantized) -> bool:
    """Return whether a module is a quantized layer, or another one that shares its weight and so its quantizers."""
    return isinstance(module, Quantized) and module.weight_quantizer is layer.weight_quantizer
