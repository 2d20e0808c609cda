"""Tests of the fused LSQ function against the composed straight-through formula."""

import pytest
import torch
from composed_formula import composed, limits
from torch import Tensor

from limpq_hub.quant.fake_quantization import fake_quantize, quantization_range, quantize_to_integers

GRIDS = [(bits, signed) for bits in range(2, 9) for signed in (True, False)]


@pytest.mark.parametrize(("bits", "signed"), GRIDS)
def test_range_is_twos_complement_or_from_zero(bits, signed):
    assert quantization_range(bits, signed=signed) == limits(bits, signed)


@pytest.mark.parametrize(("bits", "signed"), GRIDS)
def test_values_and_gradients_equal_the_composed_formula(bits, signed):
    torch.manual_seed(bits)
    low, high = limits(bits, signed)
    step_value = 0.25  # a power of two, so that the edges and the halves below are exact
    edges = torch.tensor([low, high, low - 1, high + 1, low - 0.5, high + 0.5, 0.5, 1.5, -0.5, 0.0]) * step_value
    values = torch.cat([torch.randn(2000) * 0.7 * high * step_value, edges]).double()
    upstream = torch.randn_like(values)
    gradients = []
    outputs = []
    for function in (
        lambda x, step: fake_quantize(x, step, *limits(bits, signed)),
        lambda x, step: composed(x, step, low, high),
    ):
        x = values.clone().requires_grad_()
        step = torch.tensor(step_value, dtype=torch.float64, requires_grad=True)
        outputs.append(function(x, step))
        gradients.append(torch.autograd.grad(outputs[-1], (x, step), upstream))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-12, atol=1e-12)
    assert gradients[0][1].shape == ()
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(10))
def test_step_gradient_equals_the_composed_formula_at_uneven_steps(seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 50, dtype=torch.float64, generator=generator)
    step = torch.rand((), dtype=torch.float64, generator=generator).add(0.01).requires_grad_()
    (ours,) = torch.autograd.grad(fake_quantize(values, step, -4, 3).square().sum(), step)
    (oracle,) = torch.autograd.grad(composed(values, step, -4, 3).square().sum(), step)
    torch.testing.assert_close(ours, oracle, rtol=1e-10, atol=1e-10)


def test_step_gradient_of_single_values_matches_the_three_cases_of_the_paper():
    cases = [(-5.0, -2.0), (9.0, 1.0), (0.3, 0 - 0.3), (0.7, 1 - 0.7), (-1.6, -2 + 1.6)]
    for scaled, expected in cases:  # below the grid: Qn; above: Qp; inside: round(x/s) - x/s
        step = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        value = torch.tensor([scaled * 0.5], dtype=torch.float64)
        fake_quantize(value, step, -2, 1).sum().backward()
        assert step.grad.item() == pytest.approx(expected, abs=1e-12)


def test_values_on_the_edges_of_the_grid_count_as_inside_and_values_beyond_as_outside():
    x = torch.tensor([-1.0, 0.5, -1.001, 0.501], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    quantized = fake_quantize(x, step, -2, 1)
    quantized.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [1, 1, 0, 0]
    step.grad = None
    quantized.backward(torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    assert step.grad.item() == 100 * -2 + 1000 * 1


def test_halves_round_to_even():
    halves = torch.tensor([0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5])
    for x in (halves, halves.clone().requires_grad_()):
        assert fake_quantize(x, torch.tensor(1.0), -8, 7).tolist() == [0, 2, 2, 4, 0, -2, -2]


@pytest.mark.parametrize(("bits", "signed"), GRIDS)
def test_result_without_gradients_is_bit_equal_to_the_one_with_gradients(bits, signed):
    torch.manual_seed(bits)
    x = torch.randn(500)
    with_gradients = fake_quantize(x, torch.tensor(0.037, requires_grad=True), *limits(bits, signed))
    with torch.no_grad():
        without = fake_quantize(x, torch.tensor(0.037, requires_grad=True), *limits(bits, signed))
    assert with_gradients.requires_grad
    assert not without.requires_grad
    assert torch.equal(with_gradients, without)


@pytest.mark.parametrize("gradients", [True, False])
def test_input_is_left_as_it_was(gradients):
    x = torch.linspace(-2, 2, 9, requires_grad=gradients)
    before = x.detach().clone()
    fake_quantize(x, torch.tensor(0.3), -4, 3).sum()
    assert torch.equal(x, before)


def test_integers_times_the_step_are_the_fake_quantized_values():
    torch.manual_seed(0)
    x, step = torch.randn(500), torch.tensor(0.11)
    integers = quantize_to_integers(x, step, -4, 3)
    assert integers.unique().tolist() == list(range(-4, 4))
    assert torch.equal(integers * step, fake_quantize(x, step, -4, 3))


def test_gradient_scale_multiplies_the_step_gradient_only():
    torch.manual_seed(0)
    values = torch.randn(100)
    gradients = []
    for scale in (1.0, 0.125):
        x, step = values.clone().requires_grad_(), torch.tensor(0.3, requires_grad=True)
        fake_quantize(x, step, -4, 3, gradient_scale=scale).sum().backward()
        gradients.append((x.grad, step.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1] * 0.125, gradients[1][1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gradients", [True, False])
def test_half_precision_input_is_quantized_in_float32(dtype, gradients):
    torch.manual_seed(0)
    x = torch.randn(300).to(dtype).requires_grad_(gradients)
    quantized = fake_quantize(x, torch.tensor(0.013), -128, 127)
    assert quantized.dtype == dtype
    exact = composed(x.float(), torch.tensor(0.013), -128, 127)
    torch.testing.assert_close(quantized, exact.to(dtype), rtol=0, atol=0)
    if gradients:
        quantized.sum().backward()
        assert x.grad.dtype == dtype


def gradients_of(function, x: Tensor, step: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    x, step = x.detach().requires_grad_(), step.detach().requires_grad_()
    return torch.autograd.grad(function(x, step), (x, step), upstream)


def beyond(edge: float, outward: float, dtype: torch.dtype) -> Tensor:
    """The number of `dtype` next to the edge; next to zero the smallest normal one, as denormals may be flushed."""
    if edge == 0:
        return torch.tensor(-torch.finfo(dtype).tiny, dtype=dtype)
    return torch.nextafter(torch.tensor(edge, dtype=dtype), torch.tensor(outward, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("bits", "signed"), GRIDS)
def test_an_edge_counts_as_inside_and_the_number_next_to_it_as_outside(bits, signed, dtype):
    low, high = limits(bits, signed)
    step = torch.tensor(0.25)  # a power of two: the quotients are exact
    lower, upper = low * 0.25, high * 0.25
    x = torch.stack(
        [
            torch.tensor(lower, dtype=dtype),
            torch.tensor(upper, dtype=dtype),
            beyond(lower, -torch.inf, dtype),
            beyond(upper, torch.inf, dtype),
        ]
    )
    upstream = torch.tensor([1, 2, 4, 8], dtype=dtype)
    x_gradient, step_gradient = gradients_of(lambda x, s: fake_quantize(x, s, *limits(bits, signed)), x, step, upstream)
    assert x_gradient.tolist() == [1, 2, 0, 0]
    # On an edge nothing is rounded; beyond it the gradient is the lowest or highest integer.
    assert step_gradient.item() == 4 * low + 8 * high


@pytest.mark.parametrize("signed", [True, False])
def test_both_zeros_count_as_inside_and_nothing_is_rounded(signed):
    x, step = torch.tensor([-0.0, 0.0]), torch.tensor(0.3)
    x_gradient, step_gradient = gradients_of(lambda x, s: fake_quantize(x, s, *limits(4, signed)), x, step, x + 1)
    assert x_gradient.tolist() == [1, 1]
    assert step_gradient.item() == 0
    assert fake_quantize(x.requires_grad_(), step, *limits(4, signed)).tolist() == [0, 0]


@pytest.mark.parametrize(("bits", "signed"), GRIDS)
def test_values_with_negative_zeros_have_the_gradients_of_the_composed_formula(bits, signed):
    torch.manual_seed(bits)
    low, high = limits(bits, signed)
    x = torch.randn(400, dtype=torch.float64) * high * 0.1
    x[::3] = -0.0
    step, upstream = torch.tensor(0.13, dtype=torch.float64), torch.randn(400, dtype=torch.float64)
    ours = gradients_of(lambda x, s: fake_quantize(x, s, *limits(bits, signed)), x, step, upstream)
    oracle = gradients_of(lambda x, s: composed(x, s, low, high), x, step, upstream)
    torch.testing.assert_close(ours, oracle, rtol=1e-10, atol=1e-12)


def contiguous(x: Tensor) -> Tensor:
    return x


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def every_second_column(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1)[..., ::2]


@pytest.mark.parametrize("of_gradient", [contiguous, channels_last, every_second_column])
@pytest.mark.parametrize("of_input", [contiguous, channels_last, every_second_column])
def test_gradients_do_not_depend_on_how_input_and_gradient_lie_in_memory(of_input, of_gradient):
    torch.manual_seed(0)
    values, upstream = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    step = torch.tensor(0.31, dtype=torch.float64)
    x = of_input(values)
    ours = gradients_of(lambda x, s: fake_quantize(x, s, -4, 3), x, step, of_gradient(upstream))
    oracle = gradients_of(lambda x, s: composed(x, s, -4, 3), values, step, upstream)
    torch.testing.assert_close(ours, oracle, rtol=1e-10, atol=1e-12)
    assert torch.equal(fake_quantize(x.requires_grad_(), step, -4, 3), composed(values, step, -4, 3))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("wanted", ["x", "step"])
def test_only_the_wanted_gradient_is_given_and_it_is_the_same(wanted, bits):
    torch.manual_seed(0)
    low, high = limits(bits, True)
    values = {"x": torch.randn(300).double() * high * 0.1, "step": torch.tensor(0.11).double()}
    upstream = torch.randn(300).double()
    both = dict(
        zip(values, gradients_of(lambda x, s: composed(x, s, low, high), **values, upstream=upstream), strict=True)
    )
    leaves = {name: value.clone().requires_grad_(name == wanted) for name, value in values.items()}
    fake_quantize(leaves["x"], leaves["step"], *limits(bits, True)).backward(upstream)
    torch.testing.assert_close(leaves.pop(wanted).grad, both[wanted], rtol=1e-10, atol=1e-12)
    (other,) = leaves.values()
    assert other.grad is None


# Offset grids, and a step per channel

OFFSET_GRIDS = [(-1, 2), (-3, 12), (-1, 14), (-17, 238), (-100, 155)]


@pytest.mark.parametrize(("low", "high"), OFFSET_GRIDS)
def test_values_and_gradients_on_an_offset_grid_equal_the_composed_formula(low, high):
    torch.manual_seed(high)
    values = torch.randn(2000, dtype=torch.float64) * 0.07 * (high - low)
    values[:4] = torch.tensor([low, high, low - 1, high + 1]) * 0.125
    step, upstream = torch.tensor(0.125, dtype=torch.float64), torch.randn_like(values)
    assert torch.equal(fake_quantize(values, step, low, high), composed(values, step, low, high))
    ours = gradients_of(lambda x, s: fake_quantize(x, s, low, high), values, step, upstream)
    oracle = gradients_of(lambda x, s: composed(x, s, low, high), values, step, upstream)
    torch.testing.assert_close(ours, oracle, rtol=1e-10, atol=1e-10)
    assert fake_quantize(torch.zeros(1), step.float(), low, high).tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("shape", "channel_dim"), [((5, 4), 0), ((5, 4, 3, 2), 0), ((4, 5, 3, 3), 1), ((4, 3, 5), 2)])
def test_each_channel_is_quantized_and_differentiated_with_its_own_step_alone(shape, channel_dim, dtype):
    torch.manual_seed(0)
    x, upstream = torch.randn(2, *shape, dtype=torch.float64).to(dtype)
    steps = torch.tensor([0.1, 0.03, 0.5, 0.21, 7.0], dtype=torch.float64 if dtype == torch.float64 else torch.float32)

    def function(x, steps):
        return fake_quantize(x, steps, -4, 3, gradient_scale=0.25, channel_dim=channel_dim)

    x_gradient, step_gradients = gradients_of(function, x, steps, upstream)
    assert step_gradients.shape == (5,)
    for channel, step in enumerate(steps):
        alone, along = (tensor.select(channel_dim, channel) for tensor in (x, upstream))
        expected = gradients_of(lambda x, s: fake_quantize(x, s, -4, 3, gradient_scale=0.25), alone, step, along)
        torch.testing.assert_close(x_gradient.select(channel_dim, channel), expected[0], rtol=0, atol=0)
        torch.testing.assert_close(step_gradients[channel], expected[1])
        values = function(x, steps).select(channel_dim, channel)
        assert torch.equal(values, fake_quantize(alone, step, -4, 3))
        integers = quantize_to_integers(x, steps, -4, 3, channel_dim=channel_dim).select(channel_dim, channel)
        assert torch.equal((integers * step).to(dtype), values)


def far_from_boundaries(count: int, step: float, low: int, high: int, dtype: torch.dtype) -> Tensor:
    """Values of which float32 and float64 agree how they round, and whether they are inside."""
    x = (torch.randn(count) * 0.5 * high * step).to(dtype)
    x = x if low else x.abs()
    scaled = x.double() / step
    ambiguous = (scaled - scaled.floor() - 0.5).abs() < 1e-3
    for edge in (low, high):
        ambiguous |= (scaled - edge).abs() < 1e-3
    return x[~ambiguous]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [True, False])
def test_step_gradient_of_a_million_float32_values_is_as_exact_as_in_float64(bits, signed):
    torch.manual_seed(bits)
    low, high = limits(bits, signed)
    step = torch.tensor(0.0371)
    x = far_from_boundaries(1_000_000, step.item(), low, high, torch.float32)
    upstream = torch.rand(len(x))
    ours = gradients_of(lambda x, s: fake_quantize(x, s, *limits(bits, signed)), x, step, upstream)
    oracle = gradients_of(lambda x, s: composed(x, s, low, high), x.double(), step.double(), upstream.double())
    assert len(x) > 950_000
    assert torch.equal(ours[0].double(), oracle[0])
    assert ours[1].item() == pytest.approx(oracle[1].item(), rel=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_step_gradient_of_bfloat16_values_is_that_of_the_same_values_in_float64(bits):
    torch.manual_seed(0)
    low, high = limits(bits, True)
    step = torch.tensor(0.0371)
    x = far_from_boundaries(20_000, step.item(), low, high, torch.bfloat16)
    upstream = torch.ones_like(x)
    inside = (x.double() / step.item()).abs() < high
    upstream[~inside] = 0
    ours = gradients_of(lambda x, s: fake_quantize(x, s, *limits(bits, True)), x, step, upstream)
    oracle = gradients_of(lambda x, s: composed(x, s, low, high), x.double(), step.double(), upstream.double())
    assert torch.equal(ours[0].double(), oracle[0])
    assert ours[1].item() == pytest.approx(oracle[1].item(), rel=1e-3, abs=1e-3 * inside.sum().item() ** 0.5)
