"""Tests of the step sizes of a supernet as they are read out."""

import math

import pytest
import torch

from limpq_hub.quant.learned_indicators import read_indicators
from limpq_hub.quant.profile import profile_module


def test_indicators_are_the_positive_steps_of_the_searched_layers(supernet, network, images):
    costs = profile_module(network, images)
    with torch.no_grad():
        supernet.expand.weight_quantizer.step.copy_(torch.tensor([0.1, 0.2, 0.3, -0.4]))
        supernet.final.activation_quantizer.step.copy_(torch.tensor([1.0, 0.0, 3.0, 4.0]))
    indicators = read_indicators(supernet, costs, input_size=8, num_classes=5, alpha=3.0, provenance={"seed": 1})
    assert (
        list(indicators.weight_steps)
        == list(indicators.activation_steps)
        == ["expand", "depthwise", "project", "final"]
    )
    assert indicators.weight_steps["expand"] == pytest.approx({6: 0.1, 4: 0.2, 3: 0.3, 2: 1e-5})
    assert indicators.activation_steps["final"] == pytest.approx({6: 1, 4: 1e-5, 3: 3, 2: 4})
    assert (indicators.model, indicators.input_size, indicators.num_classes, indicators.alpha) == (
        "Bottleneck",
        8,
        5,
        3.0,
    )
    assert indicators.costs == costs
    assert not indicators.per_channel
    assert indicators.provenance == {"seed": 1}


def test_steps_of_channels_are_reduced_to_one_indicator_per_bit_width(supernet, network, images):
    costs = profile_module(network, images)
    supernet.final.add_quantizers_((4, 2), (4, 2), grid="unsigned", per_channel=True)
    steps = torch.tensor([[3.0, 4.0] * 5, [0.0] + [1.0] * 9])  # the step of 0 is used as 1e-5
    with torch.no_grad():
        supernet.final.weight_quantizer.step.copy_(steps)
        supernet.expand.weight_quantizer.step.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    indicators = {
        name: read_indicators(supernet, costs, input_size=8, num_classes=5, **reduction)
        for name, reduction in {"default": {}, "largest": {"reduction": torch.max}}.items()
    }
    assert all(values.per_channel for values in indicators.values())
    read = {name: values.weight_steps for name, values in indicators.items()}
    assert read["default"]["final"] == pytest.approx({4: math.sqrt(12.5), 2: math.sqrt(0.9)})
    assert read["largest"]["final"] == pytest.approx({4: 4.0, 2: 1.0})
    for steps in read.values():
        assert steps["expand"] == pytest.approx({6: 0.1, 4: 0.2, 3: 0.3, 2: 0.4})
