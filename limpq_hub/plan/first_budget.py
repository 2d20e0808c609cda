"""The budget to begin with, for a command that is advised."""

from __future__ import annotations

from typing import Any

from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.quantities import BITOPS_UNITS, enough_bitops, exact_number

_USUAL_BITS = 4


def first_budget(indicators: Indicators, **choices: Any) -> str:
    """Return BitOps that some policy meets and that a search has to trade for, where there are any.

    They are those of uniform 4 bits, or of others that may be used; where no such policy lies between the fewest and
    the most BitOps, for instance because outliers are left out, those in the middle between both.

    Args:
        choices: `candidates`, `pin`, `exclude`, `tie`, `counting`, `importance` and `apart` of the search, as `search`
            takes them.

    Raises:
        PolicyError: a pattern matches nothing, or bits that were not learned are asked for.
    """
    # Here, because few of the commands that import this search.
    from limpq_hub.plan.budget import Budget
    from limpq_hub.plan.constraints.bitops import ANY_BITOPS, BitOps
    from limpq_hub.plan.search_problem import SearchProblem

    problem = SearchProblem.of(indicators, Budget(bitops=ANY_BITOPS), **choices)
    (bitops,) = problem.programme.constraints
    pairs = {bits for group in problem.groups if len(group.options) > 1 for bits in group.options}
    widths = sorted({width for bits in pairs for width in (bits.weight, bits.activation)})
    below = widths[:-1] or widths
    middle = len(below) // 2
    for width in sorted(below, key=lambda width: (width != _USUAL_BITS, abs(below.index(width) - middle))):
        uniform = BitOps().constraint(LayerBits(width, width), indicators, problem.groups, problem.counting)
        if bitops.least <= uniform.limit < bitops.most:
            return f"w{width}a{width}"
    between = enough_bitops((bitops.least + bitops.most) // 2)
    # Two decimals may be too few to stay below the most.
    return (
        str(bitops.least)
        if bitops.least < bitops.most <= exact_number("bitops", between, BITOPS_UNITS, "")
        else between
    )
