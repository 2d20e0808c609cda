"""What the tests of exported networks share: networks whose arithmetic is exact in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from exact_blocks import Block, InvertedResidual
from torch import Tensor, nn

from limpq_hub import LayerBits, Policy, to_quantized
from limpq_hub.plan.costs import FLOAT
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.quantized import quantized_layers

Build = Callable[..., tuple[nn.Module, Tensor]]


@pytest.fixture(scope="session")
def exact_network() -> Build:
    """A function that returns a quantized network and images whose logits no rounding of float32 touches.

    All weights, steps, factors and statistics are whole numbers of a power of two, so that two right ways of computing
    give the same bits.
    """

    def build(
        activation: nn.Module | None = None,
        *,
        block: type[Block | InvertedResidual] = Block,
        per_channel: bool = False,
        in_float: Sequence[str] = (),
    ) -> tuple[nn.Module, Tensor]:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(-64, 64, (8, 3, 16, 16), generator=generator) / 32
        network = block(activation or nn.ReLU()).eval()
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
        policy = Policy(block.__name__, layers | dict.fromkeys(in_float, FLOAT))
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
