"""The integer programme in numbers that numpy adds up exactly: costs and rows as whole float64."""

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

# The sum of the largest costs: whole numbers up to 2^53 are exact in a float64.
_COST_SUM = 2.0**50
_LARGEST_SUM = 2**52


@dataclass(frozen=True)
class ScaledProgramme:
    """Cost and row coefficients of each option of each unit: whole numbers whose sums are exact.

    Attributes:
        costs: [units, options], at least 0; infinite where a unit has no such option or cannot afford it.
        rows: [rows, units, options], at least 0.
        limits: [rows], the most that the chosen coefficients of each row may add up to, at least 0.
        offsets, divisors: of each row, what was taken out of its limit, and what was divided by.
    """

    costs: Floats
    rows: Floats
    limits: Floats
    offsets: tuple[int, ...]
    divisors: tuple[int, ...]

    @classmethod
    def of(cls, costs: Sequence[Sequence[float]], rows: Sequence[LinearConstraint]) -> ScaledProgramme | None:
        """Return the tables of a programme, or None if its numbers are too large to add up exactly.

        The least cost and the least coefficient of each unit are taken out, rows are divided by what all their
        coefficients have in common, and costs are rounded to 2^-50 of the largest sum that they can have.

        Args:
            costs: for each unit, the cost of each option.
            rows: each with a limit that the least coefficients meet.
        """
        if any(row.most > _LARGEST_SUM for row in rows):
            return None
        slopes = _padded(costs, np.inf)
        slopes -= slopes.min(1, keepdims=True)
        there = np.isfinite(slopes)
        steepest = np.where(there, slopes, 0.0).max(1).sum()
        # By a power of two: whole numbers stay what they are.
        exponent = math.frexp(_COST_SUM)[1] - math.frexp(steepest)[1] - 1 if steepest else 0
        slopes[there] = np.rint(np.ldexp(slopes[there], exponent))
        coefficients, limits, offsets, divisors = np.zeros((len(rows), *slopes.shape)), np.zeros(len(rows)), [], []
        for index, row in enumerate(rows):
            whole = _padded(row.coefficients, np.inf)
            least = whole.min(1, keepdims=True)
            coefficients[index] = np.where(there, whole - least, 0.0)
            offsets.append(int(least.sum()))
            divisors.append(int(np.gcd.reduce(coefficients[index].astype(np.int64), axis=None)) or 1)
            coefficients[index] /= divisors[-1]
            limits[index] = (min(row.limit, _LARGEST_SUM) - offsets[-1]) // divisors[-1]
        slopes[(coefficients > limits[:, None, None]).any(0)] = np.inf
        return cls(slopes, coefficients, limits, tuple(offsets), tuple(divisors))

    def limit(self, row: int, value: int) -> int:
        """Return what the limit `value` of a row is in these tables."""
        return (value - self.offsets[row]) // self.divisors[row]

    def within(self, row: int, value: int) -> ScaledProgramme:
        """Return the same tables with the smaller limit `value` of one row."""
        limits = self.limits.copy()
        limits[row] = self.limit(row, value)
        return replace(self, limits=limits)


def _padded(of_units: Sequence[Sequence[float]], missing: float) -> Floats:
    """Return one line per unit, [units, options], with `missing` behind the options of those that have fewer."""
    return np.array(list(itertools.zip_longest(*of_units, fillvalue=missing)), np.float64).T.copy()
