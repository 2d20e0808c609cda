"""How long layers take: one that runs several times takes the time of all its calls, one that cannot be is told."""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from limpq_hub.deploy import layer_latency
from limpq_hub.deploy.layer_latency import measure_layers
from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.indicators import Indicators
from limpq_hub.quant.profile import profile_module

pytestmark = pytest.mark.skipif(not find_spec("openvino"), reason='needs the extra "export"')


class Repeating(nn.Module):
    """Runs one convolution at two sizes, twice itself and once a twin; a function may run the last layer."""

    def __init__(self, *, by_function: bool = False) -> None:
        super().__init__()
        self.by_function = by_function
        self.repeated, self.once, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1), nn.Linear(3, 4)
        self.twin = nn.Conv2d(3, 3, 3, padding=1)
        self.twin.weight = self.repeated.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.repeated(self.repeated(self.once(x))).relu()
        x = self.twin(functional.avg_pool2d(x, 2)).mean((2, 3))
        return functional.linear(x, self.head.weight, self.head.bias) if self.by_function else self.head(x)


class Spec:
    """Of a network that timm does not have."""

    input_shape = (3, 8, 8)

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def build(self) -> nn.Module:
        return self.network


def indicators_of(network: nn.Module) -> Indicators:
    costs = profile_module(network, torch.zeros(1, 3, 8, 8))
    steps = {name: {4: 0.1, 2: 0.2} for name, cost in costs.items() if cost.fixed is None}
    return Indicators("repeating", 8, 4, costs, steps, steps)


def test_a_layer_that_runs_several_times_takes_the_time_of_all_its_calls(monkeypatch):
    def area(layer, pairs, shape, rounds, threads):
        return {bits: float(shape[-1] ** 2 if len(shape) > 1 else 1) for bits in pairs}

    monkeypatch.setattr(layer_latency, "_times", area)
    network, told = Repeating(), []
    table = measure_layers(indicators_of(network), Spec(network), tell=lambda *done: told.append(done))
    times = {name: set(of_bits.values()) for name, of_bits in table.milliseconds.items()}
    assert times == {"once": {64.0}, "repeated": {64.0 + 64.0 + 16.0}, "head": {1.0}}
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_layer_whose_weight_a_function_takes_is_not_left_out_in_silence():
    network = Repeating(by_function=True)
    with pytest.raises(UnsupportedLayerError, match="^layer 'head' is never called, another function takes its weight"):
        measure_layers(indicators_of(network), Spec(network))
