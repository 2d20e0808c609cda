"""Tests of `LsqQuantizer`: gradient scales, positive steps, initial steps, and the active bit-width."""

import math

import pytest
import torch
from composed_formula import composed, limits
from torch import Tensor

from limpq_hub.quant.quantizer import LsqQuantizer


def step_gradient(quantizer: LsqQuantizer, x: Tensor) -> float:
    quantizer.step.grad = None
    quantizer(x).sum().backward()
    return quantizer.step.grad.item()


@pytest.mark.parametrize(("signed", "highest"), [(True, 7), (False, 15)])
def test_gradient_scale_of_activations_counts_the_elements_of_one_sample(signed, highest):
    torch.manual_seed(0)
    sample = torch.randn(1, 3, 4, 5).abs()
    quantizer = LsqQuantizer((4,), signed=signed, per_sample=True)
    quantizer.set_step_(4, 0.1)
    step = torch.tensor(0.1, requires_grad=True)
    composed(sample, step, *limits(4, signed)).sum().backward()
    once = step_gradient(quantizer, sample)
    assert once == pytest.approx(step.grad.item() / math.sqrt(highest * 60), rel=1e-5)
    assert step_gradient(quantizer, sample.repeat(8, 1, 1, 1)) == pytest.approx(8 * once, rel=1e-5)


def test_gradient_scale_of_weights_counts_every_element():
    torch.manual_seed(0)
    weight = torch.randn(8, 3, 2, 2)
    quantizer = LsqQuantizer((3,), signed=True, per_sample=False)
    quantizer.set_step_(3, 0.2)
    step = torch.tensor(0.2, requires_grad=True)
    composed(weight, step, -4, 3).sum().backward()
    assert step_gradient(quantizer, weight) == pytest.approx(step.grad.item() / math.sqrt(3 * 96), rel=1e-5)


@pytest.mark.parametrize("raw", [-0.5, 0.0, 1e-6])
def test_raw_step_below_the_floor_is_used_as_the_floor_and_still_learns(raw):
    quantizer = LsqQuantizer((4, 2), signed=True, per_sample=False)
    quantizer.set_step_(2, raw)
    quantizer.bits = 2
    values = torch.tensor([-1.0, 0.0, 1.0])
    assert quantizer.step_of(2).item() == pytest.approx(1e-5)
    torch.testing.assert_close(quantizer(values), torch.tensor([-2e-5, 0, 1e-5]))
    quantizer(values).backward(torch.tensor([0.0, 0.0, 1.0]))
    assert quantizer.step.grad.tolist() == pytest.approx([0, 1 / math.sqrt(1 * 3)])


def test_raw_step_above_the_floor_is_used_as_it_is():
    quantizer = LsqQuantizer((4,), signed=True, per_sample=False)
    quantizer.set_step_(4, 3.5)
    assert quantizer.step_of(4).item() == 3.5


def test_only_the_step_of_the_active_bits_learns():
    quantizer = LsqQuantizer((6, 4, 2), signed=True, per_sample=False)
    quantizer.bits = 4
    quantizer(torch.tensor([0.3, 0.7, 30.0])).sum().backward()
    assert quantizer.step.grad[1] != 0
    assert quantizer.step.grad[[0, 2]].tolist() == [0, 0]


def test_initial_weight_step_reaches_three_deviations_from_the_mean():
    weight = torch.tensor([[-1.0, 3.0]])  # mean 1, deviation 2: the farther end is 1 + 3 * 2 = 7
    quantizer = LsqQuantizer((4, 2), signed=True, per_sample=False)
    assert quantizer.initial_step(weight, 4).item() == pytest.approx(7 / 8)
    assert quantizer.initial_step(weight, 2).item() == pytest.approx(7 / 2)
    assert quantizer.initial_step(-weight, 4).item() == pytest.approx(7 / 8)


@pytest.mark.parametrize(("signed", "highest"), [(True, 7), (False, 15)])
def test_initial_activation_step_is_twice_the_mean_magnitude_over_the_root_of_the_highest_integer(signed, highest):
    quantizer = LsqQuantizer((4,), signed=signed, per_sample=True)
    step = quantizer.initial_step(torch.tensor([[-1.0, 3.0], [0.0, 4.0]]), 4)
    assert step.item() == pytest.approx(2 * 2.0 / math.sqrt(highest))


@pytest.mark.parametrize("per_sample", [True, False])
def test_tensor_of_zeros_gets_a_positive_step_and_stays_zero(per_sample):
    quantizer = LsqQuantizer((2,), signed=True, per_sample=per_sample)
    zeros = torch.zeros(2, 3)
    quantizer.set_step_(2, quantizer.initial_step(zeros, 2))
    assert quantizer.step.item() == pytest.approx(1e-5)
    assert quantizer(zeros).tolist() == zeros.tolist()


def test_without_bits_values_pass_through_untouched():
    quantizer = LsqQuantizer((4,), signed=True, per_sample=True)
    quantizer.bits = None
    x = torch.randn(2, 3, dtype=torch.bfloat16)
    assert quantizer(x) is x


def test_empty_batch_stays_empty():
    quantizer = LsqQuantizer((4,), signed=True, per_sample=True)
    assert quantizer(torch.empty(0, 3, 2, 2)).shape == (0, 3, 2, 2)


def test_printed_quantizer_shows_its_bits_and_signedness():
    quantizer = LsqQuantizer((4, 2), signed=False, per_sample=True)
    assert repr(quantizer) == "LsqQuantizer(bits=4, candidates=(4, 2), signed=False)"
