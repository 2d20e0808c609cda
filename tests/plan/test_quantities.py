"""Figures with units: what a limit that is written suffices for, and what people read."""

from __future__ import annotations

import pytest

from limpq_hub.plan.quantities import enough_bitops, enough_size, format_bitops, format_size


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
