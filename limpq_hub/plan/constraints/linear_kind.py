"""What all constraints share that add up over layers: each becomes a constraint of the integer programme."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Sequence

from limpq_hub.plan.constraint_kind import ConstraintKind, Limit
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.layer_groups import LayerGroup
from limpq_hub.plan.linear_constraint import Coefficients, LinearConstraint


class LinearKind(ConstraintKind[Limit]):
    """A kind whose amount is a sum over the layers of what each takes at its bits."""

    @abstractmethod
    def constraint(
        self, limit: Limit, indicators: Indicators, groups: Sequence[LayerGroup], counting: Counting
    ) -> LinearConstraint:
        """Return the limit on the sum of what the options of `groups` take, in exact integers.

        Raises:
            BudgetError: the limit does not fit the network: a table lacks a layer's bits, or names another layer.
        """


def coefficients_of(
    groups: Sequence[LayerGroup], count_of: Callable[[str], int], factor_of: Callable[[LayerBits], int]
) -> Coefficients:
    """Return, for each group, what its layers count together times the factor of each of its options.

    Args:
        count_of: what a layer counts, by its name.
        factor_of: what one count takes at some bits.
    """
    coefficients: list[tuple[int, ...]] = []
    # Most groups have the same options: their factors are worked out once.
    for options, alike in itertools.groupby(groups, lambda group: group.options):
        factors = [factor_of(bits) for bits in options]
        for group in alike:
            count = sum(map(count_of, group.layers))
            coefficients.append(tuple([count * factor for factor in factors]))
    return tuple(coefficients)
