"""Tests of convolutions that multiply integers: the simulated result, and what is simulated all the same."""

import copy

import pytest
import torch
from torch import nn

from limpq_hub import Policy, to_quantized
from limpq_hub.quant.fake_quantization import Grid
from limpq_hub.quant.integer_layers import IntegerConv2d, has_vnni, run_in_integers_
from limpq_hub.quant.layers import QuantConv2d, QuantLayer, quantize_layer_
from limpq_hub.quant.profile import profile_module

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


@pytest.mark.parametrize(
    "images",
    [
        torch.randn(2, 5, 9, 11),
        torch.randn(2, 5, 9, 11).to(memory_format=torch.channels_last),
        torch.randn(2, 10, 9, 11)[:, :5],
    ],
    ids=["contiguous", "channels last", "some of the channels"],
)
def test_the_output_lies_in_memory_as_that_of_the_simulated_convolution(images):
    simulated = quantized(nn.Conv2d(5, 7, 3), "signed")
    integer = copy.deepcopy(simulated)
    run_in_integers_(integer)
    assert integer(images).stride() == simulated(images).stride()
    assert torch.equal(integer(images.contiguous()).view(2, -1), integer(images).flatten(1))


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


def pair() -> tuple[QuantLayer, nn.Module]:
    """Return a layer that multiplies integers and has been called, and the one that is simulated beside it."""
    torch.manual_seed(0)
    simulated = quantized(nn.Conv2d(3, 4, 3), "signed", per_channel=True)
    integer = copy.deepcopy(simulated)
    run_in_integers_(integer)
    integer(torch.randn(1, 3, 8, 8))
    return integer, simulated


def write_in_place(layer: QuantLayer) -> None:
    with torch.no_grad():
        layer.weight.mul_(0.5)


def widen_the_weight_steps(layer: QuantLayer) -> None:
    layer.weight_quantizer.set_step_(4, 0.25)


def widen_the_input_step(layer: QuantLayer) -> None:
    layer.activation_quantizer.set_step_(6, 0.25)


def load_a_state(layer: QuantLayer, *, assign: bool = False) -> None:
    state = {name: tensor.detach().clone() for name, tensor in layer.state_dict().items()}
    layer.load_state_dict(state | {"weight": state["weight"] * -0.5}, assign=assign)


def assign_a_state(layer: QuantLayer) -> None:
    load_a_state(layer, assign=True)


def another_parameter(layer: QuantLayer) -> None:
    layer.weight = nn.Parameter(layer.weight * 0.5, requires_grad=False)


def move(layer: QuantLayer) -> None:
    layer._apply(lambda tensor: tensor * 0.5 if tensor.is_floating_point() else tensor)


def switch_to_float(layer: QuantLayer) -> None:
    layer.set_bits_(None)


def no_number_in_the_weight(layer: QuantLayer) -> None:
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = torch.nan


def no_number_in_a_step(layer: QuantLayer) -> None:
    with torch.no_grad():
        layer.weight_quantizer.step[0, 1] = torch.inf


def write_through_data(layer: QuantLayer) -> None:
    layer.weight.data.mul_(0.5)
    layer.eval()


def write_through_numpy_in_training(layer: QuantLayer) -> None:
    layer.train()
    layer.weight.numpy()[:] *= 0.5
    layer.eval()


@pytest.mark.parametrize(
    "change",
    [
        write_in_place,
        write_through_data,
        write_through_numpy_in_training,
        widen_the_weight_steps,
        widen_the_input_step,
        load_a_state,
        assign_a_state,
        another_parameter,
        move,
        switch_to_float,
        no_number_in_the_weight,
        no_number_in_a_step,
        nn.Module.train,
    ],
)
def test_what_was_changed_after_the_first_call_is_what_the_next_one_multiplies_by(change):
    integer, simulated = pair()
    images = (torch.randn(2, 3, 8, 8) * 64).round() / 64
    before = integer(images)
    for layer in (integer, simulated):
        change(layer)
    torch.testing.assert_close(integer(images), simulated(images), equal_nan=True)
    assert not torch.equal(integer(images), before) or change is nn.Module.train
    torch.testing.assert_close(copy.deepcopy(integer)(images), simulated(images), equal_nan=True)


def test_a_pixel_that_is_no_number_makes_the_same_outputs_no_numbers_as_in_the_simulation():
    integer, simulated = pair()
    images = torch.randn(2, 3, 8, 8)
    images[0, 1, 2, 5] = torch.nan
    found = integer(images).isnan()
    assert torch.equal(found, simulated(images).isnan())
    assert (found.any(), found.all(), found[1].any()) == (True, False, False)
    images[0, 1, 2, 5] = torch.inf  # the highest number of the grid
    torch.testing.assert_close(integer(images), simulated(images))


@pytest.mark.parametrize("learns", ["the input", "the weight", "a step", "the bias"])
def test_where_a_gradient_is_wanted_it_is_that_of_the_simulation(learns):
    gradients = []
    for layer in pair():
        learned = {
            "the input": torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8),
            "the weight": layer.weight,
            "a step": layer.weight_quantizer.step,
            "the bias": layer.bias,
        }
        learned[learns].requires_grad_(True)
        layer(learned["the input"]).square().sum().backward()
        gradients.append(learned[learns].grad)
        with torch.no_grad():
            assert not layer(learned["the input"]).requires_grad
    assert gradients[0].abs().sum() > 0
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_in_another_precision_it_is_the_simulation(dtype):
    integer, simulated = (layer.to(dtype) for layer in pair())
    images = torch.randn(2, 3, 8, 8).to(dtype)
    assert torch.equal(integer(images), simulated(images))
    assert integer(images).dtype == dtype
    with pytest.raises(RuntimeError, match="same"):
        integer(images.float())
    back = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(integer.float()(back), simulated.float()(back))


def test_images_without_a_batch_and_of_other_channels_are_answered_as_by_the_simulation():
    integer, simulated = pair()
    image = torch.randn(3, 8, 8)
    assert torch.equal(integer(image), simulated(image))
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 4 channels"):
        integer(torch.randn(1, 4, 8, 8))


def test_convolutions_that_share_a_weight_all_multiply_integers_or_say_why_not():
    torch.manual_seed(0)
    network, images = nn.Sequential(*(nn.Conv2d(3, 3, 1, bias=False) for _ in range(3))), torch.randn(4, 3, 5, 5)
    network.append(nn.Conv2d(3, 3, 1, padding=1, padding_mode="reflect", bias=False))
    for shared in (1, 2, 3):
        network[shared].weight = network[0].weight
    model = to_quantized(
        network, Policy.uniform("Sequential", profile_module(network, images), 4), example_input=images
    )
    model.eval().requires_grad_(False)
    expected = model(images)
    assert run_in_integers_(model) == {"3": "it is no plain 2-d convolution"}
    assert [type(layer) is IntegerConv2d for layer in model] == [True, True, True, False]
    torch.testing.assert_close(model(images), expected)
