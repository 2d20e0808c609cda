"""From a network to its best policy by numbers that numpy works out: pair costs of three layers, and all policies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch import nn

from limpq_hub.plan.budget import Budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.quant.convert import to_supernet
from limpq_hub.quant.pair_divergence import pair_divergences
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.quantized import quantized_layers

CANDIDATES = (4, 3, 2)
PAIRS = [LayerBits(weight, activation) for weight in CANDIDATES for activation in CANDIDATES]
SEARCHED = ("1", "3", "5")


@pytest.fixture
def network() -> nn.Module:
    """Five layers, of which the first and the last stay at 8 bits."""
    torch.manual_seed(3)
    layers = [nn.Linear(4, 6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4), nn.Linear(4, 3)]
    return nn.Sequential(*layers).double().eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def rounded(x: np.ndarray, step: float, bits: int, signed: bool) -> np.ndarray:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return np.round(np.clip(x / step, low, high)) * step


def by_hand(network: nn.Module, supernet: nn.Module, images: torch.Tensor, name: str, pair: LayerBits) -> float:
    """Return the KL from the float network, averaged over the images, with one layer at its pair of bits."""
    quantizers = dict(quantized_layers(supernet))[name]
    logits = []
    for quantized in (False, True):
        x = images.numpy()
        for place, layer in network.named_children():
            if isinstance(layer, nn.ReLU):
                x = np.maximum(x, 0)
                continue
            weight = layer.weight.detach().numpy()
            if quantized and place == name:
                steps = (quantizers.weight_quantizer, pair.weight), (quantizers.activation_quantizer, pair.activation)
                weight, x = (
                    rounded(tensor, float(quantizer.step_of(bits).detach()), bits, quantizer.signed)
                    for tensor, (quantizer, bits) in zip((weight, x), steps, strict=True)
                )
            x = x @ weight.T + layer.bias.detach().numpy()
        logits.append(x)
    of_float, of_layer = softmax(logits[0], axis=1), np.exp(log_softmax(logits[1], axis=1))
    return float(rel_entr(of_float, of_layer).sum(axis=1).mean())


def test_the_policy_of_measured_pairs_is_the_best_of_all_by_costs_worked_out_by_hand(network, images):
    supernet = to_supernet(network, CANDIDATES, example_input=images).double()
    with torch.no_grad():
        reference = network(images).log_softmax(-1)
    measured = dict(pair_divergences(supernet, [images], [reference], background=None))
    costs = {name: {pair: by_hand(network, supernet, images, name, pair) for pair in PAIRS} for name in SEARCHED}
    assert {name: dict.fromkeys(pairs, 0.0) for name, pairs in measured.items()} == {
        name: dict.fromkeys(PAIRS, 0.0) for name in SEARCHED
    }
    for name, pair in itertools.product(SEARCHED, PAIRS):
        assert measured[name][pair] == pytest.approx(costs[name][pair], rel=1e-9), (name, pair)
    of_layers = profile_module(network, images)
    steps = {name: dict(zip(CANDIDATES, (0.1, 0.2, 0.4), strict=True)) for name in SEARCHED}
    indicators = Indicators("five", 4, 3, of_layers, steps, steps, alpha=1.0, divergences=measured)
    fixed = 64 * sum(cost.macs for name, cost in of_layers.items() if name not in SEARCHED)
    for budget in range(*indicators.bitops_range(), 150):
        sums = {
            pairs: sum(costs[name][pair] for name, pair in zip(SEARCHED, pairs, strict=True))
            for pairs in itertools.product(PAIRS, repeat=len(SEARCHED))
            if fixed
            + sum(
                of_layers[name].macs * pair.weight * pair.activation for name, pair in zip(SEARCHED, pairs, strict=True)
            )
            <= budget
        }
        plan = search(indicators, Budget(bitops=budget), importance="measured")
        assert plan.objective == pytest.approx(min(sums.values()), rel=1e-9)
        assert tuple(plan.policy.layers[name] for name in SEARCHED) == min(sums, key=sums.__getitem__)
