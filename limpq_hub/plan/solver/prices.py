"""The lower bound of a search: the price of each constraint, its Lagrange multiplier, that makes the bound largest."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from limpq_hub.plan.deadline import NEVER, check_time
from limpq_hub.plan.solver.scaled_programme import Floats, ScaledProgramme

# Relative: closer than this to the largest bound, rounding hides what is still to gain.
_BOUND_TOLERANCE = 1e-13
# Relative: a slope smaller than this is what rounding leaves of 0.
_SLOPE_TOLERANCE = 1e-12
# By how much a price grows while the bound still rises with it.
_GROWTH = 8.0
# Any prices give a bound: where rounding keeps the best ones from being recognized, near ones do.
_MOST_STEPS = 100

# [1 + constraints]: the cost of a choice, or of a mixture of choices, then by how much it exceeds each limit. As a
# function of the prices it is a plane that lies nowhere below the bound, and the excesses are its slopes.
Plane = Floats


class BoundAt(NamedTuple):
    """The bound at some prices.

    Attributes:
        prices: [constraints].
        plane: [1 + constraints], touches the bound at the prices.
    """

    prices: tuple[float, ...]
    plane: Plane


def best_prices(programme: ScaledProgramme, highest: float, deadline: float = NEVER) -> Floats | None:
    """Return the prices that give the largest lower bound, [constraints], or None if no choice meets the limits.

    With prices the limits are left out, and each group takes the option of least cost plus priced coefficients: what
    all of them add up to, less the priced limits, is the bound. It is a concave function of the prices, made of planes:
    one price is moved at a time, and at each value of it the prices after it are the best ones.

    Args:
        highest: a cost that no choice exceeds.
        deadline: when to give up, by `time.monotonic`.

    Raises:
        SearchError: the time is over.
    """
    first_options = np.arange(len(programme.costs)) * programme.costs.shape[1]  # in the raveled arrays: [groups]
    costs, coefficients = programme.costs.ravel(), programme.coefficients.reshape(len(programme.limits), -1)
    first_guesses = max(highest, 1.0) / np.maximum(programme.limits, 1.0)

    def plane_at(prices: tuple[float, ...]) -> Plane:
        check_time(deadline)
        cheapest = first_options + programme.priced_costs(prices).argmin(1)
        return np.array([costs[cheapest].sum(), *(coefficients[:, cheapest].sum(1) - programme.limits)])

    def best_from(first_prices: tuple[float, ...]) -> BoundAt | None:
        """Return the best prices that begin with `first_prices`, and a plane there, level along all prices after."""
        moved = len(first_prices)
        if moved == len(programme.limits):
            return BoundAt(first_prices, plane_at(first_prices))
        return _peak(lambda price: best_from((*first_prices, price)), first_prices, first_guesses[moved], highest)

    best = best_from(())
    return None if best is None else np.array(best.prices)


def _peak(
    bound_at: Callable[[float], BoundAt | None], first_prices: tuple[float, ...], first_guess: float, highest: float
) -> BoundAt | None:
    """Return where the bound is largest along one price, with a plane level along it; None if it grows for ever.

    The bound rises at one price and falls at a larger one; where their planes cross, the bound is looked up, and takes
    the place of one of the two, until it touches the crossing.

    Args:
        bound_at: the bound at a value of the price.
        first_prices: the prices before this one.
        first_guess: of the price.
        highest: a bound above it proves that no choice meets the limits.
    """
    slope = 1 + len(first_prices)
    weights = np.array([1.0, *first_prices])

    def height(bound: BoundAt) -> float:
        """Return the height of a plane where the price is 0."""
        return float(weights @ bound.plane[:slope])

    rising = bound_at(0.0)
    if rising is None or rising.plane[slope] <= 0:
        return rising
    price = first_guess
    while (falling := bound_at(price)) is not None and falling.plane[slope] > 0:
        if height(falling) + price * falling.plane[slope] > 2 * highest + 1:
            return None
        rising, price = falling, price * _GROWTH
    if falling is None:
        return None
    best = rising
    for _ in range(_MOST_STEPS):
        up, down = rising.plane[slope], falling.plane[slope]
        price = (height(falling) - height(rising)) / (up - down)
        crossing = height(rising) + price * up
        between = bound_at(price)
        if between is None:
            return None
        best = between
        across = between.plane[slope]
        touches = height(between) + price * across >= crossing - _BOUND_TOLERANCE * (1 + abs(crossing))
        if touches or across in (up, down):
            break
        if across > 0:
            rising = between
        else:
            falling = between
    return BoundAt(best.prices, _level_mixture(rising.plane, falling.plane, slope))


def _level_mixture(rising: Plane, falling: Plane, slope: int) -> Plane:
    """Return the mixture of two planes, [1 + constraints], that is level along the price of the given slope."""
    shares = np.array([-falling[slope], rising[slope]]) / (rising[slope] - falling[slope])
    parts = shares[:, None] * np.array([rising, falling])
    mixed = parts.sum(0)
    mixed[np.abs(mixed) <= _SLOPE_TOLERANCE * np.abs(parts).sum(0)] = 0.0
    mixed[slope] = 0.0
    return mixed
