"""Quantized products of two activations, and modules that make products or use weights by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.fake_quantization import Grid
from limpq_hub.quant.graph_nodes import is_traced, node_of
from limpq_hub.quant.layers import QuantLayer
from limpq_hub.quant.quantized import Quantized
from limpq_hub.quant.quantizer import LsqQuantizer
from limpq_hub.quant.tracing.operations import (
    ATTENTION,
    WEIGHT_OPERATIONS,
    Multiplication,
    attention,
    product,
    weighted,
)
from limpq_hub.quant.tracing.routes import Route


class QuantProduct(Quantized):
    """A product of two quantized activations, such as query and key, or attention and value.

    Args:
        first_candidates, second_candidates: bit-widths of the two operands, each in 2..8.
        grid: of the first operand; the second one can be negative.
    """

    def __init__(self, first_candidates: tuple[int, ...], second_candidates: tuple[int, ...], grid: Grid) -> None:
        super().__init__()
        self.activation_quantizer = LsqQuantizer(first_candidates, grid=grid, per_sample=True)
        self.weight_quantizer = LsqQuantizer(second_candidates, grid="signed", per_sample=True)

    def forward(self, call: Multiplication) -> Tensor:
        """Return the result of a call with both operands quantized."""
        return call.compute(self.activation_quantizer(call.first), self.weight_quantizer(call.second))


class Routed(nn.Module):
    """A module whose own multiplications run through quantized products and layers, in front of its class.

    Attributes:
        route: what it multiplies.
    """

    route: Route

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the class computes of the same arguments, what it multiplies being quantized."""
        if is_traced(*args, *kwargs.values()):
            return node_of(self, *args, **kwargs)
        with _RoutedCalls(self):
            return super().forward(*args, **kwargs)


def route_(module: nn.Module, route: Route) -> None:
    """Let a module multiply along `route` from now on, in place: its class is swapped for one in front of its own."""
    module_class: Any = type(module)
    module.__class__ = _routed_class(module_class)
    cast(Routed, module).route = route


@cache
def _routed_class(module_class: Any) -> Any:
    return type(f"Routed{module_class.__name__}", (Routed, module_class), {})


class _RoutedCalls(TorchFunctionMode):
    """Hands the multiplications of one call of a module to its products and layers."""

    def __init__(self, module: Routed) -> None:
        super().__init__()
        self._layers = [module.get_submodule(name) for name in module.route.layers]
        self._products: Iterator[nn.Module | None] = iter(
            [None if name is None else module.get_submodule(name) for name in module.route.products]
        )
        self._name = module.route.module

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        # Hidden from the modules around this one, each of which would route it as a multiplication of its own.
        with torch._C.DisableTorchFunction():
            if function in WEIGHT_OPERATIONS:
                return self._weighted(weighted(function, args, options))
            if function is ATTENTION:
                return attention(*args, **options, multiply_scores=self._product, multiply_values=self._product)
            call = product(function, args, options)
            if call is not None:
                return self._product(call)
        return function(*args, **options)

    def _weighted(self, call: Multiplication) -> Tensor:
        """Return the result of a convolution or linear map, by the quantized layer that its weight is of, if any."""
        for layer in self._layers:
            if isinstance(layer, QuantLayer) and layer.weight is call.second:
                return layer.multiply(call)
        return call.result()

    def _product(self, call: Multiplication) -> Tensor:
        """Return the result of a product of activations, by the next quantized product of the route."""
        try:
            quantized = next(self._products)
        except StopIteration:
            raise UnsupportedLayerError(
                f"{self._name} multiplies more activations than in the pass it was converted by; leave it in float "
                f'with exclude=["{self._name}"]'
            ) from None
        return call.result() if quantized is None else quantized(call)
