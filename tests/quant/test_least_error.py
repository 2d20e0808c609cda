"""Tests of the grids of least squared error against every grid of a fine search."""

import pytest
import torch
from torch import Tensor

from limpq_hub.quant.least_error import SortedValues, least_error_grids

SMALLEST = 1e-5


def squared_error(x: Tensor, step: float, low: int, high: int) -> float:
    return float((torch.round(torch.clamp(x.double() / step, low, high)) * step - x.double()).square().sum())


def brute_force(x: Tensor, bits: int, zero_points: list[int]) -> float:
    """The smallest error over 1,000 steps and every zero point."""
    widest = float(x.abs().max()) / (2 ** (bits - 1) - 1)
    return min(
        squared_error(x, widest * k / 1000, -zero_point, 2**bits - 1 - zero_point)
        for zero_point in zero_points
        for k in range(1, 1001)
    )


def drawn(kind: str, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    normal = torch.randn(count, generator=generator)
    return {
        "normal": normal,
        "heavy tails": normal**3,
        "after ReLU": normal.relu(),
        "after SiLU": torch.nn.functional.silu(2 * normal),
        "all below zero": -normal.abs() - 0.1,
    }[kind]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("zero_points", [[0], [2], [0, 1, 2]])
@pytest.mark.parametrize("count", [50, 4000])
def test_error_of_a_grid_is_that_of_rounding_each_value(count, bits, zero_points):
    rows = torch.stack([drawn("normal", count), drawn("after SiLU", count), torch.arange(count) % 99 * 0.25 - 3])
    steps = torch.tensor([0.3, 0.011, 0.5], dtype=torch.float64)  # the last row lies on integers and midway between
    other = steps.flip(0)
    errors = SortedValues.of(rows).squared_errors(torch.stack([steps, other], 1), bits, zero_points)
    expected = [
        [
            [squared_error(row, float(step), -zero_point, 2**bits - 1 - zero_point) for zero_point in zero_points]
            for step in both
        ]
        for row, both in zip(rows, zip(steps, other, strict=True), strict=True)
    ]
    torch.testing.assert_close(errors, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "after ReLU", "after SiLU", "all below zero"])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("grid", ["unsigned", "signed", "offset"])
def test_best_grid_is_as_good_as_the_best_of_a_fine_search(kind, bits, grid):
    x = drawn(kind, 200)
    half = 2 ** (bits - 1)
    zero_points = {"unsigned": [0], "signed": [half], "offset": list(range(half + 1))}[grid]
    best = least_error_grids(SortedValues.of(x[None]), bits, zero_points, smallest=SMALLEST)
    step, zero_point = float(best.steps), int(best.zero_points)
    assert zero_point in zero_points
    error = squared_error(x, step, -zero_point, 2**bits - 1 - zero_point)
    assert float(best.errors) == pytest.approx(error, rel=1e-6, abs=1e-12)
    assert error <= 1.02 * brute_force(x, bits, zero_points)


def test_values_bounded_below_get_a_grid_that_is_neither_signed_nor_unsigned():
    x = drawn("after SiLU", 5000)
    best = least_error_grids(SortedValues.of(x[None]), 8, range(129), smallest=SMALLEST)
    signed = least_error_grids(SortedValues.of(x[None]), 8, [128], smallest=SMALLEST)
    assert -float(best.steps) * int(best.zero_points) == pytest.approx(x.min().item(), abs=float(best.steps))
    assert float(best.errors) < 0.4 * float(signed.errors)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rows_are_searched_apart(bits):
    rows = torch.stack([drawn(kind, 100) for kind in ("normal", "heavy tails", "after SiLU")]) * torch.tensor(
        [[1.0], [100.0], [0.01]]
    )
    together = least_error_grids(SortedValues.of(rows), bits, range(3), smallest=SMALLEST)
    for index, row in enumerate(rows):
        alone = least_error_grids(SortedValues.of(row[None]), bits, range(3), smallest=SMALLEST)
        assert float(together.steps[index]) == pytest.approx(float(alone.steps))
        assert int(together.zero_points[index]) == int(alone.zero_points)


@pytest.mark.parametrize("value", [0.0, 1e-7, -3.0, 2.0])
def test_equal_values_are_hit_exactly_unless_the_smallest_step_is_too_large(value):
    rows = torch.full((1, 4), value)
    best = least_error_grids(SortedValues.of(rows), 3, [4], smallest=SMALLEST)
    assert float(best.steps) >= SMALLEST
    assert float(best.errors) <= (4.001 * value**2 if abs(value) < SMALLEST else 1e-9)


def test_steps_that_are_to_be_tried_are_never_better_than_the_result():
    x = drawn("heavy tails", 300)
    values = SortedValues.of(x[None])
    plain = least_error_grids(values, 4, [8], smallest=SMALLEST)
    tried = [torch.tensor([step]) for step in (0.01, 0.1, 1.0, float(plain.steps) * 1.001)]
    best = least_error_grids(values, 4, [8], smallest=SMALLEST, tried=tried)
    assert float(best.errors) <= min(squared_error(x, float(step), -8, 7) for step in tried) * (1 + 1e-6)
