"""Half precision where it is exact enough: range 6e-5 to 65,504, 11 bits of digits."""

from __future__ import annotations

from torch import Tensor

# Rounding to 11 bits changes a number by at most 2^-11 of it; one bit more is allowed.
_MOST_CHANGE = 2.0**-10
# Share of a deviation by which the mean of a batch normalization may be off.
_MOST_SHIFT = 2.0**-8


def halved_weight(value: Tensor) -> Tensor:
    """Return a weight in half precision, or as it is if that changes it by more than 0.1 % of its largest number.

    It does where a number is above 65,504, or where all are so small that half precision has few digits for them.

    Args:
        value: of any shape.
    """
    half = value.half()
    if not value.numel():
        return half
    change = (half.to(value.dtype) - value).abs().max()
    return half if change <= _MOST_CHANGE * value.abs().max() else value  # a change of nan or infinity is not less


def halved_statistics(mean: Tensor, variance: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Return the statistics of a batch normalization in half precision, each as it is where that would not do.

    A variance above 65,504 would be infinite, one far below 6e-5 has few digits, which counts where `eps` is as small,
    and a mean that is large beside the deviation shifts what comes out.

    Args:
        mean, variance: [channels] each.
        eps: what the normalization adds to the variance.
    """
    half_mean, half_variance = mean.half(), variance.half()
    squared = variance + min(eps, 1e-5)
    keeps_mean = bool(((half_mean.to(mean.dtype) - mean).abs() <= _MOST_SHIFT * squared.sqrt()).all())
    # A change of infinity is not less.
    keeps_variance = bool(((half_variance.to(variance.dtype) - variance).abs() <= _MOST_SHIFT * squared).all())
    return half_mean if keeps_mean else mean, half_variance if keeps_variance else variance
