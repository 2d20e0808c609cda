"""Squared gradient times squared change of each layer's output: the criterion of NVIDIA's Model Optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.pair_divergence import pairs_of
from limpq_hub.quant.quantized import Quantized, shares_quantizers
from limpq_hub.train.measure.pair_costs import PairCosts
from limpq_hub.train.measure.rounding_errors import operands_noted, searched_layers, squared_sum


def gradient_scores(supernet: nn.Module, batches: Sequence[Tensor], *, seed: int = 0) -> PairCosts:
    """Return gradient^2 x change^2, summed over the outputs of a layer, per image, of each layer at each pair of bits.

    The change is that of the layer alone, on the input that it has in float. The loss is the cross-entropy to labels
    that are drawn from the network's own predictions, so that the squared gradients are the Fisher information; there,
    labels of the data are used.

    Args:
        supernet: with the steps to round by; all other layers run in float.
        batches: unlabelled images, [batch, 3, height, width] each, normalized.
        seed: of the labels.

    Raises:
        UnsupportedLayerError: a layer is never called by itself, so that it has no output.

    Source: NVIDIA Model Optimizer, `auto_quantize` with its gradient-based score.
    """
    layers = searched_layers(supernet)
    generator = torch.Generator().manual_seed(seed)
    scores: PairCosts = {name: dict.fromkeys(pairs_of(layer), 0.0) for name, layer in layers.items()}
    image_count = sum(map(len, batches))
    for images in batches:
        with operands_noted(supernet, layers):
            calls = _calls(supernet, images, layers, generator)
        for name, layer in layers.items():
            for call, gradient in calls[name]:
                for pair in pairs_of(layer):
                    scores[name][pair] += _score(call, pair, gradient) / image_count
    return scores


@dataclass(frozen=True)
class _LayerCall:
    """One call of a layer, or of one that shares its weight: what it took and what it returned."""

    layer: Quantized
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    output: Tensor


def _calls(
    network: nn.Module, images: Tensor, layers: Mapping[str, Quantized], generator: torch.Generator
) -> dict[str, list[tuple[_LayerCall, Tensor]]]:
    """Return each call of each layer, with the gradient with respect to what it returned."""
    noted: dict[str, list[_LayerCall]] = {name: [] for name in layers}
    handles = []
    for name, layer in layers.items():

        def note(
            module: Any, arguments: Any, keywords: Any, output: Tensor, calls: list[_LayerCall] = noted[name]
        ) -> Tensor:
            """Forward hook: note a call of the layer, and hand on a copy of what it returned."""
            by_place = tuple(map(_copied, arguments))
            calls.append(_LayerCall(module, by_place, {key: _copied(x) for key, x in keywords.items()}, output))
            return output.clone()

        sharing = [module for module in network.modules() if shares_quantizers(module, layer)]
        handles += [module.register_forward_hook(note, with_kwargs=True) for module in sharing]
    try:
        with torch.enable_grad():
            log_probabilities = network(images.detach().requires_grad_()).log_softmax(-1)
    finally:
        for handle in handles:
            handle.remove()
    for name, calls in noted.items():
        if not calls:
            raise UnsupportedLayerError(
                f"layer {name!r} is never called by itself: it has no output to score; leave out the criterion"
            )
    labels = torch.multinomial(log_probabilities.detach().exp().cpu(), 1, generator=generator).to(images.device)
    outputs = [call.output for calls in noted.values() for call in calls]
    # Of what nothing takes it is zero.
    loss = -log_probabilities.gather(1, labels).sum()
    gradients = iter(torch.autograd.grad(loss, outputs, materialize_grads=True))
    return {name: [(call, next(gradients)) for call in calls] for name, calls in noted.items()}


def _copied(x: Any) -> Any:
    """Return a copy of a tensor, which what comes behind cannot write over; all else as it is."""
    return x.detach().clone() if isinstance(x, Tensor) else x


@torch.no_grad()
def _score(call: _LayerCall, pair: LayerBits, gradient: Tensor) -> float:
    """Return the squared sum of what a pair of bits changes of a call's output, times the gradient."""
    bits_before = call.layer.bits
    call.layer.set_bits_(pair)
    change = call.layer(*call.arguments, **call.keywords) - call.output
    call.layer.set_bits_(bits_before)
    return squared_sum(change * gradient)
