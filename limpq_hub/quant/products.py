"""Quantized products of two activations, and modules that make products or use weights by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.fake_quantization import Grid
from limpq_hub.quant.graph_nodes import is_traced, node_of
from limpq_hub.quant.layers import QuantLayer, replicated_parameters
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
        """Return what the class computes of the same arguments, what it multiplies being quantized.

        Raises:
            UnsupportedLayerError: it makes more or fewer products than in the pass it was converted by.
        """
        if is_traced(*args, *kwargs.values()):
            return node_of(self, *args, **kwargs)
        calls = _RoutedCalls(self)
        with calls:
            output = super().forward(*args, **kwargs)
        calls.check_number()
        return output


class InFloat(nn.Module):
    """A module in float inside of a routed one, in front of its class: what it multiplies is not counted there."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the class computes of the same arguments."""
        if is_traced(*args, *kwargs.values()):
            return super().forward(*args, **kwargs)
        with _HiddenCalls(self):
            return super().forward(*args, **kwargs)


def front_of(route: Route) -> type[nn.Module]:
    """Return the class that is put in front of that of a module: one in float has nothing on its route."""
    return Routed if route.layers or route.products else InFloat


def route_(module: nn.Module, route: Route) -> None:
    """Let a module multiply along `route` from now on, in place: its class is swapped for one in front of its own."""
    module_class: Any = type(module)
    front: Any = front_of(route)
    module.__class__ = _class_behind(front, module_class)
    if front is Routed:
        cast(Routed, module).route = route


@cache
def _class_behind(front: Any, module_class: Any) -> Any:
    return type(f"{front.__name__}{module_class.__name__}", (front, module_class), {})


class _HiddenCalls(TorchFunctionMode):
    """Hides what one call of a module multiplies from the modules around, which would count it on their routes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._parameters = replicated_parameters(module)

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        multiplies = function in WEIGHT_OPERATIONS or function is ATTENTION
        if multiplies or product(function, args, options, self._parameters) is not None:
            with torch._C.DisableTorchFunction():
                return function(*args, **options)
        return function(*args, **options)


class _RoutedCalls(TorchFunctionMode):
    """Hands the multiplications of one call of a module to its products and layers."""

    def __init__(self, module: Routed) -> None:
        super().__init__()
        self._layers = [module.get_submodule(name) for name in module.route.layers]
        self._products = [None if name is None else module.get_submodule(name) for name in module.route.products]
        self._parameters = replicated_parameters(module)
        self._made = 0
        self._route = module.route

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
            call = product(function, args, options, self._parameters)
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
        quantized = self._products[self._made] if self._made < len(self._products) else None
        self._made += 1
        return call.result() if quantized is None else quantized(call)

    def check_number(self) -> None:
        """Raise `UnsupportedLayerError` if another number of products was made than is in the route.

        Some may have had the bits of others, unless all stay in float. It is told after the call: Python would take an
        error of this class inside `@` as that of an operand of an unknown type.
        """
        if self._made == len(self._products) or not any(self._route.products):
            return
        compared = "more" if self._made > len(self._products) else "fewer"
        left = [self._route.module] if self._route.module else [name for name in self._route.products if name]
        raise UnsupportedLayerError(
            f"{self._route.module or 'the network'} multiplies {compared} activations than in the pass it was "
            f"converted by; exclude {json.dumps(left)} as well, so that it stays in float"
        )
