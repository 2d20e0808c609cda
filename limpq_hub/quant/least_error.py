"""The step of least squared rounding error, and with it the best zero point, found from sorted values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_COARSE, _FINE, _ROUNDS = 25, 9, 2


@dataclass(frozen=True)
class SortedValues:
    """Values in rows, each sorted, with the running sums from which any grid's squared error follows.

    The values that round to one integer lie side by side: their number, sum and sum of squares are differences of
    running sums, so that a grid of 2^b integers costs 2^b look-ups and not a pass over the values.

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
        return cls(ordered, torch.nn.functional.pad(powers.cumsum(2), (1, 0)))

    def squared_errors(self, steps: Tensor, bits: int, zero_points: Sequence[int]) -> Tensor:
        """Return what rounding to each grid would cost: the sum over a row of its squared errors.

        Args:
            steps: one per row, [rows], float64, > 0.
            bits: 2..8.
            zero_points: ascending; the grid of one is the integers -zero_point .. 2^bits - 1 - zero_point.

        Returns:
            [rows, len(zero_points)].
        """
        least, most = zero_points[0], zero_points[-1]
        integers = torch.arange(-most, 2**bits - least, dtype=torch.float64)
        edges = (integers[:-1] + 0.5) * steps[:, None]
        # places[:, i] is where the values that round to integer i begin; those beyond the outer integers go to these.
        places = torch.nn.functional.pad(torch.searchsorted(self.values, edges.contiguous()), (1, 1))
        places[:, -1] = self.values.shape[1]
        at_places = self.sums.gather(2, places.expand(3, -1, -1))
        on_grid = integers * steps[:, None]
        before = torch.nn.functional.pad(_squared_distance(at_places.diff(dim=2), on_grid).cumsum(1), (1, 0))
        # Of a grid, everything up to its lowest integer is drawn there, and likewise at its highest.
        low = torch.tensor([most - zero_point for zero_point in zero_points])
        high = low + 2**bits - 1
        below = _squared_distance(at_places[:, :, low + 1], on_grid[:, low])
        above = _squared_distance(at_places[:, :, -1:] - at_places[:, :, high], on_grid[:, high])
        return below + before[:, high] - before[:, low + 1] + above


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
    best = _best_of(values, bits, zero_points, [largest, *(step.to(largest) for step in tried)])
    ratio = (largest / least).pow(1 / (_COARSE - 1))
    best = _better_of(best, _best_of(values, bits, zero_points, [least * ratio**power for power in range(_COARSE)]))
    for _ in range(_ROUNDS):
        ratio, around = ratio.pow(2 / (_FINE - 1)), best.steps
        steps = [(around * ratio ** (power - _FINE // 2)).clamp_min(smallest) for power in range(_FINE)]
        best = _better_of(best, _best_of(values, bits, zero_points, steps))
    return best


def _best_of(values: SortedValues, bits: int, zero_points: Sequence[int], steps: Sequence[Tensor]) -> LeastErrorGrids:
    """Return the best of some steps, [rows] each, at any of the zero points."""
    choices = torch.tensor(zero_points)
    best: LeastErrorGrids | None = None
    for step in steps:
        errors, index = values.squared_errors(step, bits, zero_points).min(1)
        grids = LeastErrorGrids(step, choices[index], errors)
        best = grids if best is None else _better_of(best, grids)
    if best is None:
        raise ValueError("no steps to choose from")
    return best


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
