"""The operations that multiply and accumulate, as networks call them, and which of their arguments are multiplied."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# A convolution or linear map: of an input (argument 0) and a weight (argument 1).
CONVOLUTIONS: frozenset[Callable[..., Any]] = frozenset(
    {
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
        torch.conv_transpose1d,
        torch.conv_transpose2d,
        torch.conv_transpose3d,
    }
)
WEIGHT_OPERATIONS = CONVOLUTIONS | {functional.linear}

# A product of two activations, by the places of its two operands.
_PRODUCTS: Mapping[Callable[..., Any], tuple[int, int]] = {
    torch.matmul: (0, 1),
    Tensor.matmul: (0, 1),
    Tensor.__matmul__: (0, 1),
    torch.bmm: (0, 1),
    Tensor.bmm: (0, 1),
    torch.mm: (0, 1),
    Tensor.mm: (0, 1),
    torch.baddbmm: (1, 2),
    Tensor.baddbmm: (1, 2),
    torch.einsum: (1, 2),
}
ATTENTION = functional.scaled_dot_product_attention
BATCH_NORM = functional.batch_norm
_NAMES = {"input": 0, "weight": 1, "mat2": 1, "other": 1, "tensor2": 1, "batch1": 1, "batch2": 2}


@dataclass(frozen=True)
class Multiplication:
    """One call of a function that multiplies two tensors, the other arguments bound.

    Attributes:
        first, second: the two operands, the weight of a layer second.
        compute: the result, as a function of both operands.
    """

    first: Tensor
    second: Tensor
    compute: Callable[[Tensor, Tensor], Tensor]

    def result(self) -> Tensor:
        """Return the result of the operands as they are."""
        return self.compute(self.first, self.second)


def weighted(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Multiplication:
    """Return a call of one of `WEIGHT_OPERATIONS`: the input comes first, the weight second."""
    return _multiplication(function, (0, 1), args, kwargs)


def product(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    parameters: Collection[int] = frozenset(),
) -> Multiplication | None:
    """Return a call that multiplies two activations; None of any other function.

    A product with a parameter is none of them, one with a view of a parameter is: a table of relative positions.

    Args:
        parameters: identities of tensors that are parameters without being of that class.
    """
    places = _PRODUCTS.get(function)
    if places is None:
        return None
    if function is torch.einsum and len(args) == 2 and isinstance(args[1], list | tuple):
        args = (args[0], *args[1])
    if function is torch.einsum and len(args) != 3:
        return None  # of one tensor, or of more than two
    multiplication = _multiplication(function, places, args, kwargs)
    both = (multiplication.first, multiplication.second)
    multiplied = all(
        isinstance(x, Tensor) and not isinstance(x, torch.nn.Parameter) and id(x) not in parameters for x in both
    )
    return multiplication if multiplied else None


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    multiply_scores: Callable[[Multiplication], Tensor],
    multiply_values: Callable[[Multiplication], Tensor],
) -> Tensor:
    """Return scaled dot product attention, its two products left to functions.

    The query is scaled before its product with the key, as networks do that write attention out, so that step sizes
    fit both ways of writing it.

    Args:
        query: [batch, ..., heads, queries, channels].   key: [batch, ..., heads, keys, channels].
        value: [batch, ..., heads, keys, value channels].
        attn_mask: added to the scores, or False where they are left out; it must broadcast to [..., queries, keys].
        multiply_scores, multiply_values: how the two products are made.

    Source: `torch.nn.functional.scaled_dot_product_attention`, whose arguments these are.
    """
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = multiply_scores(Multiplication(scaled, key.transpose(-2, -1), torch.matmul))
    if is_causal:
        attn_mask = scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = functional.dropout(scores.softmax(-1), dropout_p)
    return multiply_values(Multiplication(weights, value, torch.matmul))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return what a batch normalization gives on the meta device: a tensor of the shape of `input`.

    PyTorch takes it apart into a dozen operations there, none of which multiplies two activations or bounds the result.
    Where statistics are moved or missing, or shape, type or device differ, PyTorch computes it, with its errors.

    Args:
        input: [batch, channels, ...].
        running_mean, running_var, weight, bias: [channels], of the type of `input`, or None.
        training, momentum, eps: as PyTorch has them.

    Source: `torch.nn.functional.batch_norm`, whose arguments these are.
    """
    tensors = [tensor for tensor in (running_mean, running_var, weight, bias) if tensor is not None]
    fits = input.ndim > 1 and all(
        tensor.shape == input.shape[1:2] and tensor.dtype == input.dtype for tensor in tensors
    )
    on_meta = all(tensor.is_meta for tensor in (input, *tensors))
    if training or running_mean is None or running_var is None or not fits or not on_meta:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return torch.empty_like(input)


def _multiplication(
    function: Callable[..., Any], places: tuple[int, int], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Multiplication:
    """Return a call whose operands are at two places, given by position or by name."""
    named = {_NAMES[name]: value for name, value in kwargs.items() if name in _NAMES}
    options = {name: value for name, value in kwargs.items() if name not in _NAMES}
    arguments = dict(enumerate(args)) | named
    positional = [arguments.pop(place) for place in range(max(places) + 1)]
    first, second = places

    def compute(first_operand: Tensor, second_operand: Tensor) -> Tensor:
        positional[first], positional[second] = first_operand, second_operand
        return function(*positional, *(arguments[place] for place in sorted(arguments)), **options)

    return Multiplication(positional[first], positional[second], compute)
