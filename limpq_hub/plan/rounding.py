"""Exact fractions as decimal text and as floats, rounded to the side where a limit still holds."""

from __future__ import annotations

import math
import sys
from fractions import Fraction


def decimal_above(exact: Fraction, digits: int = 4) -> str:
    """Return `exact`, of at least 0, rounded up to at least `digits` significant digits, as plain decimal text."""
    places = max(0, digits - math.floor(log10(exact)) - 1) if exact else 0
    scaled = str(math.ceil(exact * 10**places)).rjust(places + 1, "0")
    return f"{scaled[:-places]}.{scaled[-places:]}".rstrip("0").rstrip(".") if places else scaled


def log10(exact: Fraction) -> float:
    """Return the decimal logarithm of a number above 0 that may be larger or smaller than any float."""
    return math.log10(exact.numerator) - math.log10(exact.denominator)


def nearest_float(exact: Fraction) -> float:
    """Return the float nearest to `exact`; infinity above all of them."""
    try:
        return float(exact)
    except OverflowError:
        return math.inf


def as_written(number: float) -> Fraction:
    """Return the decimal that a finite float is written as: what a budget reads it as, not what its bits stand for."""
    return Fraction(repr(float(number)))


def float_below(exact: Fraction) -> float:
    """Return the largest float that, as it is written, is not above `exact`."""
    near = min(nearest_float(exact), sys.float_info.max)
    return near if as_written(near) <= exact else math.nextafter(near, -math.inf)


def float_above(exact: Fraction) -> float:
    """Return the smallest float that, as it is written, is not below `exact`."""
    near = nearest_float(exact)
    return near if math.isinf(near) or as_written(near) >= exact else math.nextafter(near, math.inf)
