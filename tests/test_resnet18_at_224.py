"""The budget everybody tries first: three billion BitOps for a ResNet-18 at 224 pixels, which cannot be."""

import pytest
import timm
import torch

from limpq_hub import Budget, Indicators, InfeasibleBudgetError
from limpq_hub.plan.optimum import search
from limpq_hub.quant.profile import profile_module


@pytest.fixture(scope="module")
def indicators() -> Indicators:
    """The real costs of timm's resnet18 at 224 pixels, with steps that double with each bit taken away."""
    costs = profile_module(timm.create_model("resnet18"), torch.zeros(1, 3, 224, 224))
    steps = {name: {bits: 2.0**-bits for bits in (6, 5, 4, 3, 2)} for name, cost in costs.items() if cost.fixed is None}
    return Indicators("resnet18", 224, 1000, costs, steps, steps)


def test_three_billion_bitops_are_refused_with_the_figure_that_works(indicators):
    message = (
        r'bitops="3G" cannot be met: resnet18 at 224x224 needs at least 14\.37G \(every searched layer at its fewest '
        r'bits, first and last at 8\) and uses at most 68\.63G; use bitops="14\.37G" or more, or a smaller input'
    )
    with pytest.raises(InfeasibleBudgetError, match=message) as caught:
        search(indicators, Budget(bitops="3G"))
    assert (caught.value.requested, caught.value.minimum) == (3_000_000_000, 14_367_850_496)
    assert search(indicators, Budget(bitops="14.37G")).bitops <= 14_370_000_000


def test_the_minimum_works_and_one_less_does_not(indicators):
    assert search(indicators, Budget(bitops=14_367_850_496)).bitops == 14_367_850_496
    for too_little in (14_367_850_495, "14.36G"):
        with pytest.raises(InfeasibleBudgetError, match="needs at least 14.37G"):
            search(indicators, Budget(bitops=too_little))
