"""Tests of convolutions that multiply integers: the simulated result, and what is simulated all the same."""

import copy

import pytest
import torch
from torch import nn

from limpq_hub.quant.fake_quantization import Grid
from limpq_hub.quant.integer_layers import IntegerConv2d, has_vnni, run_in_integers_
from limpq_hub.quant.layers import QuantConv2d, QuantLayer, quantize_layer_

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


def quantized(layer: nn.Module, grid: Grid, *, weight_bits: int = 4, per_channel: bool = False) -> QuantLayer:
    """Return a layer whose steps are powers of two, so that its sums in float32 are exact."""
    converted = quantize_layer_(layer)
    converted.add_quantizers_((weight_bits,), (6,), grid=grid, per_channel=per_channel)
    with torch.no_grad():
        converted.weight_quantizer.step.copy_(2.0 ** converted.weight_quantizer.step.log2().round())
        converted.activation_quantizer.step.fill_(2.0**-4)
    return converted.eval().requires_grad_(False)


@pytest.mark.parametrize("grid", ["unsigned", "signed", "offset"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": (2, 0), "bias": False}], ids=str
)
def test_the_result_is_the_simulated_one_to_the_last_bit_where_float32_is_exact(grid, per_channel, options):
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 7, 3, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((parameter * 64).round() / 64)
    convolution = quantized(layer, grid, per_channel=per_channel)
    if grid == "offset":
        convolution.activation_quantizer.set_zero_point_(6, 5)
    images = (torch.randn(3, 5, 9, 11) * 64).round() / 64
    expected = convolution(images)
    assert run_in_integers_(convolution) == {}
    assert isinstance(convolution, IntegerConv2d)
    assert torch.equal(convolution(images), expected)
    assert torch.equal(copy.deepcopy(convolution)(images), expected)


def test_what_would_be_slower_or_could_overflow_is_simulated_and_the_reason_told(monkeypatch):
    network = nn.Sequential(
        quantized(nn.Conv2d(4, 4, 3, groups=4), "signed"),
        quantized(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "signed"),
        quantized(nn.Conv2d(4, 4, 3), "signed", weight_bits=8),
        quantized(nn.Conv2d(4, 4, 3), "signed", weight_bits=7),
        quantized(nn.Linear(4, 4), "signed"),
    )
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not has_vnni()
    assert run_in_integers_(network) == {
        "0": "integers are slower than floats in grouped convolutions",
        "1": "it is no plain 2-d convolution",
        "2": "weights of 8 bits could overflow on a CPU without VNNI",
        "4": "it is no plain 2-d convolution",
    }
    assert [type(layer) is IntegerConv2d for layer in network] == [False, False, False, True, False]
    assert type(network[2]) is QuantConv2d
