"""Requests as clients send them: refused in words where a value is none that a search could take."""

from __future__ import annotations

import math

from _request import Request
from _zoo import entry_of, first_model

from limpq_hub.errors import BudgetError, PolicyError, UnknownModelError, quoted


def request_of(model: object, bitops: object, size: object, alpha: object, pins: object) -> Request:
    """Return what the controls ask for; they hold whatever a client sends.

    Args:
        size: no limit if 0 or None.
        alpha: the model's own if None.

    Raises:
        UnknownModelError: there is no such model here.
        BudgetError: a number is none, or cannot be.
        PolicyError: the pins are no text.
    """
    if not isinstance(model, str):
        raise UnknownModelError(f"model={quoted(model)} cannot be: use the name of one, for example {first_model()}")
    if not isinstance(pins, str | None):
        raise PolicyError(f"pins={quoted(pins)} cannot be: use text, for example layer4.*=4,4")
    gigabitops = _number(bitops)
    if gigabitops is None or gigabitops <= 0:
        raise BudgetError(f"bitops={quoted(bitops)} cannot be: use a number above 0, for example 3.0 for 3G")
    megabytes = _number(0 if size is None else size)
    if megabytes is None or megabytes < 0:
        raise BudgetError(f"size={quoted(size)} cannot be: use a number of MB, for example 4.5, or 0 for no limit")
    own = entry_of(model).indicators.alpha
    factor = _number(own if alpha is None else alpha)
    if factor is None or factor < 0:
        raise BudgetError(f"alpha={quoted(alpha)} cannot be: use a number of at least 0, for example {own:g}")
    return Request(model, gigabitops, megabytes or None, None if factor == own else factor, pins or "")


def _number(value: object) -> float | None:
    """Return a finite number; None of all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
