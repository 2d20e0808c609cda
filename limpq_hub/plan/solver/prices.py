"""The lower bound of a search: a price for each row, its Lagrange multiplier."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from limpq_hub.plan.solver.scaled_programme import Floats, ScaledProgramme

# Of a choice, or of a mixture of choices: its cost, and by how much it exceeds the limit of each row.
Plane = Floats
Point = tuple[tuple[float, ...], Plane]

_ENOUGH = 1e-13  # relative: a bound that is as good as floating point tells
_ROUNDING = 1e-12
_GROWTH = 8.0
# Any price gives a bound: where rounding keeps the best one from being recognized, a near one does.
_MOST_STEPS = 100


def best_prices(tables: ScaledProgramme, highest: float) -> Floats | None:
    """Return the price of each row that gives the largest lower bound, [rows], or None if no choice meets the limits.

    With prices the limits are left out, and each unit takes the option of least cost plus priced coefficients: what
    all of them add up to, less the priced limits, no choice within the limits can cost less than.

    Args:
        highest: a cost that no choice exceeds.
    """
    first = np.arange(len(tables.costs)) * tables.costs.shape[1]
    costs, rows = tables.costs.ravel(), tables.rows.reshape(len(tables.rows), -1)
    steps = max(highest, 1.0) / np.maximum(tables.limits, 1.0)

    def tangent(prices: tuple[float, ...]) -> Plane:
        priced = tables.costs
        for price, row in zip(prices, tables.rows, strict=True):
            if price:
                priced = priced + price * row
        picked = first + priced.argmin(1)
        return np.array([costs[picked].sum(), *(rows[:, picked].sum(1) - tables.limits)])

    def peak(given: tuple[float, ...]) -> Point | None:
        """Return the best prices that begin with `given`, and the plane there, level along all prices not given."""
        if len(given) == len(rows):
            return given, tangent(given)
        return _level(lambda price: peak((*given, price)), given, steps[len(given)], highest)

    found = peak(())
    return None if found is None else np.array(found[0])


def _level(
    point_at: Callable[[float], Point | None], given: tuple[float, ...], step: float, highest: float
) -> Point | None:
    """Return the peak of a concave function of one price, made of straight pieces, with a level plane; None if none.

    Args:
        point_at: the point at a price.
        given: the prices before this one.
        step: a first guess of the price.
    """
    slope = len(given) + 1
    weights = np.array([1.0, *given])

    def height(point: Point) -> float:
        return float(weights @ point[1][:slope])

    rising = point_at(0.0)
    if rising is None or rising[1][slope] <= 0:
        return rising
    price = step
    while (falling := point_at(price)) is not None and falling[1][slope] > 0:
        if height(falling) + price * falling[1][slope] > 2 * highest + 1:
            return None
        rising, price = falling, price * _GROWTH
    if falling is None:
        return None
    for _ in range(_MOST_STEPS):
        up, down = rising[1][slope], falling[1][slope]
        price = (height(falling) - height(rising)) / (up - down)
        top = height(rising) + price * up
        middle = point_at(price)
        across = middle[1][slope]
        if height(middle) + price * across >= top - _ENOUGH * (1 + abs(top)) or across in (up, down):
            break
        if across > 0:
            rising = middle
        else:
            falling = middle
    return middle[0], _mixed(rising[1], falling[1], slope)


def _mixed(rising: Plane, falling: Plane, slope: int) -> Plane:
    """Return the mixture of two planes that is level along one price; a slope that rounding alone leaves is none."""
    shares = np.array([-falling[slope], rising[slope]]) / (rising[slope] - falling[slope])
    parts = shares[:, None] * np.array([rising, falling])
    mixed = parts.sum(0)
    mixed[np.abs(mixed) <= _ROUNDING * np.abs(parts).sum(0)] = 0.0
    mixed[slope] = 0.0
    return mixed
