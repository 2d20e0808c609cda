"""BatchNorm that follows the bits of each pass, beside statistics that are worked out layer by layer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from limpq_hub.errors import PolicyError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import set_policy_, to_supernet
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.quant.matched_batch_norm import MatchedBatchNorm
from limpq_hub.quant.pair_divergence import pair_divergences
from limpq_hub.quant.quantized import quantized_layers

PAIRS = [LayerBits(weight, activation) for weight in (4, 2) for activation in (4, 2)]


class TwoNorms(nn.Module):
    """Three convolutions, a BatchNorm behind each of the first two, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.other_norm = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.third, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        x = self.other_norm(self.second(x)).relu()
        return self.head(self.third(x).mean((2, 3)))


@pytest.fixture
def network() -> TwoNorms:
    """Trained, as far as its statistics tell: they are of other pictures than those of the tests."""
    torch.manual_seed(0)
    network = TwoNorms().double()
    with torch.no_grad():
        network.train()(1.7 * torch.randn(32, 3, 8, 8, dtype=torch.float64) + 0.4)
    return network.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class NormOfTheFloatNetwork(nn.Module):
    """A BatchNorm whose output has, on any images, the mean and deviation of given outputs of the float network."""

    def __init__(self, norm: nn.BatchNorm2d, float_outputs: Tensor) -> None:
        super().__init__()
        self.epsilon, self.expected = norm.eps, float_outputs
        self.weight, self.running_var = norm.weight, norm.running_var

    def forward(self, x: Tensor) -> Tensor:
        # eps stands beside the variance in both networks, so the deviations are those of variance + eps.
        scale = self.weight / (self.running_var + self.epsilon).sqrt()
        expected_variance, expected_mean = torch.var_mean(self.expected, (0, 2, 3))
        float_variance = expected_variance / scale**2 + self.epsilon
        variance, mean = torch.var_mean(x, (0, 2, 3))
        factor = scale * (float_variance / (variance + self.epsilon)).sqrt()
        return (x - mean.view(1, -1, 1, 1)) * factor.view(1, -1, 1, 1) + expected_mean.view(1, -1, 1, 1)


@torch.no_grad()
def outputs_of_norms(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    handles = [
        getattr(network, name).register_forward_hook(
            lambda module, inputs, output, name=name: outputs.update({name: output})
        )
        for name in ("norm", "other_norm")
    ]
    network(images)
    for handle in handles:
        handle.remove()
    return outputs


def test_behind_each_norm_a_quantized_network_has_the_mean_of_the_float_one_and_then_its_statistics_again(
    network, images
):
    supernet = to_supernet(network, (4, 2), example_input=images).double().eval()
    set_policy_(supernet, Policy("net", {"second": LayerBits(2, 2), "third": LayerBits(2, 4)}))
    before = copy.deepcopy(supernet.state_dict())
    expected = {name: output.mean((0, 2, 3)) for name, output in outputs_of_norms(network, images).items()}
    plain = {name: output.mean((0, 2, 3)) for name, output in outputs_of_norms(supernet, images).items()}
    with MatchedBatchNorm(network, images).matching(supernet):
        matched = {name: output.mean((0, 2, 3)) for name, output in outputs_of_norms(supernet, images).items()}
    for name, mean in expected.items():
        assert torch.allclose(matched[name], mean, atol=1e-12)
    assert (plain["other_norm"] - expected["other_norm"]).abs().max() > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_a_network_without_bits_computes_what_it_did(network, images):
    supernet = to_supernet(network, (4, 2), example_input=images).double().eval()
    for _, layer in quantized_layers(supernet):
        layer.set_bits_(None)
    with torch.no_grad(), MatchedBatchNorm(network, images).matching(supernet):
        assert torch.allclose(supernet(images), network(images), atol=1e-12)


@torch.no_grad()
def test_each_call_of_a_norm_that_is_called_twice_is_matched_to_its_own(network, images):
    class Twice(TwoNorms):
        def forward(self, x: Tensor) -> Tensor:
            x = self.other_norm(self.second(self.norm(self.first(x)).relu())).relu()
            return self.head(self.other_norm(self.third(x)).mean((2, 3)))

    twice = Twice().double().eval()
    twice.load_state_dict(network.state_dict())
    twin = copy.deepcopy(twice)
    with MatchedBatchNorm(twice, images).matching(twin):
        for _ in range(2):
            assert torch.allclose(twin(images), twice(images), atol=1e-12)


@torch.no_grad()
def test_pairs_are_measured_with_the_statistics_that_each_of_them_gets(network, images):
    supernet = to_supernet(network, (4, 2), example_input=images).double().eval()
    reference = network(images).log_softmax(-1)
    measured = dict(pair_divergences(supernet, [images], [reference], matched_to=network))
    expected_outputs = outputs_of_norms(network, images)
    for name in ("second", "third"):
        for pair in PAIRS:
            twin = copy.deepcopy(supernet)
            for other, layer in quantized_layers(twin):
                layer.set_bits_(pair if other == name else None)
            for norm, outputs in expected_outputs.items():
                setattr(twin, norm, NormOfTheFloatNetwork(getattr(network, norm), outputs))
            expected = float(kl_divergence(twin(images), reference))
            assert measured[name][pair] == pytest.approx(expected, rel=1e-6, abs=1e-14), (name, pair)
    unmatched = dict(pair_divergences(supernet, [images], [reference]))
    assert measured["second"] != unmatched["second"]
    assert measured["third"] == pytest.approx(unmatched["third"])


def test_the_float_network_of_another_is_refused(network, images):
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()
    matched = MatchedBatchNorm(other, images)
    with (
        pytest.raises(PolicyError, match="differ in BatchNorm 1, norm, other_norm; give the one it was converted from"),
        matched.matching(network),
    ):
        pass
