"""Numbers with units: read exactly from text ("4.5MB"), and written for people or so that they can be read back."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

from limpq_hub.errors import BudgetError, quoted
from limpq_hub.plan.rounding import as_written, log10

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
# The BitOps of a uniform policy, in place of a number of them.
UNIFORM_BITOPS = re.compile(r"w([2-8])a([2-8])", re.ASCII)
# Bytes and BitOps of a network are more: fewer were probably typed without their unit.
WITHOUT_UNIT = 1000
_LONGEST_TEXT = 32
# What is not finite is refused by who knows what the number is for.
_DECIMAL = re.compile(r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|inf)")
# Of a Decimal that is taken exactly: one with an exponent of millions takes as many digits.
_MOST_DIGITS = 1000
# Of any number: Python writes integers of up to 4,300 digits.
_MOST_PRINTED_DIGITS = 4000
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)( ?)([A-Za-z]*)", re.ASCII)
_GAP = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?) ?(%?)", re.ASCII)


def is_number(value: object) -> bool:
    """Return whether `value` is an integer or float, no bool, that is finite as a float."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def python_number(value: object) -> int | float | None:
    """Return a number of whichever type, of numpy or a `Decimal` too, as one of Python; None for what is none.

    No number is a bool, text, and what is not finite as a float.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real | Decimal):
        return None
    try:
        number = int(value) if isinstance(value, numbers.Integral) else float(value)
    except (OverflowError, ValueError):
        return None
    return number if is_number(number) else None


def python_integer(value: object) -> int | None:
    """Return a whole number of whichever integer type, of numpy too, as one of Python; None for what is none."""
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None


def decimal_number(text: str) -> float:
    """Return the number that text holds: ASCII digits, a point and an exponent, or "nan" or "inf".

    `float` would read "1_0", full-width digits and space around the number too.

    Raises:
        ValueError: the text is no such number.
    """
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no number: write for example 0.5, 2 or 1e-3")
    return float(text)


def exact_number(name: str, value: object, units: Mapping[str, int], advice: str, word: str = "") -> Fraction:
    """Return the exact number above 0 that a limit stands for; a float is what it is written as in decimal.

    Text is a number, also in powers of ten ("2.5e9"), and a unit, in either case and after a space if one likes.

    Args:
        name: what to call the limit in an error.
        units: what each unit multiplies the number by; "" where it may lack one.
        advice: ends an error with what to type instead.
        word: pattern of a word that may end the unit without a meaning of its own.

    Raises:
        BudgetError: the value is neither a number nor text of this form.
    """
    refused = f"{name}={quoted(value)} is not a budget"
    if isinstance(value, Decimal):
        is_exact = value.is_finite() and abs(value.adjusted()) < _MOST_DIGITS
        value = Fraction(value) if is_exact else math.nan if value.is_nan() else float(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real | str):
        raise BudgetError(f"{refused}: it must be a number or text; {advice}")
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value) if len(value) <= _LONGEST_TEXT else None
        if not match:
            meant = _meant(name, re.sub(r"[\s_+]", "", value).replace(",", "."), units)
            raise BudgetError(
                f"{refused}: write ASCII digits, at most one point, and a unit, without spaces; {meant}{advice}"
            )
        unit = _unit_named(match[3], units, word)
        if unit is None:
            known_units = ", ".join(unit for unit in units if unit)
            fault = f"the unit {quoted(match[3])} is not known" if match[3] else "the unit is missing"
            fault += f" (known: {known_units})" if known_units else ": the number stands without one"
            raise BudgetError(f"{refused}: {fault}; {_meant(name, value, units)}{advice}")
        number = Fraction(match[1]) * units[unit]
    elif isinstance(value, numbers.Rational):
        number = Fraction(int(value.numerator), int(value.denominator))
    elif not math.isfinite(value):
        raise BudgetError(f"{refused}: it must be finite; {advice}")
    else:
        number = as_written(float(value))
    if number <= 0:
        raise BudgetError(f"{refused}: it must be above 0; {advice}")
    if abs(log10(number)) >= _MOST_PRINTED_DIGITS:
        raise BudgetError(f"{refused}: it has more than {_MOST_PRINTED_DIGITS:,} digits; {advice}")
    return number


def plainly_written(value: object, units: Mapping[str, int], word: str = "") -> str | None:
    """Return how text was read that `exact_number` takes, number and unit, or None where it is written so already."""
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) and len(value) <= _LONGEST_TEXT else None
    unit = match and _unit_named(match[3], units, word)
    if not match or unit is None or (unit == match[3] and not match[2]):
        return None
    return match[1] + unit


def _unit_named(text: str, units: Mapping[str, int], word: str) -> str | None:
    """Return the unit that was typed, in either case and with or without the word, or None."""
    if text in units:
        return text
    bare = re.sub(f"(?:{word})$", "", text, flags=re.IGNORECASE) if word else text
    alike = [unit for unit in units if unit.lower() == bare.lower()]
    return alike[0] if alike and len({units[unit] for unit in alike}) == 1 else None


def _meant(name: str, text: str, units: Mapping[str, int]) -> str:
    """Return what was probably meant by text that is not understood, perhaps a limit of another kind, or nothing."""
    if UNIFORM_BITOPS.fullmatch(text):
        return f'{text} are the BitOps of a uniform policy: give bitops="{text}"; otherwise '
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if not match:
        return ""
    size = _unit_named(match[3], SIZE_UNITS, "")
    # "3B" is short for 3 billions too.
    if size not in (None, "B", *units):
        return f'{match[1]}{size} is a size: give size="{match[1]}{size}"; otherwise '
    typed = match[3].lower()
    if not typed and "" in units:
        return f'did you mean "{match[1]}"? Otherwise '
    if not typed and float(match[1]) >= WITHOUT_UNIT:
        return f'did you mean "{match[1]}B"? Otherwise '
    near = [unit for unit in units if unit and (unit.lower().startswith(typed) or typed.startswith(unit.lower()))]
    # Networks take megabytes: who types "3G" for a size has BitOps in mind, or a slip, and no 3 GB of weights.
    unit = _unit_named(match[3], units, "") or ("MB" if {"MB", "GB"} & set(near) else next(iter(near), None))
    if typed in ("g", "t") and typed.upper() not in units:
        here = "" if unit is None else f', or {name}="{match[1]}{unit}"'
        return f'did you mean bitops="{match[1]}{typed.upper()}"{here}? Otherwise '
    return "" if unit is None else f'did you mean "{match[1]}{unit}"? Otherwise '


def whole_number(name: str, value: object, units: Mapping[str, int], advice: str, word: str = "") -> int:
    """Return what a limit stands for, rounded down to a whole number of at least 1; arguments as `exact_number`.

    Raises:
        BudgetError: the value is neither a number nor text of this form, or is below 1.
    """
    whole = math.floor(exact_number(name, value, units, advice, word))
    if whole < 1:
        raise BudgetError(f"{name}={quoted(value)} leaves nothing: it must be at least 1; {advice}")
    return whole


def whole_bytes(name: str, value: object) -> int:
    """Return the whole number of bytes that a limit stands for.

    Raises:
        BudgetError: the value is no number of bytes such as "4.5MB", "4.5MiB" or 4500000.
    """
    return whole_number(name, value, SIZE_UNITS, 'use for example "4.5MB" (1e6 bytes), "4.5MiB" (2**20) or "4500000B"')


def allowed_gap(value: object) -> float:
    """Return the share of an objective that 0.01 or "1%" stands for; 0 for None.

    Raises:
        BudgetError: it is no share from 0 up to, but not, 1.
    """
    if value is None:
        return 0.0
    share = python_number(value)
    if isinstance(value, str):
        match = _GAP.fullmatch(value) if len(value) <= _LONGEST_TEXT else None
        share = float(match[1]) / (100 if match[2] else 1) if match else None
    if share is None or not 0 <= share < 1:
        raise BudgetError(
            f'allow_gap={quoted(value)} cannot be: use a share from 0 to below 1, for example 0.01 or "1%"'
        )
    return float(share)


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


def _with_unit(value: int, units: Sequence[str], sizes: Mapping[str, int], rounded: Callable[[Fraction], int]) -> str:
    """Return `value` in the largest of `units` that it fills once `rounded` has made two decimals of it."""
    place = next(place for place, unit in enumerate(units) if sizes[unit] <= max(value, 1))
    unit = units[place]
    hundredths = rounded(Fraction(value * 100, sizes[unit]))
    if place and hundredths * sizes[unit] >= 100 * sizes[units[place - 1]]:
        return f"1.00{units[place - 1]}"
    return f"{value}{unit}" if sizes[unit] == 1 else f"{hundredths // 100}.{hundredths % 100:02d}{unit}"
