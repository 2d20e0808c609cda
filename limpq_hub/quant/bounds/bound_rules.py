"""Rules by PyTorch operation that compute the bounds of its result from those of its arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from limpq_hub.quant.bounds.activation_bounds import ACTIVATION_RULES, Rule
from limpq_hub.quant.bounds.intervals import Bounds, absolute, add, divide, hull, maximum, minimum, multiply, power


def _always(low: float, high: float) -> Rule:
    """Return the rule of an operation whose result lies in one range whatever its arguments are."""
    return lambda *_arguments, **_options: Bounds(low, high)


def _hull_of(*positions: int) -> Rule:
    """Return the rule of an operation that only copies, chooses, or averages elements of the arguments there."""
    return lambda *arguments, **_options: hull(*(arguments[position] for position in positions))


def _hull_with_zero(x: Bounds, *_arguments: object, **_options: object) -> Bounds:
    return hull(x, 0.0)


def _hull_of_list(tensors: Sequence[Bounds], dim: int = 0) -> Bounds:
    return hull(*tensors)


def _where(condition: Bounds, *choices: Bounds | float) -> Bounds:
    return hull(*choices) if choices else Bounds()  # without choices the result is positions


def _extreme(of_two: Callable[[Bounds, Bounds], Bounds]) -> Rule:
    """Return the rule of an extreme of one tensor, along a dimension if one is given, or of two tensors."""
    return lambda x, *arguments: of_two(x, *arguments) if isinstance(next(iter(arguments), None), Bounds) else x


def _sum(x: Bounds, *_arguments: object, **_options: object) -> Bounds:
    """Return what is known of a sum of any number of terms: only its sign."""
    return Bounds(0.0 if x.low >= 0 else -math.inf, 0.0 if x.high <= 0 else math.inf)


def _add(x: Bounds, other: Bounds | float, alpha: float = 1) -> Bounds:
    return add(x, multiply(other, alpha))


def _subtract(x: Bounds, other: Bounds | float, alpha: float = 1) -> Bounds:
    return add(x, multiply(other, -alpha))


def _subtract_from(x: Bounds, other: Bounds | float, alpha: float = 1) -> Bounds:
    return add(other, multiply(x, -alpha))


def _add_product(x: Bounds, tensor1: Bounds, tensor2: Bounds, *, value: float = 1) -> Bounds:
    return add(x, multiply(multiply(tensor1, tensor2), value))


def _divide(x: Bounds, other: Bounds | float, *, rounding_mode: str | None = None) -> Bounds:
    return divide(x, other) if rounding_mode is None else Bounds()


def _negative(x: Bounds) -> Bounds:
    return multiply(x, -1.0)


def _reciprocal(x: Bounds) -> Bounds:
    return divide(1.0, x)


def _reciprocal_root(x: Bounds) -> Bounds:
    return Bounds(0.0) if x.low > 0 else Bounds()  # that of -0.0 is minus infinity


def _pad_with_constant(x: Bounds, pad: Sequence[int], value: float = 0) -> Bounds:
    return hull(x, value)


def _average_pool(
    x: Bounds,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Bounds:
    # The zeros of the padding may count, and a divisor of its own need not be the number of terms.
    return hull(x, 0.0) if divisor_override is None else Bounds()


def _max_pool(
    x: Bounds,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Bounds:
    # A window with gaps may meet nothing but the padding, which is minus infinity.
    return x if set(dilation) == {1} else Bounds(high=x.high)


def _dropout(x: Bounds, p: float, train: bool | None) -> Bounds:
    return x if train is False else hull(0.0, divide(x, 1 - p) if p < 1 else 0.0)


# By the name of the operation without the "_" of its in-place twin. Several overloads share a name: a rule takes the
# arguments of all. Convolutions, matrix products and normalizations are absent: of these nothing is known.
RULES: Mapping[str, Rule] = {
    # The elements of the first argument, or averages of them.
    **dict.fromkeys(
        (
            *("clone", "_to_copy", "as_strided", "squeeze", "unsqueeze", "transpose", "t", "detach"),
            *("index", "index_select", "gather", "roll", "flip", "repeat", "sort", "topk"),
            *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
            *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
            *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
            *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
            *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
            *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
            *("mean", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
            *("amax", "amin"),
        ),
        _hull_of(0),
    ),
    **dict.fromkeys(("copy", "fill", "full", "full_like"), _hull_of(1)),
    "scalar_tensor": _hull_of(0),
    "new_full": _hull_of(2),
    "masked_fill": _hull_of(0, 2),
    "where": _where,
    "max": _extreme(maximum),
    "min": _extreme(minimum),
    **dict.fromkeys(("cat", "stack"), _hull_of_list),
    **dict.fromkeys(("im2col", "tril", "triu"), _hull_with_zero),
    **dict.fromkeys(("avg_pool2d", "avg_pool3d"), _average_pool),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices"), _max_pool),
    "constant_pad_nd": _pad_with_constant,
    "native_dropout": _dropout,
    # One range, whatever the arguments.
    **dict.fromkeys(("zeros", "zeros_like", "new_zeros", "zero"), _always(0.0, 0.0)),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), _always(1.0, 1.0)),
    **dict.fromkeys(("_softmax", "_safe_softmax", "bernoulli"), _always(0.0, 1.0)),
    **dict.fromkeys(("sin", "cos"), _always(-1.0, 1.0)),
    **dict.fromkeys(("linalg_vector_norm", "var", "std"), _always(0.0, math.inf)),
    "_log_softmax": _always(-math.inf, 0.0),
    **ACTIVATION_RULES,
    # Arithmetic.
    "add": _add,
    "sub": _subtract,
    "rsub": _subtract_from,
    "addcmul": _add_product,
    "mul": multiply,
    "div": _divide,
    "reciprocal": _reciprocal,
    "rsqrt": _reciprocal_root,
    "neg": _negative,
    "abs": absolute,
    "pow": power,
    "maximum": maximum,
    "minimum": minimum,
    **dict.fromkeys(("sum", "cumsum", "col2im"), _sum),
}
