"""Numbers with units: read exactly from text ("4.5MB"), and written for people or so that they can be read back."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from limpq_hub.errors import BudgetError, quoted

BITOPS_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_LONGEST_TEXT = 32
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", re.ASCII)


def is_number(value: object) -> bool:
    """Return whether `value` is an integer or float, no bool, that is finite as a float."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def exact_number(name: str, value: object, units: Mapping[str, int], advice: str) -> Fraction:
    """Return the exact number above 0 that a limit stands for; a float is what it is written as in decimal.

    Args:
        name: what to call the limit in an error.
        units: what each unit multiplies the number by; "" where it may lack one.
        advice: ends an error with what to type instead.

    Raises:
        BudgetError: the value is neither a number nor text of this form.
    """
    refused = f"{name}={quoted(value)} is not a budget"
    if isinstance(value, bool) or not isinstance(value, numbers.Real | str):
        raise BudgetError(f"{refused}: it must be a number or text; {advice}")
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value) if len(value) <= _LONGEST_TEXT else None
        if not match:
            raise BudgetError(f"{refused}: write ASCII digits, at most one point, and a unit, without spaces; {advice}")
        if match[2] not in units:
            known_units = ", ".join(unit for unit in units if unit)
            fault = f"the unit {quoted(match[2])} is not known" if match[2] else "the unit is missing"
            raise BudgetError(f"{refused}: {fault} (known: {known_units}); {advice}")
        number = Fraction(match[1]) * units[match[2]]
    elif isinstance(value, numbers.Rational):
        number = Fraction(int(value.numerator), int(value.denominator))
    elif not math.isfinite(value):
        raise BudgetError(f"{refused}: it must be finite; {advice}")
    else:
        number = Fraction(repr(float(value)))
    if number <= 0:
        raise BudgetError(f"{refused}: it must be above 0; {advice}")
    return number


def whole_number(name: str, value: object, units: Mapping[str, int], advice: str) -> int:
    """Return what a limit stands for, rounded down to a whole number of at least 1; arguments as `exact_number`.

    Raises:
        BudgetError: the value is neither a number nor text of this form, or is below 1.
    """
    whole = math.floor(exact_number(name, value, units, advice))
    if whole < 1:
        raise BudgetError(f"{name}={quoted(value)} leaves nothing: it must be at least 1; {advice}")
    return whole


def whole_bytes(name: str, value: object) -> int:
    """Return the whole number of bytes that a limit stands for.

    Raises:
        BudgetError: the value is no number of bytes such as "4.5MB", "4.5MiB" or 4500000.
    """
    return whole_number(name, value, SIZE_UNITS, 'use for example "4.5MB" (1e6 bytes), "4.5MiB" (2**20) or "4500000B"')


def format_bitops(bitops: int) -> str:
    """Return BitOps (or MACs) for people to read, rounded to two decimals: "3.00G"."""
    return _with_unit(bitops, ("T", "G", "M", "K", ""), BITOPS_UNITS, round)


def format_size(size_bytes: int) -> str:
    """Return bytes for people to read, rounded to two decimals: "4.50MB"."""
    return _with_unit(size_bytes, ("GB", "MB", "kB", "B"), SIZE_UNITS, round)


def enough_bitops(bitops: int) -> str:
    """Return the smallest budget of two decimals that allows `bitops`."""
    return _with_unit(bitops, ("T", "G", "M", "K", ""), BITOPS_UNITS, math.ceil)


def enough_size(size_bytes: int) -> str:
    """Return the smallest size budget of two decimals that allows `size_bytes`."""
    return _with_unit(size_bytes, ("GB", "MB", "kB", "B"), SIZE_UNITS, math.ceil)


def decimal_above(exact: Fraction, digits: int = 4) -> str:
    """Return `exact`, of at least 0, rounded up to at least `digits` significant digits, as plain decimal text."""
    places = max(0, digits - math.floor(math.log10(exact)) - 1) if exact else 0
    scaled = str(math.ceil(exact * 10**places)).rjust(places + 1, "0")
    return f"{scaled[:-places]}.{scaled[-places:]}".rstrip("0").rstrip(".") if places else scaled


def float_below(exact: Fraction) -> float:
    """Return the largest float that is not above `exact`."""
    near = float(exact)
    return near if Fraction(near) <= exact else math.nextafter(near, -math.inf)


def float_above(exact: Fraction) -> float:
    """Return the smallest float that is not below `exact`."""
    near = float(exact)
    return near if Fraction(near) >= exact else math.nextafter(near, math.inf)


def _with_unit(value: int, units: Sequence[str], sizes: Mapping[str, int], rounded: Callable[[Fraction], int]) -> str:
    """Return `value` in the largest of `units` that it fills, with two decimals made by `rounded`."""
    unit = next(unit for unit in units if sizes[unit] <= max(value, 1))
    hundredths = rounded(Fraction(value * 100, sizes[unit]))
    return f"{value}{unit}" if sizes[unit] == 1 else f"{hundredths // 100}.{hundredths % 100:02d}{unit}"
