"""KL divergence from the float network with one layer at each pair of bit-widths, measured without labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import set_policy_
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.quant.matched_batch_norm import MatchedBatchNorm
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.prefix import PrefixOutput, computing_once, prefix_of
from limpq_hub.quant.products import Routed
from limpq_hub.quant.quantized import Quantized, quantized_layers, shares_quantizers
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d


@torch.no_grad()
def pair_divergences(
    supernet: nn.Module,
    batches: Sequence[Tensor],
    references: Sequence[Tensor],
    *,
    background: Policy | None = None,
    layers: Collection[str] | None = None,
    matched_to: nn.Module | None = None,
) -> Iterator[tuple[str, Mapping[LayerBits, float]]]:
    """Yield, layer by layer, the divergence of the network from its reference with that layer alone at each pair.

    What is done before the layer starts runs once for all pairs. Between two layers the network is as it was before.

    Args:
        supernet: with the candidates of each layer; runs in eval mode.
        batches: unlabelled images, [batch, 3, height, width] each, normalized.
        references: log-probabilities of the float network on each batch, [batch, classes].
        background: the bits of all other layers; None for float.
        layers: which ones to measure; those with several candidates if None.
        matched_to: the float network whose BatchNorm statistics a policy gets, moved by what it changes: they are moved
            in each pass too. None leaves those of `supernet` as they are.

    Yields:
        Name of the layer, and by (weight bits, activation bits) the KL divergence in nats, averaged over the images.

    Raises:
        DataError: a batch is no tensor of images alone.
        PolicyError: `background` is no policy of the network, or `matched_to` has other BatchNorms.
    """
    batches = [image_batch(images, "batches") for images in batches]
    matched = [None if matched_to is None else MatchedBatchNorm(matched_to, images) for images in batches]
    quantized = dict(quantized_layers(supernet))
    switching = [name for name, layer in quantized.items() if len(pairs_of(layer)) > 1]
    for name in switching if layers is None else layers:
        with in_eval_mode(supernet), _bits_restored(supernet):
            if background is None:
                for layer in quantized.values():
                    layer.set_bits_(None)
            else:
                set_policy_(supernet, background)
            divergences = _divergences(supernet, name, quantized[name], batches, references, matched)
        yield name, divergences


def pairs_of(layer: Quantized) -> list[LayerBits]:
    """Return every pair of bit-widths of a layer, those of the same weight bits behind each other."""
    activations = layer.activation_quantizer.candidates
    return [LayerBits(weight, activation) for weight in layer.weight_quantizer.candidates for activation in activations]


def _divergences(
    supernet: nn.Module,
    name: str,
    layer: Quantized,
    batches: Sequence[Tensor],
    references: Sequence[Tensor],
    matched: Sequence[MatchedBatchNorm | None],
) -> Mapping[LayerBits, float]:
    norms = [norm for norm in supernet.modules() if isinstance(norm, SwitchableBatchNorm2d) and norm.layer == name]
    prefix = prefix_of(
        supernet, batches[0], lambda module: shares_quantizers(module, layer) or _multiplies_by(module, layer)
    )
    sums, image_count = dict.fromkeys(pairs_of(layer), 0.0), 0
    for images, reference, norms_matched in zip(batches, references, matched, strict=True):
        outputs: list[PrefixOutput] = []
        with ExitStack() as changes:
            if norms_matched is not None:
                changes.enter_context(norms_matched.matching(supernet))
            for part in prefix:
                changes.enter_context(computing_once(supernet.get_submodule(part), outputs))
            for pair in sums:
                layer.set_bits_(pair)
                for norm in norms:
                    norm.bits = pair.weight
                divergence = kl_divergence(supernet(images), reference, of_each_image=True)
                sums[pair] += float(divergence.double().sum())
        image_count += len(images)
    return {pair: total / image_count for pair, total in sums.items()}


@contextmanager
def _bits_restored(supernet: nn.Module) -> Iterator[None]:
    """Put every layer and every batch normalization back to the bits that it has now."""
    layers = [(layer, layer.bits) for _, layer in quantized_layers(supernet)]
    norms = [(norm, norm.bits) for norm in supernet.modules() if isinstance(norm, SwitchableBatchNorm2d)]
    try:
        yield
    finally:
        for layer, bits in layers:
            layer.set_bits_(bits)
        for norm, width in norms:
            norm.bits = width


def _multiplies_by(module: nn.Module, layer: nn.Module) -> bool:
    """Return whether a module multiplies by the weight of a layer itself, without calling it."""
    return isinstance(module, Routed) and any(module.get_submodule(name) is layer for name in module.route.layers)
