"""The budget that a next command carries is one of bits that were learned, and has an effect where any has."""

import pytest

from limpq_hub.plan.first_budget import first_budget


@pytest.mark.parametrize(
    ("candidates", "budget"),
    [
        ((6, 5, 4, 3, 2), "w4a4"),
        ((8, 6, 5, 4, 3), "w4a4"),
        ((8, 6, 5), "w6a6"),
        ((4, 3, 2), "w3a3"),
        ((8, 2), "w2a2"),
        ((8,), "w8a8"),
    ],
)
def test_it_is_that_of_4_bits_or_of_others_below_the_most(candidates, budget):
    assert first_budget(candidates) == first_budget(reversed(candidates)) == budget
