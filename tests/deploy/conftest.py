"""What the tests of exported networks share: networks whose arithmetic is exact in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from limpq_hub import LayerBits, Policy, to_quantized
from limpq_hub.plan.costs import FLOAT
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.quantized import quantized_layers


class Block(nn.Module):
    """Every kind of layer that a small convolutional network has, with two quantizers on one value."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.expand = nn.Conv2d(8, 16, 1, bias=False)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.project = nn.Conv2d(16, 8, 1, bias=True)
        self.shortcut = nn.Conv2d(8, 8, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, eps=0) for channels in (8, 16, 16, 8))
        self.activation = activation
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        first = self.activation(self.norms[0](self.stem(x)))
        inside = self.activation(self.norms[1](self.expand(first)))
        inside = self.activation(self.norms[2](self.depthwise(inside)))
        added = self.norms[3](self.project(inside)) + self.shortcut(first)
        return self.classifier(self.pool(added.relu()).flatten(1))


Build = Callable[..., tuple[nn.Module, Tensor]]


@pytest.fixture(scope="session")
def exact_network() -> Build:
    """A function that returns a quantized network and images whose logits no rounding of float32 touches.

    All weights, steps, factors and statistics are whole numbers of a power of two, so that two right ways of computing
    give the same bits.
    """

    def build(
        activation: nn.Module | None = None, *, per_channel: bool = False, in_float: Sequence[str] = ()
    ) -> tuple[nn.Module, Tensor]:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(-64, 64, (8, 3, 16, 16), generator=generator) / 32
        network = Block(activation or nn.ReLU()).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randint(-16, 17, parameter.shape, generator=generator) / 32)
            for norm in network.norms:
                # Negative factors, and none: what a folded normalization would have to turn around.
                norm.weight.copy_(torch.randint(-2, 3, norm.weight.shape, generator=generator) / 2)
                norm.running_mean.copy_(torch.randint(-4, 5, norm.weight.shape, generator=generator) / 16)
                norm.running_var.copy_(4.0 ** torch.randint(-1, 2, norm.weight.shape, generator=generator))
        bits = iter([(8, 8), (4, 5), (3, 8), (6, 4), (2, 3), (8, 8)])
        costs = profile_module(network, images)
        layers = {name: LayerBits(*next(bits)) for name in costs}
        policy = Policy("Block", layers | dict.fromkeys(in_float, FLOAT))
        quantized = to_quantized(network, policy, example_input=images, per_channel=per_channel).eval()
        with torch.no_grad():
            for _, layer in quantized_layers(quantized):
                for quantizer in (layer.weight_quantizer, layer.activation_quantizer):
                    quantizer.step.copy_(2.0 ** quantizer.step.log2().round())
                    if quantizer.grid == "offset":
                        # Some runtimes round after they have added the zero point: an odd one turns ties around.
                        quantizer.zero_point.copy_(quantizer.zero_point // 2 * 2)
        return quantized.requires_grad_(False), images

    return build
