"""The step of least squared rounding error, and with it the best zero point, found from sorted values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

_COARSE, _FINE, _ROUNDS = 25, 9, 2
# Integers of grids that are tried at a time, which bounds the memory to some 100 MB.
_AT_ONCE = 2**18
# To look up an integer takes about as long as to round so many values: short rows are rounded.
_PASSES_PER_LOOK_UP = 12


@dataclass(frozen=True)
class SortedValues:
    """Values in rows, each sorted, with the running sums from which any grid's squared error follows.

    The values that round to one integer lie side by side: their number, sum and sum of squares are differences of
    running sums, so that a grid of 2^b integers costs 2^b look-ups and not a pass over the values. Of few values the
    pass is faster, and the result the same.

    Attributes:
        values: [rows, values], float64, ascending.
        sums: [3, rows, values + 1]: how many values come before a place, their sum, and their sum of squares.
    """

    values: Tensor
    sums: Tensor

    @classmethod
    def of(cls, values: Tensor) -> SortedValues:
        """Return the rows of `values`, [rows, values] of any floating-point type, sorted, on the CPU."""
        # On the CPU whatever the device: not every one has float64.
        ordered = values.detach().cpu().double().sort(dim=1).values
        powers = torch.stack([torch.ones_like(ordered), ordered, ordered.square()])
        return cls(ordered, pad(powers.cumsum(2), (1, 0)))

    def squared_errors(self, steps: Tensor, bits: int, zero_points: Sequence[int]) -> Tensor:
        """Return what rounding to each grid would cost: the sum over a row of its squared errors.

        Args:
            steps: of each row those to try, [rows, steps], float64, > 0.
            bits: 2..8.
            zero_points: ascending; the grid of one is the integers -zero_point .. 2^bits - 1 - zero_point.

        Returns:
            [rows, steps, len(zero_points)].
        """
        if self.values.shape[1] * len(zero_points) < _PASSES_PER_LOOK_UP * 2**bits:
            return torch.stack([self._rounding_errors(steps, bits, zero_point) for zero_point in zero_points], 2)
        least, most = zero_points[0], zero_points[-1]
        integers = torch.arange(-most, 2**bits - least, dtype=torch.float64)
        shape = (*steps.shape, len(integers))
        edges = (steps[:, :, None] * (integers[:-1] + 0.5)).flatten(1)
        # places[..., i] is where the values that round to integer i begin; those beyond the outer ones go to these too.
        places = pad(torch.searchsorted(self.values, edges).reshape(*shape[:2], -1), (1, 1))
        places[:, :, -1] = self.values.shape[1]
        at_places = self.sums.gather(2, places.flatten(1).expand(3, -1, -1)).reshape(3, *shape[:2], -1)
        on_grid = steps[:, :, None] * integers
        before = pad(_squared_distance(at_places.diff(), on_grid).cumsum(2), (1, 0))
        # Of a grid, everything up to its lowest integer is drawn there, and likewise at its highest.
        low = most - torch.tensor(zero_points)
        high = low + 2**bits - 1
        below = _squared_distance(at_places[..., low + 1], on_grid[..., low])
        above = _squared_distance(at_places[..., -1:] - at_places[..., high], on_grid[..., high])
        return below + before[..., high] - before[..., low + 1] + above

    def _rounding_errors(self, steps: Tensor, bits: int, zero_point: int) -> Tensor:
        """Return the same for one grid, [rows, steps], by rounding every value."""
        values, on_step = self.values[:, None, :], steps[:, :, None]
        rounded = (values / on_step).clamp_(-zero_point, 2**bits - 1 - zero_point).round_()
        return rounded.mul_(on_step).sub_(values).square_().sum(2)


@dataclass(frozen=True)
class LeastErrorGrids:
    """The best grid of each row.

    Attributes:
        steps: [rows], float64, > 0.
        zero_points: [rows], int64.
        errors: [rows], the sum of squared errors.
    """

    steps: Tensor
    zero_points: Tensor
    errors: Tensor


def least_error_grids(
    values: SortedValues, bits: int, zero_points: Sequence[int], *, smallest: float, tried: Sequence[Tensor] = ()
) -> LeastErrorGrids:
    """Return step and zero point of least squared error for each row: all zero points are tried at many steps.

    The steps reach from the one whose grid ends at half of the mean magnitude up to the one that clips nothing: 25 of
    them in equal ratios, and twice 9 around the best so far.

    Args:
        bits: 2..8.
        zero_points: those to choose from, ascending, each in 0..2^(bits-1).
        smallest: no step is smaller.
        tried: further steps to try, [rows] each.
    """
    magnitudes = values.values.abs()
    highest = 2**bits - 1 - zero_points[-1]
    largest = (magnitudes.amax(1) / highest).clamp_min(smallest)
    least = (magnitudes.mean(1) / (2 * highest)).clamp_min(smallest)
    powers = torch.arange(_COARSE, dtype=torch.float64)
    ratio = (largest / least).pow(1 / (_COARSE - 1))
    coarse = least[:, None] * ratio[:, None] ** powers
    best = _best_of(values, bits, zero_points, torch.stack([largest, *(step.to(largest) for step in tried)], dim=1))
    best = _better_of(best, _best_of(values, bits, zero_points, coarse))
    powers = torch.arange(_FINE, dtype=torch.float64) - _FINE // 2
    for _ in range(_ROUNDS):
        ratio = ratio.pow(2 / (_FINE - 1))
        fine = (best.steps[:, None] * ratio[:, None] ** powers).clamp_min(smallest)
        best = _better_of(best, _best_of(values, bits, zero_points, fine))
    return best


def _best_of(values: SortedValues, bits: int, zero_points: Sequence[int], steps: Tensor) -> LeastErrorGrids:
    """Return for each row the best of its steps, [rows, steps], at the best of the zero points."""
    at_once = max(1, _AT_ONCE // (len(steps) * (2**bits + len(zero_points))))
    errors = torch.cat([values.squared_errors(part, bits, zero_points) for part in steps.split(at_once, 1)], 1)
    least, index = errors.flatten(1).min(1)
    chosen = steps.gather(1, index[:, None] // len(zero_points)).squeeze(1)
    return LeastErrorGrids(chosen, torch.tensor(zero_points)[index % len(zero_points)], least)


def _better_of(first: LeastErrorGrids, second: LeastErrorGrids) -> LeastErrorGrids:
    """Return for each row the grid of the smaller error, the first if they are alike."""
    better = second.errors < first.errors
    return LeastErrorGrids(
        torch.where(better, second.steps, first.steps),
        torch.where(better, second.zero_points, first.zero_points),
        torch.where(better, second.errors, first.errors),
    )


def _squared_distance(sums: Tensor, point: Tensor) -> Tensor:
    """Return the summed squared distance of values to `point`, from their number, sum and sum of squares [3, ...]."""
    number, total, squares = sums
    return squares - 2 * point * total + point.square() * number
