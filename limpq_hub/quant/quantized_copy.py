"""Make a quantized copy of a network: its layers turned into quantized ones, its products given quantizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.costs import Costs, LayerCost
from limpq_hub.quant.fake_quantization import Grid
from limpq_hub.quant.layers import QuantLayer, quantize_layer_
from limpq_hub.quant.products import QuantProduct, front_of, route_
from limpq_hub.quant.quantized import Quantized, check_names_are_free
from limpq_hub.quant.tracing.forward_trace import Trace, prepared_copy

BitWidths = tuple[int, ...]


def quantized_copy(
    module: nn.Module,
    traced: Trace,
    costs: Costs,
    bit_widths: Mapping[str, tuple[BitWidths, BitWidths]],
    *,
    per_channel: bool,
) -> nn.Module:
    """Return a copy of a network that is quantized wherever it multiplies.

    Args:
        traced: what the network multiplies.
        costs: of the same.
        bit_widths: candidates of the weight and of the input of each layer, of the second and of the first operand of
            each product; what is absent stays in float.
        per_channel: whether every output channel of a layer has a weight step of its own.

    Raises:
        UnsupportedLayerError: the network is quantized already, a layer computes a weight that cannot be stored, or a
            name that a quantized one has is taken.
    """
    if any(isinstance(part, Quantized) for part in module.modules()):
        raise UnsupportedLayerError(f"{type(module).__name__} is quantized already: give the float network")
    copied = prepared_copy(module)
    for name, (weight_candidates, activation_candidates) in bit_widths.items():
        grid = _grid(costs[name])
        if traced.operations[name].kind == "product":
            parent, _, own_name = name.rpartition(".")
            product = QuantProduct(activation_candidates, weight_candidates, grid)
            device = next(copied.parameters()).device
            if device.type != "meta":
                product.to(device)
            of_first, of_second = traced.operations[name].elements_per_sample
            product.activation_quantizer.elements_per_sample = of_first
            product.weight_quantizer.elements_per_sample = of_second
            copied.get_submodule(parent).add_module(own_name, product.train(copied.training))
            continue
        float_layer = copied.get_submodule(name)
        check_names_are_free(float_layer, name, QuantLayer)
        layer = quantize_layer_(float_layer)
        layer.computes_weight = traced.operations[name].computes_weight
        layer.constants = _constants_of(name, traced)
        with _naming(name, module):
            layer.add_quantizers_(weight_candidates, activation_candidates, grid=grid, per_channel=per_channel)
        layer.activation_quantizer.elements_per_sample = traced.operations[name].elements_per_sample[0]
    for name, first in traced.ties.items():
        shared = copied.get_submodule(first)
        if isinstance(shared, QuantLayer):
            check_names_are_free(copied.get_submodule(name), name, QuantLayer)
            layer = quantize_layer_(copied.get_submodule(name))
            layer.constants = _constants_of(name, traced)
            with _naming(name, module):
                layer.share_quantizers_(shared)
    for name, route in traced.routes.items():
        check_names_are_free(copied.get_submodule(name), name, front_of(route))
        route_(copied.get_submodule(name), route)
    return copied


@contextmanager
def _naming(name: str, module: nn.Module) -> Iterator[None]:
    """Inside the block, say of a layer that cannot be quantized which one it is, and what to do instead."""
    try:
        yield
    except UnsupportedLayerError as error:
        kind = type(module.get_submodule(name)).__name__
        raise UnsupportedLayerError(f'{name} ({kind}) {error}; leave it in float with exclude=["{name}"]') from error


def _constants_of(layer: str, traced: Trace) -> tuple[str, ...]:
    """Return the buffers of a layer that are multiplied by as they are, by their names in it."""
    return tuple(name.removeprefix(f"{layer}.") for name in traced.constants if name.rpartition(".")[0] == layer)


def _grid(cost: LayerCost) -> Grid:
    if cost.offset:
        return "offset"
    return "signed" if cost.signed else "unsigned"
