"""Bounds of activation functions, and of other functions of one tensor, from the bounds of their input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from limpq_hub.quant.bounds.intervals import Bounds, hull, maximum, minimum, multiply

# Takes the arguments of an operation as PyTorch passes them, with `Bounds` in the place of each tensor.
Rule: TypeAlias = Callable[..., Bounds]


def _increasing(function: Callable[[float], float]) -> Rule:
    """Return the rule of a function that never decreases: what it gives for both ends."""
    return lambda x: Bounds(function(x.low), function(x.high))


def _dips_to(least: float) -> Rule:
    """Return the rule of an activation that lies between `least` and 0 below 0, and between 0 and x above."""
    return lambda x, **_options: Bounds(least if x.low < 0 else 0.0, max(x.high, 0.0))


def _exponential(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf  # `math.exp` raises where the result is too large


def _sigmoid(x: float) -> float:
    return 1 / (1 + _exponential(-x))


def _hard_sigmoid(x: float) -> float:
    return min(max(x + 3, 0.0), 6.0) / 6


def _relu(x: float) -> float:
    return max(x, 0.0)


def _square_root(x: float) -> float:
    return math.sqrt(max(x, 0.0))


def _clamp(x: Bounds, least: Bounds | float | None = None, most: Bounds | float | None = None) -> Bounds:
    raised = x if least is None else maximum(x, least)
    return raised if most is None else minimum(raised, most)


def _hard_tanh(x: Bounds, least: float = -1, most: float = 1) -> Bounds:
    return _clamp(x, least, most)


def _threshold(x: Bounds, threshold: float, value: float) -> Bounds:
    return hull(maximum(x, threshold), value)


def _leaky_relu(x: Bounds, negative_slope: float = 0.01) -> Bounds:
    return hull(maximum(x, 0.0), multiply(minimum(x, 0.0), negative_slope))


def _elu(x: Bounds, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Bounds:
    if min(alpha, scale, input_scale) <= 0:
        return Bounds()  # it may decrease

    def value(end: float) -> float:
        """Return ELU at one end of the bounds."""
        return end * scale if end > 0 else math.expm1(end * input_scale) * alpha * scale

    return Bounds(value(x.low), value(x.high))


def _celu(x: Bounds, alpha: float = 1) -> Bounds:
    return _elu(x, alpha, 1, 1 / alpha)


def _softplus(x: Bounds, beta: float = 1, threshold: float = 20) -> Bounds:
    if beta <= 0:
        return Bounds()
    # Above `threshold` it is x itself, which is less than what the formula gives.
    high = beta * x.high
    return Bounds(max(x.low, 0.0), (max(high, 0.0) + math.log1p(math.exp(-abs(high)))) / beta)


def _gated_half(x: Bounds, dim: int = -1) -> Bounds:
    """Return the bounds of one half of `x` times the sigmoid of the other."""
    return multiply(x, Bounds(0.0, 1.0))


ACTIVATION_RULES: Mapping[str, Rule] = {
    "relu": _increasing(_relu),
    "sigmoid": _increasing(_sigmoid),
    "hardsigmoid": _increasing(_hard_sigmoid),
    "tanh": _increasing(math.tanh),
    "erf": _increasing(math.erf),
    "exp": _increasing(_exponential),
    "sqrt": _increasing(_square_root),
    # The least values are rounded down.
    "silu": _dips_to(-0.278465),
    "gelu": _dips_to(-0.170041),  # of its approximation by tanh; the exact function stays above -0.169972
    "mish": _dips_to(-0.308844),
    "hardswish": _dips_to(-0.375),
    "clamp": _clamp,
    "clamp_min": maximum,
    "clamp_max": minimum,
    "hardtanh": _hard_tanh,
    "threshold": _threshold,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "celu": _celu,
    "softplus": _softplus,
    "glu": _gated_half,
}
