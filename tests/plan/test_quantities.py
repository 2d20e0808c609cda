"""Figures with units: what a limit that is written suffices for, and what people read."""

from __future__ import annotations

from fractions import Fraction

import pytest

from limpq_hub.plan.constraints.bitops import BitOps
from limpq_hub.plan.quantities import enough_bitops, enough_size, format_bitops, format_size


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
