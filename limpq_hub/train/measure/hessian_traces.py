"""Curvature times rounding error: the criterion of HAWQ-V2 and HAWQ-V3, for weights and activations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limpq_hub.plan.layer_bits import BitsKind
from limpq_hub.quant.pair_divergence import pairs_of
from limpq_hub.train.measure.pair_costs import PairCosts
from limpq_hub.train.measure.rounding_errors import (
    Operands,
    operands_noted,
    quantizer_of,
    searched_layers,
    squared_errors,
)

Traces = dict[tuple[str, BitsKind], float]


def hessian_importance(supernet: nn.Module, batches: Sequence[Tensor], *, probes: int = 2, seed: int = 0) -> PairCosts:
    """Return mean curvature x |x - Q(x)|^2 of the weight plus that of the input, of each layer at each pair of bits.

    The mean curvature is the trace of the Hessian of the loss over the number of values, as in HAWQ-V2. Inputs count
    per image. The loss is the cross-entropy to the network's own predictions, whose Hessian is that of the divergence.

    Args:
        supernet: with the steps to round by; its layers run in float.
        batches: unlabelled images, [batch, 3, height, width] each, normalized.
        probes: random vectors for each trace and batch.
        seed: of these vectors.

    Source: Dong et al., "HAWQ-V2: Hessian Aware trace-Weighted Quantization of Neural Networks", NeurIPS 2020.
    """
    layers = searched_layers(supernet)
    generator = torch.Generator().manual_seed(seed)
    image_count = sum(map(len, batches))
    importance: dict[tuple[str, BitsKind, int], float] = {}
    for images in batches:
        with operands_noted(supernet, layers) as operands:
            traces = hessian_traces(supernet, images, operands, probes, generator)
        share = len(images) / image_count
        for (name, kind), tensors in operands.items():
            values = sum(x.numel() for x in tensors)
            # Both the trace and the error of inputs are of all images of the batch: the error is per image.
            per_image = values if kind == "weight" else values / len(images)
            curvature = max(traces[name, kind], 0.0) / per_image  # one that is no number stays so
            for bits, error in squared_errors(quantizer_of(layers[name], kind), tensors).items():
                of_image = error if kind == "weight" else error / len(images)
                key = (name, kind, bits)
                importance[key] = importance.get(key, 0.0) + share * curvature * of_image
    return {
        name: {
            pair: importance[name, "weight", pair.weight] + importance[name, "activation", pair.activation]
            for pair in pairs_of(layer)
        }
        for name, layer in layers.items()
    }


def hessian_traces(
    network: nn.Module, images: Tensor, operands: Operands, probes: int, generator: torch.Generator
) -> Traces:
    """Return an estimate of the trace of the Hessian with respect to each operand of a network.

    The loss is the cross-entropy to the network's own predictions, averaged over the images. The Hessian of
    an input is block-diagonal over the images, because the loss of one image does not depend on another: its trace is
    the mean of the traces of the images.

    Args:
        images: [batch, 3, height, width], which the network is run on once.
        operands: what that run notes.
        probes: random vectors of +1 and -1 for each operand: Hutchinson's estimate is right on average, and exact
            where the Hessian is diagonal.
        generator: of these vectors.

    Source: Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1990.
    """
    with torch.enable_grad():
        log_probabilities = network(images.detach().requires_grad_()).log_softmax(-1)
        loss = -(log_probabilities.detach().exp() * log_probabilities).sum(-1).mean()
        inputs = [x for tensors in operands.values() for x in tensors]
        found = torch.autograd.grad(loss, inputs, create_graph=True, allow_unused=True)
        gradients = dict(zip(map(id, inputs), found, strict=True))
        traces = dict.fromkeys(operands, 0.0)
        for key, tensors in operands.items():
            for x in tensors:
                gradient = gradients[id(x)]
                if gradient is None:  # nothing takes what its layer returns
                    continue
                for _ in range(probes):
                    probe = torch.randint(2, x.shape, generator=generator).to(x) * 2 - 1
                    (product,) = torch.autograd.grad(gradient, x, probe, retain_graph=True, materialize_grads=True)
                    traces[key] += float((probe * product).double().sum()) / probes
    return traces
