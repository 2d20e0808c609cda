"""Tests of quantized networks in a graph of torch.fx: each quantized module is one node, and computes what it did."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from limpq_hub import LayerBits, Policy, load, to_quantized
from limpq_hub.quant.frozen_layers import freeze_, thaw_
from limpq_hub.quant.integer_layers import run_in_integers_

feature_extraction = pytest.importorskip("torchvision.models.feature_extraction")


@pytest.fixture(params=["frozen", "thawed", "integer"])
def model(request, tiny):
    """A loaded network, in each of its arithmetics."""
    arithmetic = "integer" if request.param == "integer" else "simulated"
    loaded = load(tiny.name, policy=tiny.policies["small"], arithmetic=arithmetic)
    return thaw_(loaded) if request.param == "thawed" else loaded


def test_features_of_torchvision_are_those_that_timm_gives(model, tiny):
    extractor = feature_extraction.create_feature_extractor(model, ["layer4", "layer1.0.bn1"])
    with torch.inference_mode():
        features = extractor(tiny.images)
        (expected,) = model.forward_intermediates(tiny.images, indices=[4], intermediates_only=True)
        assert torch.equal(features["layer4"], expected)
        assert features["layer1.0.bn1"].shape[0] == len(tiny.images)


def test_a_traced_network_follows_weights_mode_and_gradients_as_the_network_does(model, tiny):
    traced = torch.fx.symbolic_trace(model)
    with torch.no_grad():
        before = model(tiny.images)
        assert torch.equal(traced(tiny.images), before)
        for parameter in model.parameters():
            parameter.mul_(1.5)
        after = model(tiny.images)
        assert torch.equal(traced(tiny.images), after)
        assert not torch.equal(before, after)
    images = tiny.images.clone().requires_grad_()
    traced(images).sum().backward()
    assert images.grad.abs().sum() > 0
    twin = copy.deepcopy(model).train()
    assert torch.equal(traced.train()(tiny.images), twin(tiny.images))


class Net(nn.Module):
    """A convolution that pads by itself, one of a class of its own, and an attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv2dSame(3, 8, 3, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(images).relu().flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))


@pytest.mark.parametrize("run", [lambda network: None, lambda network: freeze_(network, (3, 8, 8)), run_in_integers_])
def test_other_layers_and_attention_are_nodes_as_well(run):
    from limpq_hub.quant.profile import measure_costs

    torch.manual_seed(0)
    images, network = torch.randn(4, 3, 8, 8), Net().eval()
    costs = measure_costs(network, (3, 8, 8))
    policy = Policy("net", {name: cost.fixed or LayerBits(4, 4) for name, cost in costs.items()})
    quantized = to_quantized(network, policy, example_input=images).eval().requires_grad_(False)
    run(quantized)
    traced = torch.fx.symbolic_trace(quantized)
    assert {"stem", "head"} <= {node.target for node in traced.graph.nodes if node.op == "call_module"}
    assert torch.equal(traced(images), quantized(images))
