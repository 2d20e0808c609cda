"""Tests of `LsqQuantizer`: gradient scales, positive steps, initial steps, and the active bit-width."""

import copy
import math

import pytest
import torch
from composed_formula import composed, limits
from torch import Tensor, nn

from limpq_hub import LayerBits, Policy, to_quantized
from limpq_hub.quant.quantizer import LsqQuantizer


def step_gradient(quantizer: LsqQuantizer, x: Tensor) -> float:
    quantizer.step.grad = None
    quantizer(x).sum().backward()
    return quantizer.step.grad.item()


@pytest.mark.parametrize(("signed", "highest"), [(True, 7), (False, 15)])
def test_gradient_scale_of_activations_counts_the_elements_of_one_sample(signed, highest):
    torch.manual_seed(0)
    sample = torch.randn(1, 3, 4, 5).abs()
    quantizer = LsqQuantizer((4,), grid="signed" if signed else "unsigned", per_sample=True)
    quantizer.set_step_(4, 0.1)
    step = torch.tensor(0.1, requires_grad=True)
    composed(sample, step, *limits(4, signed)).sum().backward()
    once = step_gradient(quantizer, sample)
    assert once == pytest.approx(step.grad.item() / math.sqrt(highest * 60), rel=1e-5)
    assert step_gradient(quantizer, sample.repeat(8, 1, 1, 1)) == pytest.approx(8 * once, rel=1e-5)


def test_gradient_scale_of_weights_counts_every_element():
    torch.manual_seed(0)
    weight = torch.randn(8, 3, 2, 2)
    quantizer = LsqQuantizer((3,), grid="signed", per_sample=False)
    quantizer.set_step_(3, 0.2)
    step = torch.tensor(0.2, requires_grad=True)
    composed(weight, step, -4, 3).sum().backward()
    assert step_gradient(quantizer, weight) == pytest.approx(step.grad.item() / math.sqrt(3 * 96), rel=1e-5)


def test_gradient_scale_of_a_channel_counts_the_elements_of_that_channel():
    torch.manual_seed(0)
    weight = torch.randn(8, 3, 2, 2)
    quantizer = LsqQuantizer((3,), grid="signed", per_sample=False, channels=8)
    quantizer.set_step_(3, torch.linspace(0.1, 0.3, 8))
    quantizer(weight).sum().backward()
    for channel, step in enumerate(torch.linspace(0.1, 0.3, 8)):
        alone = step.clone().requires_grad_()
        composed(weight[channel], alone, -4, 3).sum().backward()
        expected = alone.grad.item() / math.sqrt(3 * 12)
        assert quantizer.step.grad[0, channel].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_channels_along_another_dimension_are_those_of_the_turned_weight():
    torch.manual_seed(0)
    weight = torch.randn(3, 8, 2, 2)  # [inputs, outputs, height, width], as of a transposed convolution
    turned = weight.transpose(0, 1)
    along, plain = (
        LsqQuantizer((3, 2), grid="signed", per_sample=False, channels=8, channel_dim=dim) for dim in (1, 0)
    )
    torch.testing.assert_close(along.initial_step(weight, 3), plain.initial_step(turned, 3))
    for quantizer, values in ((along, weight), (plain, turned)):
        quantizer.set_step_(3, torch.linspace(0.1, 0.3, 8))
        quantizer(values).square().sum().backward()
    assert torch.equal(along(weight), plain(turned).transpose(0, 1))
    torch.testing.assert_close(along.step.grad, plain.step.grad)


@pytest.mark.parametrize(
    ("grid", "zero_point", "expected"),
    [
        ("unsigned", 0, (0, 15)),
        ("signed", 8, (-8, 7)),
        ("offset", 0, (0, 15)),
        ("offset", 3, (-3, 12)),
        ("offset", 8, (-8, 7)),
    ],
)
def test_the_zero_point_is_the_number_of_integers_below_zero(grid, zero_point, expected):
    quantizer = LsqQuantizer((4, 2), grid=grid, per_sample=True)
    if grid == "offset":
        quantizer.set_zero_point_(4, zero_point)
    assert (quantizer.zero_point_of(4), quantizer.range_of(4)) == (zero_point, expected)
    assert quantizer.signed == (grid != "unsigned")
    assert ("zero_point" in quantizer.state_dict()) == (grid == "offset")


def test_values_on_an_offset_grid_and_its_gradient_scale_follow_the_zero_point():
    quantizer = LsqQuantizer((2, 4), grid="offset", per_sample=True)
    quantizer.set_zero_point_(4, 2)
    quantizer.set_step_(4, 0.5)
    quantizer.bits = 4
    x = torch.tensor([[-9.0, -1.2, -0.2, 0.0, 0.9, 9.0]])
    assert quantizer(x).tolist() == [[-1, -1, 0, 0, 1, 6.5]]
    step = torch.tensor(0.5, requires_grad=True)
    composed(x, step, -2, 13).sum().backward()
    assert step_gradient_at(quantizer, x, 1) == pytest.approx(step.grad.item() / math.sqrt(13 * 6))


def step_gradient_at(quantizer: LsqQuantizer, x: Tensor, index: int) -> float:
    quantizer.step.grad = None
    quantizer(x).sum().backward()
    return quantizer.step.grad[index].item()


@pytest.mark.parametrize("zero_point", [-1, 9])
def test_zero_point_outside_of_the_signed_and_unsigned_grid_is_refused(zero_point):
    quantizer = LsqQuantizer((4,), grid="offset", per_sample=True)
    with pytest.raises(ValueError, match=rf"^the zero point of 4 bits lies in 0..8, not at {zero_point}$"):
        quantizer.set_zero_point_(4, zero_point)


def test_new_zero_points_are_used_however_they_came_about():
    quantizer = LsqQuantizer((4,), grid="offset", per_sample=True)
    assert quantizer.zero_point_of(4) == 8
    quantizer.set_zero_point_(4, 5)
    assert quantizer.zero_point_of(4) == 5
    quantizer.load_state_dict(quantizer.state_dict() | {"zero_point": torch.tensor([3], dtype=torch.int32)})
    assert quantizer.zero_point_of(4) == 3
    twin = copy.deepcopy(quantizer)
    twin.set_zero_point_(4, 1)
    twin = copy.deepcopy(twin)
    assert (twin.zero_point_of(4), quantizer.zero_point_of(4)) == (1, 3)
    with torch.inference_mode():
        quantizer.set_zero_point_(4, 7)
        assert quantizer.zero_point_of(4) == 7
        made_in_inference_mode = copy.deepcopy(quantizer)
    assert (quantizer.zero_point_of(4), made_in_inference_mode.zero_point_of(4)) == (7, 7)


@pytest.mark.parametrize("channels", [None, 3])
def test_keeping_one_bit_width_keeps_its_steps_and_zero_point(channels):
    quantizer = LsqQuantizer((6, 4, 2), grid="offset", per_sample=channels is None, channels=channels)
    for bits, zero_point in ((6, 20), (4, 5), (2, 1)):
        quantizer.set_step_(bits, bits / 8)
        quantizer.set_zero_point_(bits, zero_point)
    quantizer.bits = 4
    x = torch.linspace(-2, 5, 12).reshape(3, 4)
    expected = quantizer(x)
    quantizer.keep_only_(4)
    assert torch.equal(quantizer(x), expected)
    assert {name: tuple(value.shape) for name, value in quantizer.state_dict().items()} == {
        "step": (1,) if channels is None else (1, 3),
        "zero_point": (1,),
    }


@pytest.mark.parametrize("raw", [-0.5, 0.0, 1e-6])
def test_raw_step_below_the_floor_is_used_as_the_floor_and_still_learns(raw):
    quantizer = LsqQuantizer((4, 2), grid="signed", per_sample=False)
    quantizer.set_step_(2, raw)
    quantizer.bits = 2
    values = torch.tensor([-1.0, 0.0, 1.0])
    assert quantizer.step_of(2).item() == pytest.approx(1e-5)
    torch.testing.assert_close(quantizer(values), torch.tensor([-2e-5, 0, 1e-5]))
    quantizer(values).backward(torch.tensor([0.0, 0.0, 1.0]))
    assert quantizer.step.grad.tolist() == pytest.approx([0, 1 / math.sqrt(1 * 3)])


def test_raw_step_above_the_floor_is_used_as_it_is():
    quantizer = LsqQuantizer((4,), grid="signed", per_sample=False)
    quantizer.set_step_(4, 3.5)
    assert quantizer.step_of(4).item() == 3.5


def test_only_the_step_of_the_active_bits_learns():
    quantizer = LsqQuantizer((6, 4, 2), grid="signed", per_sample=False)
    quantizer.bits = 4
    quantizer(torch.tensor([0.3, 0.7, 30.0])).sum().backward()
    assert quantizer.step.grad[1] != 0
    assert quantizer.step.grad[[0, 2]].tolist() == [0, 0]


def test_initial_weight_step_reaches_three_deviations_from_the_mean():
    weight = torch.tensor([[-1.0, 3.0]])  # mean 1, deviation 2: the farther end is 1 + 3 * 2 = 7
    quantizer = LsqQuantizer((4, 2), grid="signed", per_sample=False)
    assert quantizer.initial_step(weight, 4).item() == pytest.approx(7 / 8)
    assert quantizer.initial_step(weight, 2).item() == pytest.approx(7 / 2)
    assert quantizer.initial_step(-weight, 4).item() == pytest.approx(7 / 8)


def test_initial_weight_steps_of_channels_are_those_of_each_alone():
    weight = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    steps = LsqQuantizer((4,), grid="signed", per_sample=False, channels=3).initial_step(weight, 4)
    alone = LsqQuantizer((4,), grid="signed", per_sample=False)
    torch.testing.assert_close(steps, torch.stack([alone.initial_step(channel, 4) for channel in weight]))


@pytest.mark.parametrize(("signed", "highest"), [(True, 7), (False, 15)])
def test_initial_activation_step_is_twice_the_mean_magnitude_over_the_root_of_the_highest_integer(signed, highest):
    quantizer = LsqQuantizer((4,), grid="signed" if signed else "unsigned", per_sample=True)
    step = quantizer.initial_step(torch.tensor([[-1.0, 3.0], [0.0, 4.0]]), 4)
    assert step.item() == pytest.approx(2 * 2.0 / math.sqrt(highest))


@pytest.mark.parametrize("per_sample", [True, False])
def test_tensor_of_zeros_gets_a_positive_step_and_stays_zero(per_sample):
    quantizer = LsqQuantizer((2,), grid="signed", per_sample=per_sample)
    zeros = torch.zeros(2, 3)
    quantizer.set_step_(2, quantizer.initial_step(zeros, 2))
    assert quantizer.step.item() == pytest.approx(1e-5)
    assert quantizer(zeros).tolist() == zeros.tolist()


def test_without_bits_values_pass_through_untouched():
    quantizer = LsqQuantizer((4,), grid="signed", per_sample=True)
    quantizer.bits = None
    x = torch.randn(2, 3, dtype=torch.bfloat16)
    assert quantizer(x) is x


def test_empty_batch_stays_empty():
    quantizer = LsqQuantizer((4,), grid="signed", per_sample=True)
    assert quantizer(torch.empty(0, 3, 2, 2)).shape == (0, 3, 2, 2)


def test_printed_quantizer_shows_its_bits_and_its_grid():
    quantizer = LsqQuantizer((4, 2), grid="unsigned", per_sample=True)
    assert repr(quantizer) == "LsqQuantizer(bits=4, candidates=(4, 2), grid=unsigned)"
    assert repr(LsqQuantizer((4,), grid="signed", per_sample=False, channels=3)) == (
        "LsqQuantizer(bits=4, candidates=(4,), grid=signed, channels=3)"
    )


class Tokens(nn.Module):
    """A layer and a product of tokens, each in windows, which keep the batch in front or are folded into it."""

    def __init__(self, kept_as: str) -> None:
        super().__init__()
        self.kept_as, self.first, self.last = kept_as, nn.Linear(4, 4), nn.Linear(4, 4)
        self.middle = nn.Conv1d(4, 4, 1) if kept_as == "convolved windows" else nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        batch, windows, tokens, channels = x.shape
        folded = {
            "windows": lambda: x.view(batch * windows, tokens, channels),
            "convolved windows": lambda: x.view(batch * windows, tokens, channels).mT,
            "rows": lambda: x.view(-1, channels),
            "tokens first": lambda: x.view(batch, windows * tokens, channels).transpose(0, 1),
            "batch first": lambda: x,
        }[self.kept_as]()
        x = self.middle(folded)
        if self.kept_as == "tokens first":
            x = x.transpose(0, 1)
        if self.kept_as == "convolved windows":
            x = x.mT
        elif self.kept_as != "windows":
            x = x.reshape(batch, windows, tokens, channels)
        return self.last((x @ x.mT).softmax(-1) @ x).reshape(batch, windows, tokens, channels)


@pytest.mark.parametrize("kept_as", ["windows", "convolved windows", "rows", "tokens first"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_step_learns_alike_wherever_the_batch_is(kept_as, batch):
    torch.manual_seed(0)
    plain, x = Tokens("batch first"), torch.randn(batch, 3, 5, 4)
    other = Tokens(kept_as)
    shapes = {name: parameter.shape for name, parameter in other.named_parameters()}
    other.load_state_dict({name: value.view(shapes[name]) for name, value in plain.state_dict().items()})
    policy = Policy("Tokens", dict.fromkeys(("first", "middle", "qk", "av", "last"), LayerBits(4, 4)))
    gradients = []
    for network in (plain, other):
        model = to_quantized(network, policy, example_input=x)
        model(x).square().sum().backward()
        gradients.append({name: step.grad for name, step in model.named_parameters() if name.endswith(".step")})
    assert len(gradients[0]) == 10
    torch.testing.assert_close(*gradients)
