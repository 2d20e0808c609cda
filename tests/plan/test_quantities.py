"""Figures with units: what a limit that is written suffices for, and what people read."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import pytest

from limpq_hub.plan.constraints.bitops import BitOps
from limpq_hub.plan.quantities import decimal_number, enough_bitops, enough_size, format_bitops, format_size


@pytest.mark.parametrize(
    ("bitops", "text"),
    [
        (1, "1"),
        (999, "999"),
        (1000, "1.00K"),
        (14_367_383_552, "14.37G"),
        (14_370_000_000, "14.37G"),
        (999_990, "999.99K"),
        (999_991, "1.00M"),
        (999_999_999_999, "1.00T"),
    ],
)
def test_bitops_are_written_rounded_up_to_two_decimals(bitops, text):
    assert enough_bitops(bitops) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1B"), (999, "999B"), (1001, "1.01kB"), (4_500_000, "4.50MB"), (10**10, "10.00GB"), (999_999, "1.00MB")],
)
def test_sizes_are_written_rounded_up_to_two_decimals(size, text):
    assert enough_size(size) == text


@pytest.mark.parametrize(
    ("bitops", "text"),
    [
        (1, "1"),
        (999, "999"),
        (81_999, "81.999K"),
        (3_000_000_000, "3G"),
        (5_605_949_440, "5.60594944G"),
        (5_605_949_441, "5.605949441G"),
        (1_234_567_890_123, "1234.567890123G"),
    ],
)
def test_requested_bitops_are_told_exactly_in_the_unit_of_what_is_needed(bitops, text):
    assert BitOps().requested_text(Fraction(bitops)) == text
    assert BitOps().parse(text) == bitops


def test_figures_for_people_are_rounded_to_the_nearest():
    assert [format_bitops(value) for value in (2_982_412_288, 616_562_688, 999, 1_500, 999_999)] == [
        "2.98G",
        "616.56M",
        "999",
        "1.50K",
        "1.00M",
    ]
    assert [format_size(value) for value in (3_453_120, 999_994, 999_996)] == ["3.45MB", "999.99kB", "1.00MB"]


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2.0), ("0.25", 0.25), (".5", 0.5), ("-1e-3", -0.001), ("+4.", 4.0), ("1E999", math.inf)]
)
def test_a_number_is_read_from_ascii_digits(text, number):
    assert decimal_number(text) == number


@pytest.mark.parametrize("text", ["", " 2", "2 ", "2\n", "1_0", "１０", "²", "0x1p3", "1,5", "1e", ".", "infinity"])
def test_what_only_python_would_take_for_a_number_is_refused(text):
    with pytest.raises(ValueError, match=r" is no number: write for example 0\.5, 2 or 1e-3$"):
        decimal_number(text)


def test_a_long_number_with_a_stray_letter_is_refused_in_no_time():
    began = time.process_time()
    with pytest.raises(ValueError, match="is no number"):
        decimal_number("1" * 100_000 + "x")
    assert time.process_time() - began < 1
