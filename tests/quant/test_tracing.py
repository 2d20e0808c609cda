"""Tests of which layers can be quantized, and of the convolution that feeds each batch normalization."""

import pytest
import timm
import torch
from timm.layers import ScaledStdConv2d
from torch import Tensor, nn
from torch.nn import functional

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.tracing import quantizable_layers, trace


def test_each_norm_is_fed_by_the_convolution_that_ran_before_it(network):
    assert trace(network, (3, 8, 8)).norm_feeds == {
        f"{name}_norm": name for name in ("stem", "expand", "depthwise", "project", "final")
    }


def test_norm_before_the_first_convolution_is_fed_by_none():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert trace(network, (3, 4, 4)).norm_feeds == {"2": "1"}


class Wrapped(nn.Module):
    """A layer between two plain ones, called as `call(layer, x)`."""

    def __init__(self, layer: nn.Module, call) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.inner = layer
        self.last = nn.Linear(4, 2)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.call(self.inner, self.first(x)))


PLAIN = "only layers that compute what nn.Conv2d or nn.Linear compute can; replace them, or choose a network without"


@pytest.mark.parametrize(
    "layer",
    [
        ScaledStdConv2d(3, 4, 3),
        nn.Conv1d(3, 4, 3),
        nn.Conv3d(3, 4, 3),
        nn.ConvTranspose2d(3, 4, 3),
        nn.Bilinear(3, 3, 4),
        nn.LSTM(3, 4),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layer_that_computes_something_else_is_refused_by_name(layer):
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(layer))
    with pytest.raises(UnsupportedLayerError, match=rf"^1\.0 \({type(layer).__name__}\) cannot be quantized: {PLAIN}"):
        quantizable_layers(network)


def test_layer_with_a_parametrized_weight_is_refused_by_name():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    with pytest.raises(UnsupportedLayerError, match=r"^1 \(ParametrizedConv2d\) cannot be quantized: "):
        quantizable_layers(network)


def test_tensorflow_padding_is_refused_naming_five_layers_and_counting_the_rest():
    with torch.device("meta"):
        network = timm.create_model("tf_mobilenetv3_small_minimal_100")
    message = r"^conv_stem \(Conv2dSame\), (blocks\.\d\.0\.conv_dw \(Conv2dSame\),? ){4}and 1 more cannot be quantized"
    with pytest.raises(UnsupportedLayerError, match=message):
        profile_module(network, torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("layer", "call", "named"),
    [
        (nn.Linear(4, 4), lambda layer, x: functional.linear(x, layer.weight), "inner"),
        (nn.MultiheadAttention(4, 2, batch_first=True), lambda layer, x: layer(x, x, x)[0], r"inner\.out_proj"),
        (nn.Linear(4, 4), lambda layer, x: x, "inner"),
    ],
    ids=["weight used through F.linear", "attention", "unused"],
)
def test_layer_that_is_never_called_is_refused_by_name(layer, call, named):
    message = rf"^{named}: the forward pass never calls these layers \(their weights may be used through F\.linear\)"
    with pytest.raises(UnsupportedLayerError, match=message):
        profile_module(Wrapped(layer, call), torch.randn(2, 3, 4))


def test_network_without_layers_is_refused():
    message = "^Sequential has no nn.Conv2d or nn.Linear: there is nothing to quantize$"
    with pytest.raises(UnsupportedLayerError, match=message):
        profile_module(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), torch.randn(2, 3, 4, 4))
