"""Interval arithmetic: the bounds of the result of an operation from the bounds of its operands."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Between which values a tensor lies, whatever the pictures: `low <= x <= high`; infinite where nothing is known.

    They are the bounds of exact arithmetic, and of numbers: rounding may pass them by the last digits of the tensor's
    type, but never passes zero; NaN has no bounds.
    """

    low: float = -math.inf
    high: float = math.inf


def bounds_of(value: Bounds | float) -> Bounds:
    """Return the bounds of `value`: of a number, the number itself; of NaN, none."""
    if isinstance(value, Bounds):
        return value
    return Bounds() if math.isnan(value) else Bounds(float(value), float(value))


def hull(*values: Bounds | float) -> Bounds:
    """Return the narrowest bounds around all of `values`."""
    bounds = [bounds_of(value) for value in values]
    return Bounds(min(each.low for each in bounds), max(each.high for each in bounds))


def maximum(x: Bounds | float, y: Bounds | float) -> Bounds:
    """Return the bounds of the larger of `x` and `y`, element by element."""
    x, y = bounds_of(x), bounds_of(y)
    return Bounds(max(x.low, y.low), max(x.high, y.high))


def minimum(x: Bounds | float, y: Bounds | float) -> Bounds:
    """Return the bounds of the smaller of `x` and `y`, element by element."""
    x, y = bounds_of(x), bounds_of(y)
    return Bounds(min(x.low, y.low), min(x.high, y.high))


def add(x: Bounds | float, y: Bounds | float) -> Bounds:
    """Return the bounds of `x + y`."""
    x, y = bounds_of(x), bounds_of(y)
    low, high = x.low + y.low, x.high + y.high
    return Bounds() if math.isnan(low) or math.isnan(high) else Bounds(low, high)  # inf - inf is NaN


def multiply(x: Bounds | float, y: Bounds | float) -> Bounds:
    """Return the bounds of `x * y`."""
    x, y = bounds_of(x), bounds_of(y)
    # An infinite end stands for numbers of any size, and 0 times each of them is 0 (0 * inf would be NaN).
    products = [a * b if a and b else 0.0 for a in (x.low, x.high) for b in (y.low, y.high)]
    return Bounds(min(products), max(products))


def divide(x: Bounds | float, y: Bounds | float) -> Bounds:
    """Return the bounds of `x / y`: none unless `y` keeps away from zero, where -0.0 would give the other infinity."""
    y = bounds_of(y)
    if y.low <= 0 <= y.high:
        return Bounds()
    return multiply(x, Bounds(1 / y.high, 1 / y.low))


def absolute(x: Bounds) -> Bounds:
    """Return the bounds of the magnitude of `x`."""
    return Bounds(max(x.low, -x.high, 0.0), max(-x.low, x.high))


def power(x: Bounds | float, exponent: Bounds | float) -> Bounds:
    """Return the bounds of `x ** exponent`: known for exponents > 0, where a power is never negative."""
    if isinstance(x, Bounds) and not isinstance(exponent, Bounds):
        if exponent == 2:
            magnitude = absolute(x)
            return multiply(magnitude, magnitude)
        # A negative number to a power that is not whole is NaN.
        if exponent > 0 and (x.low >= 0 or exponent % 2 != 1):
            return Bounds(0.0)
    return Bounds()
