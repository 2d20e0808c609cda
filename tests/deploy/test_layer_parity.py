"""Tests of the comparison layer by layer: what rounds on an edge passes, and a single wrong integer does not."""

from copy import deepcopy
from importlib.util import find_spec

import pytest
import torch
from exact_blocks import InvertedResidual
from torch import nn

import limpq_hub
from limpq_hub import LayerBits, Policy, export, to_quantized, to_supernet
from limpq_hub.quant.convert import set_policy_
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.quant.quantized import quantized_layers

if not all(map(find_spec, ("onnx", "openvino", "qonnx"))):
    pytest.skip('needs the extra "export"', allow_module_level=True)

from limpq_hub.deploy.layer_parity import LayerParity, layer_parity
from limpq_hub.deploy.runtimes import open_runtime


@pytest.fixture
def written(exact_network, tmp_path):
    """A function that exports a network, and compares its file with it once something was changed in the network."""

    def compare(change=lambda network: None, file_format="openvino", **options) -> LayerParity:
        network, images = exact_network(nn.ReLU6(), **options)
        export(network, tmp_path / "out", format=file_format, images=[images])
        with torch.no_grad():
            change(network)
        file = tmp_path / "out/model.onnx"
        return layer_parity(file, file_format, network, [images], open_runtime(file, file_format))

    return compare


@pytest.mark.parametrize("file_format", ["openvino", "qonnx"])
@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"block": InvertedResidual}], ids=str)
def test_where_float_arithmetic_is_exact_no_integer_is_another(written, file_format, options):
    parity = written(file_format=file_format, **options)
    assert (parity.pictures, parity.other_integers, parity.largest_difference) == (8, 0, 0)
    assert parity.integers > 8 * 3 * 16 * 16
    assert parity.is_exact


def move_a_weight(network: nn.Module) -> None:
    layer = dict(quantized_layers(network))["expand"]
    layer.weight[0] += layer.weight_quantizer.step_of(layer.weight_quantizer.bits)


def widen_an_input(network: nn.Module) -> None:
    dict(quantized_layers(network))["expand"].activation_quantizer.step.mul_(1.02)


def shift_a_norm(network: nn.Module) -> None:
    network.norms[0].bias += 0.01


def move_the_last_bias(network: nn.Module) -> None:
    network.classifier.bias[0] += 0.01


@pytest.mark.parametrize("change", [move_a_weight, widen_an_input, shift_a_norm, move_the_last_bias])
def test_another_network_than_the_file_is_told(written, change):
    assert not written(change).is_exact


def test_only_the_layer_that_is_wrong_shows(written):
    """Each layer starts from the integers of the file: behind a wrong layer all others are right again."""
    parity = written(move_the_last_bias)
    assert parity.other_integers == 0
    assert parity.largest_difference == pytest.approx(0.01)


def test_a_network_of_any_numbers_differs_by_rounding_alone(tiny, tmp_path):
    model = limpq_hub.load(tiny.name, bitops="w3a3")
    export(model, tmp_path / "out", images=[tiny.images])
    file = tmp_path / "out/model.onnx"
    parity = layer_parity(file, "openvino", thaw_(model), [tiny.images] * 3, open_runtime(file, "openvino"))
    assert parity.pictures == 16, "the first are enough"
    assert parity.is_exact
    assert parity.largest_difference < 1e-5


@pytest.mark.parametrize("file_format", ["openvino", "qonnx"])
def test_a_weight_that_float64_would_round_to_another_integer_has_the_integer_of_the_file(tmp_path, file_format):
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten())
    images = torch.randn(4, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    quantized = to_quantized(network, Policy("Sequential", {"0": LayerBits(8, 8)}), example_input=images).eval()
    with torch.no_grad():
        quantized[0].weight.fill_(0.01574409380555153)
        quantized[0].weight_quantizer.set_step_(8, 0.001015748)
    assert [int(copied[0].weight_integers(8)) for copied in (quantized, deepcopy(quantized).double())] == [16, 15]
    export(quantized, tmp_path / "out", format=file_format, images=[images])
    file = tmp_path / "out/model.onnx"
    assert layer_parity(file, file_format, quantized, [images], open_runtime(file, file_format)).is_exact


def test_a_supernet_at_a_policy_is_compared_at_the_bits_of_the_policy(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)), nn.Flatten())
    images = torch.randn(4, 3, 6, 6)
    supernet = to_supernet(network, (4, 2), example_input=images).eval()
    file = tmp_path / "out/model.onnx"
    for ends in ({"0": LayerBits(8, 8), "2": LayerBits(8, 8)}, {}):  # without bits the first and the last are in float
        set_policy_(supernet, Policy("Sequential", ends | {"1": LayerBits(4, 2)}))
        export(supernet, tmp_path / "out", images=[images])
        assert layer_parity(file, "openvino", supernet, [images], open_runtime(file, "openvino")).is_exact


@pytest.mark.parametrize(
    ("distance", "difference", "is_exact"),
    [(0.0, 0.0, True), (9e-4, 9e-4, True), (2e-3, 0.0, False), (0.0, 2e-3, False), (0.0, float("nan"), False)],
)
def test_what_is_far_from_an_edge_is_no_rounding(distance, difference, is_exact):
    assert LayerParity(16, 1000, 3, distance, difference).is_exact == is_exact


@pytest.mark.parametrize("factor", [0, float("nan")])
def test_a_file_whose_twin_gives_other_logits_is_not_proven_by_it(exact_network, tmp_path, factor):
    network, images = exact_network()
    export(network, tmp_path / "out", images=[images])
    runtime = open_runtime(tmp_path / "out/model.onnx", "openvino")
    runtime.run = lambda batch: factor * runtime.outputs(batch)["logits"]
    parity = layer_parity(tmp_path / "out/model.onnx", "openvino", network, [images], runtime)
    assert parity.other_integers == 0
    assert not parity.is_exact
