"""What a policy may cost: `Budget`, and its text form "3G", "4.5MB", "12.2x", "w3a4"."""

from __future__ import annotations

import math
import numbers
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from limpq_hub.errors import BudgetError, shown
from limpq_hub.plan.latency_file import read_latency_table
from limpq_hub.plan.policy import LayerBits

LatencyTable = Mapping[str, Mapping[tuple[int, int], float]]
# A table, or the path of one as CSV, and the limit.
Latency = tuple[LatencyTable | str | os.PathLike[str], str | float]

CONSTRAINTS = ("bitops", "size", "compression", "activation_memory", "latency")

_BITOPS_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_LONGEST = 32
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", re.ASCII)
_UNIFORM = re.compile(r"w([2-8])a([2-8])", re.ASCII)


@dataclass(frozen=True)
class Budget:
    """Limits that a policy must meet, all at once; at least one is given.

    Each may be a number or text; attributes hold the parsed values.

    Attributes:
        bitops: BitOps per image: "3G", "850M", 2.5e9, 3_000_000_000; or "w3a4", the BitOps of that uniform policy,
            kept as `LayerBits`. A fraction of an operation is rounded down.
        size: bytes of all quantized weights: "4.5MB" (1e6 bytes), "4.5MiB" (2**20), or a whole number of bytes.
        compression: 32-bit size of the weights divided by their size, at least: 12.2 or "12.2x".
        activation_memory: bytes of the largest layer input, in the grammar of `size`.
        latency: (table, limit): table[layer][weight bits, activation bits] is a time, and the times of all layers in
            the table add up to at most the limit, in the same unit. A path stands for a CSV file with the columns
            layer, weight_bits, activation_bits, time.

    Raises:
        BudgetError: none is given, or one is not in this grammar.
    """

    bitops: int | LayerBits | None = None
    size: int | None = None
    compression: Fraction | None = None
    activation_memory: int | None = None
    latency: tuple[LatencyTable, Fraction] | None = None

    def __init__(
        self,
        bitops: str | float | None = None,
        size: str | int | None = None,
        compression: str | float | None = None,
        activation_memory: str | int | None = None,
        latency: Latency | None = None,
    ) -> None:
        given = (bitops, size, compression, activation_memory, latency)
        if all(value is None for value in given):
            raise BudgetError('no budget was given: use for example bitops="3G", size="4.5MB" or compression="12.2x"')
        for name, value in (
            ("bitops", None if bitops is None else parse_bitops(bitops)),
            ("size", None if size is None else parse_size(size, "size")),
            ("compression", None if compression is None else parse_compression(compression)),
            (
                "activation_memory",
                None if activation_memory is None else parse_size(activation_memory, "activation_memory"),
            ),
            ("latency", None if latency is None else _parse_latency(latency)),
        ):
            object.__setattr__(self, name, value)


def parse_bitops(value: str | float) -> int | LayerBits:
    """Return BitOps as a whole number, or the `LayerBits` of a uniform policy such as "w3a4".

    Raises:
        BudgetError: the value is not in the grammar of `Budget`.
    """
    if isinstance(value, str) and (uniform := _UNIFORM.fullmatch(value)):
        return LayerBits(int(uniform[1]), int(uniform[2]))
    advice = 'use for example "3G", "850M", 2.5e9, or "w3a4" for the BitOps of a uniform policy'
    return _whole("bitops", value, _BITOPS_UNITS, advice)


def parse_size(value: str | int, name: str = "size") -> int:
    """Return bytes as a whole number.

    Args:
        name: what to call the budget in an error.

    Raises:
        BudgetError: the value is not in the grammar of `Budget`.
    """
    return _whole(name, value, _SIZE_UNITS, 'use for example "4.5MB" (1e6 bytes), "4.5MiB" (2**20) or "4500000B"')


def parse_compression(value: str | float) -> Fraction:
    """Return a compression ratio, exactly as it was written in decimal.

    Raises:
        BudgetError: the value is not in the grammar of `Budget`.
    """
    return _number("compression", value, {"": 1, "x": 1}, 'use for example "12.2x" or 12.2')


def is_number(value: object) -> bool:
    """Return whether `value` is an integer or float, no bool, that is finite as a float."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def format_bitops(bitops: int) -> str:
    """Return BitOps (or MACs) for people to read, rounded to two decimals: "3.00G"."""
    return _written(bitops, ("T", "G", "M", "K", ""), _BITOPS_UNITS, round)


def format_size(size_bytes: int) -> str:
    """Return bytes for people to read, rounded to two decimals: "4.50MB"."""
    return _written(size_bytes, ("GB", "MB", "kB", "B"), _SIZE_UNITS, round)


def enough_bitops(bitops: int) -> str:
    """Return the smallest budget of two decimals that allows `bitops`."""
    return _written(bitops, ("T", "G", "M", "K", ""), _BITOPS_UNITS, math.ceil)


def enough_size(size_bytes: int) -> str:
    """Return the smallest size budget of two decimals that allows `size_bytes`."""
    return _written(size_bytes, ("GB", "MB", "kB", "B"), _SIZE_UNITS, math.ceil)


def _written(value: int, units: Sequence[str], sizes: Mapping[str, int], whole: Callable[[Fraction], int]) -> str:
    """Return `value` in the largest of `units` that it fills, with two decimals made by `whole`."""
    unit = next(unit for unit in units if sizes[unit] <= max(value, 1))
    hundredths = whole(Fraction(value * 100, sizes[unit]))
    return f"{value}{unit}" if sizes[unit] == 1 else f"{hundredths // 100}.{hundredths % 100:02d}{unit}"


def _whole(name: str, value: object, units: Mapping[str, int], advice: str) -> int:
    whole = math.floor(_number(name, value, units, advice))
    if whole < 1:
        raise BudgetError(f"{name}={shown(value)} leaves nothing: it must be at least 1; {advice}")
    return whole


def _number(name: str, value: object, units: Mapping[str, int], advice: str) -> Fraction:
    """Return the exact number above 0 that `value` stands for."""
    refused = f"{name}={shown(value)} is not a budget"
    if isinstance(value, bool) or not isinstance(value, numbers.Real | str):
        raise BudgetError(f"{refused}: it must be a number or text; {advice}")
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value) if len(value) <= _LONGEST else None
        if not match:
            raise BudgetError(f"{refused}: write ASCII digits, at most one point, and a unit, without spaces; {advice}")
        if match[2] not in units:
            known = ", ".join(unit for unit in units if unit)
            what = f"the unit {shown(match[2])} is not known" if match[2] else "the unit is missing"
            raise BudgetError(f"{refused}: {what} (known: {known}); {advice}")
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


def _parse_latency(value: object) -> tuple[LatencyTable, Fraction]:
    advice = 'give (table, limit), for example ({"layer1.0.conv1": {(4, 4): 0.21, (8, 8): 0.35}}, 2.5)'
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | os.PathLike):
        value = (read_latency_table(value[0]), value[1])
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], Mapping) or not value[0]:
        raise BudgetError(f"latency={shown(value)} is not a budget: {advice}")
    table, limit = value
    for layer, times in table.items():
        if not isinstance(times, Mapping):
            raise BudgetError(f"latency of layer {shown(layer)} is {shown(times)}: {advice}")
        for bits, time in times.items():
            if not is_number(time) or time < 0:
                raise BudgetError(
                    f"latency of layer {shown(layer)} at bits {shown(bits)} is {shown(time)}: a time is a finite "
                    "number of at least 0"
                )
    return table, _number("latency", limit, {"": 1}, advice)
