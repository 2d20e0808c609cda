"""The bounds that the meta pass claims of the inputs of a network's layers hold for every picture."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from operations import lies_within
from torch import Tensor, nn

from limpq_hub.quant.bounds.value_bounds import Bounds, ValueBounds


def bounds_of_inputs(name: str) -> dict[str, list[Bounds]]:
    """What the meta pass claims of each input of each convolution and linear layer of a timm network."""
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=10).eval()
    claimed: dict[str, list[Bounds]] = {}
    with ValueBounds() as bounds, torch.no_grad():
        on_inputs(network, lambda layer, x: claimed.setdefault(layer, []).append(bounds.of(x)))
        network(torch.empty(1, *network.default_cfg["input_size"], device="meta"))
    return claimed


def on_inputs(network: nn.Module, call: Callable[[str, Tensor], None]) -> None:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_pre_hook(lambda layer, inputs, name=name: call(name, inputs[0]))


def test_efficientnet_inputs_behind_silu_reach_its_least_value_and_no_lower():
    claimed = bounds_of_inputs("efficientnet_b0")
    for name in ("blocks.1.1.se.conv_expand", "blocks.1.1.conv_pwl"):
        (bounds,) = claimed[name]
        assert -0.279 < bounds.low < -0.278
    assert claimed["conv_stem"] == claimed["blocks.1.1.conv_pw"] == [Bounds()]


def test_every_input_of_resnet18_but_the_picture_is_never_negative():
    claimed = bounds_of_inputs("resnet18")
    assert claimed.pop("conv1") == [Bounds()]
    assert len(claimed) == 20
    assert all(bounds.low == 0 for layer in claimed.values() for bounds in layer)


def test_mobilenetv2_inputs_behind_a_linear_bottleneck_have_no_bounds():
    claimed = bounds_of_inputs("mobilenetv2_100")
    for name, bounds in claimed.items():
        # The first block is a depthwise convolution and a `conv_pw` that is the bottleneck itself.
        behind_relu6 = name.endswith(("conv_dw", "conv_pwl", "classifier")) or name == "blocks.0.0.conv_pw"
        assert bounds == [Bounds(0, 6) if behind_relu6 else Bounds()], name


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "levit_128", "resnest14d", "mobilevit_xxs"])
def test_every_input_of_a_layer_lies_in_the_bounds_of_the_meta_pass(name):
    claimed = bounds_of_inputs(name)
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=10)
    x = torch.randn(2, *network.default_cfg["input_size"])
    calls: dict[str, int] = {}

    def check(layer: str, x: Tensor) -> None:
        call = calls[layer] = calls.get(layer, 0) + 1
        assert lies_within(x, claimed[layer][call - 1]), layer

    with torch.no_grad():
        network.train()(x)  # statistics of the batch normalizations that give numbers of a usual size
        on_inputs(network, check)
        network.eval()(3 * x)
    assert set(calls) == set(claimed)
