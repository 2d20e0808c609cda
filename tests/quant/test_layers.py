"""Tests of the quantized layers against plain layers of separately quantized tensors, and of their cached weight."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional

from limpq_hub.errors import PolicyError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.convert import to_supernet
from limpq_hub.quant.layers import QuantConv2d, quantize_layer_
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d

CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "without bias": {"kernel_size": 3, "bias": False},
    "grouped": {"kernel_size": 3, "groups": 3},
    "depthwise": {"kernel_size": 3, "groups": 6, "padding": 1},
    "dilated": {"kernel_size": 3, "dilation": (2, 1), "padding": 2},
    "rectangular": {"kernel_size": (1, 5), "padding": (0, 2)},
    "strided": {"kernel_size": 3, "stride": (2, 3), "padding": 1},
    "zeros": {"kernel_size": 3, "padding": (2, 1)},
    "reflect": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "reflect"},
    "circular": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "circular"},
    "replicate": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "replicate"},
    "same": {"kernel_size": (3, 4), "padding": "same", "dilation": 2},
    "same, reflected": {"kernel_size": 4, "padding": "same", "padding_mode": "reflect"},
    "valid": {"kernel_size": 3, "padding": "valid"},
}


def on_grid(x: Tensor, step: float, low: int, high: int) -> Tensor:
    return torch.round(torch.clamp(x / step, low, high)) * step


def quantized(layer: nn.Module, *, signed: bool = True, candidates: tuple[int, ...] = (4, 2)) -> nn.Module:
    """`layer` quantized at 4 bits with step 0.25 for its input."""
    result = quantize_layer_(copy.deepcopy(layer))
    result.add_quantizers_(candidates, candidates, grid="signed" if signed else "unsigned")
    result.activation_quantizer.set_step_(candidates[0], 0.25)
    return result


@pytest.fixture
def layer() -> QuantConv2d:
    """A quantized convolution in eval mode that wants no gradients, so that it may keep its weight."""
    torch.manual_seed(0)
    return quantized(nn.Conv2d(3, 4, 3)).eval().requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def count_quantizations(layer: QuantConv2d) -> list[int]:
    """A list that grows by one whenever the weight of `layer` is quantized."""
    calls: list[int] = []
    layer.weight_quantizer.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution_is_the_plain_one_of_quantized_tensors(options, training, signed):
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 12, **options)
    ours = quantized(plain, signed=signed).train(training)
    ours.weight_quantizer.set_step_(4, 0.03)
    images = torch.randn(2, 6, 9, 8)
    oracle = copy.deepcopy(plain)
    with torch.no_grad():
        oracle.weight.copy_(on_grid(plain.weight, 0.03, -8, 7))
    expected = oracle(on_grid(images, 0.25, -8, 7) if signed else on_grid(images, 0.25, 0, 15))
    assert torch.equal(ours(images), expected)
    with torch.no_grad():
        assert torch.equal(ours(images), expected)


def test_padding_is_applied_to_the_quantized_input_as_functional_conv2d_does():
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, (3, 2), stride=2, padding=(1, 2), padding_mode="circular")
    ours = quantized(plain)
    images = torch.randn(2, 3, 6, 6)
    step = ours.weight_quantizer.step[0].item()
    padded = functional.pad(on_grid(images, 0.25, -8, 7), (2, 2, 1, 1), mode="circular")
    expected = functional.conv2d(padded, on_grid(plain.weight, step, -8, 7), plain.bias, stride=2)
    torch.testing.assert_close(ours(images), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (2, 3, 5, 7)])
def test_linear_is_the_plain_one_of_quantized_tensors(shape, bias):
    torch.manual_seed(0)
    plain = nn.Linear(7, 4, bias=bias)
    ours = quantized(plain)
    ours.weight_quantizer.set_step_(4, 0.06)
    values = torch.randn(shape)
    expected = functional.linear(on_grid(values, 0.25, -8, 7), on_grid(plain.weight, 0.06, -8, 7), plain.bias)
    assert torch.equal(ours(values), expected)
    assert torch.equal(ours.eval().requires_grad_(False)(values), expected)


def test_layer_is_turned_into_a_quantized_one_in_place():
    for plain in (nn.Conv2d(3, 4, 3).eval(), nn.Linear(3, 4).train()):
        weight, training = plain.weight, plain.training
        assert quantize_layer_(plain) is plain
        assert plain.weight is weight
        assert plain.training == training


def test_without_bits_the_layer_computes_in_float(layer, x):
    layer.set_bits_(None)
    assert layer.bits is None
    assert torch.equal(layer(x), functional.conv2d(x, layer.weight, layer.bias))


def test_weight_steps_start_from_the_weight_at_each_candidate():
    plain = nn.Linear(2, 1)
    with torch.no_grad():
        plain.weight.copy_(torch.tensor([[-1.0, 3.0]]))  # mean 1, deviation 2
    assert quantized(plain).weight_quantizer.step.tolist() == pytest.approx([7 / 8, 7 / 2])


def test_weight_is_quantized_once_over_many_eval_calls(layer, x, count_quantizations):
    first = layer(x)
    for _ in range(5):
        assert torch.equal(layer(x), first)
    with torch.no_grad():
        layer(x)
    with torch.inference_mode():
        layer(x)
    assert len(count_quantizations) == 1


def test_weight_is_quantized_at_every_call_in_train_mode(layer, x, count_quantizations):
    layer.train()
    layer(x)
    layer(x)
    assert len(count_quantizations) == 2


@torch.no_grad()
def _change_weight(layer: QuantConv2d) -> None:
    layer.weight.mul_(-1.5)


@torch.no_grad()
def _change_weight_in_inference_mode(layer: QuantConv2d) -> None:
    with torch.inference_mode():
        layer.weight.mul_(-1.5)


def _change_step(layer: QuantConv2d) -> None:
    layer.weight_quantizer.set_step_(4, 0.4)


def _change_bits(layer: QuantConv2d) -> None:
    layer.set_bits_(LayerBits(2, 4))


def _load_state(layer: QuantConv2d) -> None:
    layer.load_state_dict({name: value * -1.5 for name, value in layer.state_dict().items()})


def _load_state_by_assignment(layer: QuantConv2d) -> None:
    layer.load_state_dict({name: value * -1.5 for name, value in layer.state_dict().items()}, assign=True)


def _to_double(layer: QuantConv2d) -> None:
    layer.double()


def _train_and_write_data(layer: QuantConv2d) -> None:
    layer.train()
    layer.weight.data.mul_(-1.5)  # leaves the version counter of the weight as it was
    layer.eval()


@pytest.mark.parametrize(
    "change",
    [
        _change_weight,
        _change_weight_in_inference_mode,
        _change_step,
        _change_bits,
        _load_state,
        _load_state_by_assignment,
        _to_double,
        _train_and_write_data,
    ],
)
def test_cached_weight_is_refreshed_after(change, layer, x):
    before = layer(x)
    change(layer)
    x = x.to(layer.weight.dtype)
    step, bits = layer.weight_quantizer.step_of(layer.bits.weight), layer.bits.weight
    weight = on_grid(layer.weight, step, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = on_grid(x, layer.activation_quantizer.step_of(4), -8, 7)
    after = layer(x)
    assert after.dtype == x.dtype
    assert not torch.equal(after, before.to(x.dtype))
    assert torch.equal(after, functional.conv2d(values, weight, layer.bias))


@pytest.mark.parametrize("how", ["parameter", "data"])
def test_cached_weight_is_refreshed_when_a_new_weight_takes_the_memory_of_the_old_one(how, layer):
    for seed in range(100):  # the allocator reuses an address now and then
        layer.quantized_weight()
        for offset in (1000, 0):
            new = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed + offset))
            if how == "parameter":
                layer.weight = nn.Parameter(new, requires_grad=False)
            else:
                layer.weight.data = new
        step = layer.weight_quantizer.step_of(4)
        assert torch.equal(layer.quantized_weight(), on_grid(layer.weight, step, -8, 7))


def test_cached_weight_is_not_part_of_the_state(layer, x):
    before = set(layer.state_dict())
    layer(x)
    assert set(layer.state_dict()) == before


def test_copied_layer_keeps_a_weight_of_its_own(layer, x):
    before = layer(x)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.mul_(-1.5)
    assert not torch.equal(twin(x), before)
    assert torch.equal(layer(x), before)


def test_weight_cached_in_inference_mode_serves_autograd_of_the_input(layer, x, count_quantizations):
    with torch.inference_mode():
        expected = layer(x)
    x = x.clone().requires_grad_()
    output = layer(x)
    output.sum().backward()
    assert torch.equal(output, expected)
    assert x.grad.abs().sum() > 0
    assert len(count_quantizations) == 1


def test_layer_made_in_inference_mode_runs(x):
    with torch.inference_mode():
        layer = quantized(nn.Conv2d(3, 4, 3)).eval()
        expected = functional.conv2d(
            on_grid(x, 0.25, -8, 7), on_grid(layer.weight, layer.weight_quantizer.step[0], -8, 7), layer.bias
        )
        assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("before", ["nothing", "a call without gradients"])
def test_gradients_reach_weight_and_steps_in_eval_mode(before, layer, x):
    layer.requires_grad_()
    if before != "nothing":
        with torch.no_grad():
            layer(x)
    layer(x).square().sum().backward()
    found = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.train().zero_grad()
    layer(x).square().sum().backward()
    for (name, parameter), gradient in zip(layer.named_parameters(), found, strict=True):
        assert gradient.abs().sum() > 0, name
        assert torch.equal(gradient, parameter.grad), name


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (LayerBits(3, 4), "^3 weight bits cannot be set: the candidates are 4, 2$"),
        (LayerBits(4, 8), "^8 activation bits cannot be set: the candidates are 4, 2$"),
    ],
)
def test_bits_that_are_no_candidate_are_refused_and_change_nothing(bits, message, layer):
    with pytest.raises(PolicyError, match=message):
        layer.set_bits_(bits)
    assert layer.bits == LayerBits(4, 4)


def test_quantized_layers_are_listed_by_name():
    model = nn.Sequential(quantized(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Sequential(quantized(nn.Linear(4, 2))))
    assert dict(quantized_layers(model)) == {"0": model[0], "2.0": model[2][0]}


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
def test_switchable_norm_keeps_statistics_for_each_bit_width(kind, x):
    switch = SwitchableBatchNorm2d(kind(3), (4, 2), "conv")
    assert switch.bits == 4
    assert all(type(norm) is kind for norm in switch.copies.values())
    alone = kind(3)
    switch.bits = 2
    assert switch.active is switch.copies["2"]
    assert torch.equal(switch(x + 3), alone(x + 3))
    assert torch.equal(switch.copies["2"].running_mean, alone.running_mean)
    assert switch.copies["4"].running_mean.tolist() == [0, 0, 0]
    assert switch.copies["4"].num_batches_tracked == 0
    switch.eval(), alone.eval()
    assert torch.equal(switch(x), alone(x))
    switch.bits = 4
    assert torch.equal(switch(x), kind(3).eval()(x))


def test_switchable_norm_starts_every_copy_from_the_given_one_and_leaves_that_alone(x):
    norm = nn.BatchNorm2d(3)
    norm(x)
    before = copy.deepcopy(norm.state_dict())
    switch = SwitchableBatchNorm2d(norm, (4, 2), "conv")
    switch(x)
    assert torch.equal(switch.copies["2"].running_mean, before["running_mean"])
    assert torch.equal(norm.running_mean, before["running_mean"])


class ByTwo(nn.Linear):
    """Multiplies by its weight and by a parameter that is the weight of no layer."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.other = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight) + functional.linear(x, self.other)


class ByTable(nn.Module):
    """Multiplies by the weight of its layer, by a table and by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.table = nn.Linear(4, 4), nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.linear(x, self.layer.weight) @ self.table
        return x @ x.mT


@pytest.mark.parametrize("kind", [ByTwo, ByTable])
def test_parameters_of_no_layer_stay_in_float_in_a_replica_on_another_device(kind, replica_of):
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(4, 4), kind(), nn.Linear(4, 2)).eval(), torch.randn(2, 4, 4)
    model = to_supernet(network, (4,), example_input=x).eval()
    with torch.no_grad():
        expected = model(x)
        assert not torch.allclose(expected, network(x))
        assert torch.equal(replica_of(model)(x), expected)
