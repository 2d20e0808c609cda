"""The integer programme scaled to whole numbers that float64 adds up exactly, so that numpy can search it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from limpq_hub.plan.linear_constraint import LinearConstraint

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

# Both are below 2^53, up to which whole numbers are exact in a float64.
_LARGEST_COST_SUM = 2.0**50
_LARGEST_COEFFICIENT_SUM = 2**52
# Costs are told apart well enough where they are rounded to this share of the most that a better choice may cost.
_FINE_ENOUGH = 2.0**-36


@dataclass(frozen=True)
class ScaledProgramme:
    """Cost and coefficients of each option of each group: whole numbers whose sums are exact.

    Attributes:
        costs: [groups, options], at least 0; infinite where a group has no such option or cannot afford it.
        coefficients: [constraints, groups, options], at least 0.
        limits: [constraints], the most that the coefficients of the options taken may add up to.
        offsets: [constraints], what was taken out of each limit: the least coefficients of all groups.
        divisors: [constraints], what the rest of each limit was divided by.
        least_cost: what was taken out of the costs: the least of all groups, added up.
        exponent: the rest of each cost was multiplied by 2 to this power.
    """

    costs: Floats
    coefficients: Floats
    limits: Floats
    offsets: tuple[int, ...]
    divisors: tuple[int, ...]
    least_cost: float
    exponent: int

    @classmethod
    def of(cls, costs: Sequence[Sequence[float]], constraints: Sequence[LinearConstraint]) -> ScaledProgramme | None:
        """Return the scaled programme, or None if its numbers are too large to add up exactly.

        The least cost and the least coefficient of each group are taken out, the coefficients of each constraint
        divided by their greatest common divisor, and costs rounded to 2^-50 of the largest sum that they can have.

        Args:
            costs: [groups, options], rows of different lengths where groups have different numbers of options; infinite
                for an option that takes no part.
            constraints: each with a limit that the least coefficients meet.
        """
        if any(constraint.most > _LARGEST_COEFFICIENT_SUM for constraint in constraints):
            return None
        scaled_costs = _padded(costs)
        least_costs = scaled_costs.min(1, keepdims=True)
        scaled_costs -= least_costs
        exists = np.isfinite(scaled_costs)
        largest_sum = np.where(exists, scaled_costs, 0.0).max(1).sum()
        # A power of two changes no digit, so that costs which are whole numbers stay exact.
        exponent = math.frexp(_LARGEST_COST_SUM)[1] - math.frexp(largest_sum)[1] - 1 if largest_sum else 0
        scaled_costs[exists] = np.rint(np.ldexp(scaled_costs[exists], exponent))
        coefficients, limits = np.zeros((len(constraints), *scaled_costs.shape)), np.zeros(len(constraints))
        offsets: list[int] = []
        divisors: list[int] = []
        for index, constraint in enumerate(constraints):
            padded = _padded(constraint.coefficients)
            least = padded.min(1, keepdims=True)
            coefficients[index] = np.where(exists, padded - least, 0.0)
            offsets.append(int(least.sum()))
            divisors.append(int(np.gcd.reduce(coefficients[index].astype(np.int64), axis=None)) or 1)
            coefficients[index] /= divisors[-1]
            limits[index] = (min(constraint.limit, _LARGEST_COEFFICIENT_SUM) - offsets[-1]) // divisors[-1]
        scaled_costs[(coefficients > limits[:, None, None]).any(0)] = np.inf
        least_cost = math.fsum(least_costs.ravel().tolist())
        return cls(scaled_costs, coefficients, limits, tuple(offsets), tuple(divisors), least_cost, exponent)

    @property
    def cost_unit(self) -> float:
        """What the cost of every choice is a whole multiple of."""
        whole = self.costs[np.isfinite(self.costs)].astype(np.int64)
        return float(np.gcd.reduce(whole)) or 1.0

    def priced_costs(self, prices: Sequence[float] | Floats) -> Floats:
        """Return costs plus what the coefficients of each option cost at `prices`, [groups, options].

        Args:
            prices: [constraints].
        """
        priced_costs = self.costs
        for price, coefficients in zip(prices, self.coefficients, strict=True):
            if price:
                priced_costs = priced_costs + price * coefficients
        return priced_costs

    def cost_of(self, choice: Integers) -> float:
        """Return the scaled cost of a choice, [groups]: a whole number."""
        return float(self.costs[np.arange(len(choice)), choice].sum())

    def meets_limits(self, choice: Integers) -> bool:
        """Return whether a choice, [groups], is within every limit."""
        taken = self.coefficients[:, np.arange(len(choice)), choice].sum(1)
        return bool((taken <= self.limits).all())

    def hopeful(self, choice: Integers) -> Booleans | None:
        """Return which options a choice better than a given one, [groups], may take, where the others hide it.

        An option that alone costs more above the least of its group than the whole choice does is in no better one.
        Where such options are so dear that all others are rounded coarsely beside them, the choice may be wrong.

        Returns:
            [groups, options], or None if the costs of those that a better choice may take are fine enough.
        """
        # Each cost was rounded by at most one half.
        hopeful = self.costs <= self.cost_of(choice) + len(self.costs)
        largest_sum = np.where(hopeful, self.costs, 0.0).max(1).sum()
        return hopeful if largest_sum * _FINE_ENOUGH < 1 else None

    def unscaled_bound(self, bound: float) -> float:
        """Return what no choice costs less than, unscaled, if none costs less than `bound` here.

        Each cost was rounded by at most one half, so that much is taken off for each group.
        """
        return self.least_cost + math.ldexp(bound - len(self.costs) / 2, -self.exponent)

    def scaled_limit(self, constraint: int, limit: int) -> int:
        """Return the limit of one constraint, by its number, as this programme counts it."""
        return (limit - self.offsets[constraint]) // self.divisors[constraint]

    def with_limit(self, constraint: int, limit: int) -> ScaledProgramme:
        """Return the same programme with a smaller limit of one constraint, given unscaled."""
        limits = self.limits.copy()
        limits[constraint] = self.scaled_limit(constraint, limit)
        return replace(self, limits=limits)


def _padded(ragged: Sequence[Sequence[float]]) -> Floats:
    """Return what each group has for its options as [groups, options]; infinite where a group has fewer options."""
    return np.array(list(itertools.zip_longest(*ragged, fillvalue=np.inf)), np.float64).T.copy()
