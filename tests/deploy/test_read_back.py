"""Tests of the check of integers: one bit that differs is told, wherever it is."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from limpq_hub import Policy, to_quantized
from limpq_hub.errors import OutputError
from limpq_hub.quant.profile import profile_module

if find_spec("onnx") is None:
    pytest.skip('needs the extra "export"', allow_module_level=True)

import onnx
from onnx import numpy_helper

from limpq_hub.deploy.integer_layer import integer_layers
from limpq_hub.deploy.layer_formats import QonnxQuant, QuantizeDequantize
from limpq_hub.deploy.network_graph import network_graph
from limpq_hub.deploy.parity import check_integers
from limpq_hub.deploy.read_back import read_layers


@pytest.mark.parametrize("layer_format", [QuantizeDequantize(), QuantizeDequantize(without_vnni=True), QonnxQuant()])
@pytest.mark.parametrize("per_channel", [False, True])
def test_what_is_read_back_is_what_the_network_holds(exact_network, tmp_path, layer_format, per_channel):
    network, _ = exact_network(per_channel=per_channel)
    onnx.save(network_graph(network, (3, 16, 16), layer_format, {}), tmp_path / "model.onnx")
    written, read = list(integer_layers(network).values()), read_layers(tmp_path / "model.onnx")
    assert check_integers(written, read) == sum(layer.integers.size for layer in written)
    for layer in written:
        expected = network.get_submodule(layer.name).quantized_weight().numpy()
        assert np.array_equal(read[layer.name].weight, expected)
        assert (read[layer.name].input_low, read[layer.name].input_high) == (layer.input_low, layer.input_high)


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        ("expand.weight_integers", "has other integers of expand than the network"),
        ("expand.weight_scale", "has other weights of expand than the network"),
        ("expand.input_scale", "has other input step of expand than the network"),
        ("expand.input_highest", "lets the input of expand reach from 0 to 32, its 5 bits from 0 to 31"),
    ],
)
def test_one_number_that_differs_is_told(exact_network, tmp_path, tensor, told):
    network, _ = exact_network()
    model = network_graph(network, (3, 16, 16), QuantizeDequantize(), {})
    constant = next(item for item in model.graph.initializer if item.name == tensor)
    value = numpy_helper.to_array(constant).copy()
    step = network.expand.activation_quantizer.step.numpy()[0]
    flat = value.reshape(-1)
    flat[0] = {
        "expand.weight_integers": flat[0] + 1,
        "expand.input_highest": 32 * step,
    }.get(tensor, np.nextafter(flat[0], np.inf) if value.dtype == np.float32 else flat[0])
    constant.CopyFrom(numpy_helper.from_array(flat.reshape(value.shape), tensor))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(OutputError, match=told):
        check_integers(integer_layers(network).values(), read_layers(tmp_path / "model.onnx"))


@pytest.mark.parametrize("layer_format", [QuantizeDequantize(), QonnxQuant()])
@pytest.mark.parametrize("per_channel", [False, True])
def test_steps_of_a_layer_of_one_output_are_read_in_their_shape(tmp_path, layer_format, per_channel):
    torch.manual_seed(0)
    images, network = torch.randn(4, 3, 4, 4), nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 1))
    policy = Policy.uniform("Sequential", profile_module(network, images), 8)
    network = to_quantized(network, policy, example_input=images, per_channel=per_channel).eval()
    onnx.save(network_graph(network, (3, 4, 4), layer_format, {}), tmp_path / "model.onnx")
    read = read_layers(tmp_path / "model.onnx")
    assert read["2"].weight_step.shape == ((1,) if per_channel else ())
    check_integers(integer_layers(network).values(), read)
