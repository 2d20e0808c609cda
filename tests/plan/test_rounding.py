"""Exact fractions as text and floats: never on the wrong side, and as near as can be."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from limpq_hub.plan.rounding import decimal_above, float_above, float_below


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
    for exact in (Fraction(1, 3), Fraction(2, 7), Fraction(2**60 + 1), Fraction(10**17 + 3, 7)):
        below, above = float_below(exact), float_above(exact)
        assert Fraction(repr(below)) < exact < Fraction(repr(above))
        assert math.nextafter(below, math.inf) == above
    assert float_below(Fraction(5, 2)) == float_above(Fraction(5, 2)) == 2.5
    assert float_below(Fraction(1, 10)) == float_above(Fraction(1, 10)) == 0.1


def test_a_float_is_on_its_side_as_it_is_written_too():
    rng = random.Random(0)
    on_the_wrong_side = 0
    for _ in range(2000):
        exact = Fraction(rng.randint(1, 10**9), rng.randint(1, 10**9))
        below, above = float_below(exact), float_above(exact)
        assert Fraction(repr(below)) <= exact <= Fraction(repr(above))
        assert Fraction(repr(math.nextafter(below, math.inf))) > exact
        assert Fraction(repr(math.nextafter(above, -math.inf))) < exact
        on_the_wrong_side += Fraction(below) > exact or Fraction(above) < exact
    assert on_the_wrong_side  # the bits of some floats stand for a number that is not on that side
