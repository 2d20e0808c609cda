"""Figures with units: what a limit that is written suffices for, and what people read."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from limpq_hub.plan.quantities import (
    decimal_above,
    enough_bitops,
    enough_size,
    float_above,
    float_below,
    format_bitops,
    format_size,
)


@pytest.mark.parametrize(
    ("bitops", "text"),
    [
        (1, "1"),
        (999, "999"),
        (1000, "1.00K"),
        (14_367_383_552, "14.37G"),
        (14_370_000_000, "14.37G"),
        (999_999, "1000.00K"),
    ],
)
def test_bitops_are_written_rounded_up_to_two_decimals(bitops, text):
    assert enough_bitops(bitops) == text


@pytest.mark.parametrize(
    ("size", "text"), [(1, "1B"), (999, "999B"), (1001, "1.01kB"), (4_500_000, "4.50MB"), (10**10, "10.00GB")]
)
def test_sizes_are_written_rounded_up_to_two_decimals(size, text):
    assert enough_size(size) == text


def test_figures_for_people_are_rounded_to_the_nearest():
    assert [format_bitops(value) for value in (2_982_412_288, 616_562_688, 999, 1_500)] == [
        "2.98G",
        "616.56M",
        "999",
        "1.50K",
    ]
    assert format_size(3_453_120) == "3.45MB"


@pytest.mark.parametrize(
    ("exact", "text"),
    [(Fraction(0), "0"), (Fraction(1, 3), "0.3334"), (Fraction(5, 2), "2.5"), (Fraction(123_456_789, 10), "12345679")],
)
def test_a_decimal_is_rounded_up_after_four_digits_and_keeps_every_whole_digit(exact, text):
    assert decimal_above(exact) == text


def test_a_decimal_above_is_at_most_a_thousandth_more():
    rng = random.Random(0)
    for _ in range(1000):
        exact = Fraction(rng.randint(1, 10**12), rng.randint(1, 10**12))
        assert exact <= Fraction(decimal_above(exact)) <= exact * Fraction(1001, 1000)


def test_the_nearest_floats_on_both_sides_are_found():
    for exact in (Fraction(1, 3), Fraction(1, 10), Fraction(2**60 + 1), Fraction(10**17 + 3, 7)):
        below, above = float_below(exact), float_above(exact)
        assert Fraction(below) < exact < Fraction(above)
        assert math.nextafter(below, math.inf) == above
    assert float_below(Fraction(5, 2)) == float_above(Fraction(5, 2)) == 2.5
