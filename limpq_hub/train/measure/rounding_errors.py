"""Relative rounding error of each layer's weight and input at each bit-width: a criterion without predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from limpq_hub.plan.layer_bits import BITS_KINDS, BitsKind
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.pair_divergence import pairs_of
from limpq_hub.quant.quantized import Quantized, quantized_layers
from limpq_hub.quant.quantizer import LsqQuantizer
from limpq_hub.train.measure.pair_costs import PairCosts

# What a layer multiplies in the float network, by layer and kind; a layer that is called twice has two inputs.
Operands = Mapping[tuple[str, BitsKind], list[Tensor]]


def relative_errors(supernet: nn.Module, batches: Sequence[Tensor]) -> PairCosts:
    """Return |x - Q(x)|^2 / |x|^2 of the weight plus that of the input, of each searched layer at each pair of bits.

    Args:
        supernet: with the steps to round by; its layers run in float.
        batches: unlabelled images, [batch, 3, height, width] each, normalized.
    """
    layers = searched_layers(supernet)
    lost, power = dict[tuple[str, BitsKind, int], float](), dict[tuple[str, BitsKind], float]()
    for images in batches:
        with operands_noted(supernet, layers) as operands, torch.no_grad():
            supernet(images)
        for (name, kind), tensors in operands.items():
            power[name, kind] = power.get((name, kind), 0.0) + sum(squared_sum(x) for x in tensors)
            for bits, error in squared_errors(quantizer_of(layers[name], kind), tensors).items():
                lost[name, kind, bits] = lost.get((name, kind, bits), 0.0) + error

    def share(name: str, kind: BitsKind, bits: int) -> float:
        """Return the relative squared error of an operand at some bits; 0 of an operand that is all zeros."""
        return lost[name, kind, bits] / power[name, kind] if power[name, kind] else 0.0

    return {
        name: {
            pair: share(name, "weight", pair.weight) + share(name, "activation", pair.activation)
            for pair in pairs_of(layer)
        }
        for name, layer in layers.items()
    }


def searched_layers(supernet: nn.Module) -> dict[str, Quantized]:
    """Return the layers that have several pairs of bits, by name."""
    return {name: layer for name, layer in quantized_layers(supernet) if len(pairs_of(layer)) > 1}


def quantizer_of(layer: Quantized, kind: BitsKind) -> LsqQuantizer:
    """Return the quantizer of the weight or of the activation of a layer."""
    return layer.weight_quantizer if kind == "weight" else layer.activation_quantizer


@contextmanager
def operands_noted(supernet: nn.Module, layers: Mapping[str, Quantized]) -> Iterator[Operands]:
    """Collect the weights and inputs that layers multiply while a network runs in float, in eval mode.

    Each operand is a copy that only its layer uses, so that a gradient with respect to it comes from this layer alone,
    even where other layers take the same values, and the network may write over those. At the end all layers have their
    bits again.
    """
    operands: dict[tuple[str, BitsKind], list[Tensor]] = {}
    bits_before = [(layer, layer.bits) for _, layer in quantized_layers(supernet)]
    handles = []
    for name, layer in layers.items():
        for kind in BITS_KINDS:
            noted = operands.setdefault((name, kind), [])

            def note(module: nn.Module, inputs: object, output: Tensor, noted: list[Tensor] = noted) -> Tensor:
                """Forward hook of a quantizer: note a copy of its output, which this layer alone uses."""
                noted.append(output.clone())
                return noted[-1]

            handles.append(quantizer_of(layer, kind).register_forward_hook(note))
    try:
        # Going into eval mode empties the caches of quantized weights, so that every quantizer is called.
        with in_eval_mode(supernet):
            for layer, _ in bits_before:
                layer.set_bits_(None)
            yield operands
    finally:
        for handle in handles:
            handle.remove()
        for layer, bits in bits_before:
            layer.set_bits_(bits)


@torch.no_grad()
def squared_errors(quantizer: LsqQuantizer, tensors: Sequence[Tensor]) -> dict[int, float]:
    """Return |x - Q(x)|^2, summed over all values of the tensors, at each bit-width of a quantizer."""
    bits_before = quantizer.bits
    errors = {}
    for bits in quantizer.candidates:
        quantizer.bits = bits
        errors[bits] = sum(squared_sum(x - quantizer(x)) for x in (tensor.detach() for tensor in tensors))
    quantizer.bits = bits_before
    return errors


def squared_sum(x: Tensor) -> float:
    """Return the sum of the squares of all values, added up in float64."""
    return float(x.detach().double().square().sum())
