"""What each layer and each product of a network costs, of any module at an input size."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import isfinite

from torch import Tensor, nn

from limpq_hub.errors import UnsupportedLayerError, quoted
from limpq_hub.plan.costs import FIXED_BITS, FLOAT, LayerCost
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.layer_roles import role_of
from limpq_hub.quant.tracing.forward_trace import Trace, trace
from limpq_hub.quant.tracing.quantizable import check_patterns, is_excluded, layers_of


def measure_costs(
    module: nn.Module, input_shape: tuple[int, ...], *, exclude: Sequence[str] = (), fix: Sequence[str] = ()
) -> dict[str, LayerCost]:
    """Return the cost of all that a network multiplies, by name, in the order of execution.

    The first and the last layer are fixed at 8/8 bits; what cannot be quantized is fixed in float.

    Args:
        input_shape: (channels, height, width) of one image.
        exclude: shell patterns over the names of layers, products and modules that stay in float.
        fix: shell patterns over those that are fixed at 8/8 bits as well.

    Raises:
        UnsupportedLayerError: a layer cannot be quantized, there is none, or the network does not take such an input.
    """
    return costs_of(module, trace(module, input_shape, exclude), fix)


def profile_module(
    module: nn.Module, example_input: Tensor, *, exclude: Sequence[str] = (), fix: Sequence[str] = ()
) -> dict[str, LayerCost]:
    """Return what `measure_costs` returns for the size of `example_input`, [batch, 3, height, width].

    Raises:
        DataError: it is no tensor of images alone.
        UnsupportedLayerError: as of `measure_costs`.
    """
    input_shape = tuple(image_batch(example_input, "example_input", is_only_one=True).shape[1:])
    return measure_costs(module, input_shape, exclude=exclude, fix=fix)


def costs_of(module: nn.Module, traced: Trace, fix: Sequence[str] = ()) -> dict[str, LayerCost]:
    """Return the costs of what a trace of `module` shows; see `measure_costs`.

    Raises:
        UnsupportedLayerError: a pattern of `fix` matches nothing, or nothing but what stays in float.
    """
    layers = dict(layers_of(module))
    # A layer that is excluded keeps its place: the next one does not become the first.
    order = [name for name, operation in traced.operations.items() if operation.kind == "layer" or name in layers]
    ends = _first_and_last(module, order)
    quantized = {name for name, operation in traced.operations.items() if operation.kind != "float"}
    can_be_fixed = [*quantized, *(name for name, first in traced.ties.items() if first in quantized)]
    check_patterns("fix", fix, [*can_be_fixed, *traced.operations])
    for pattern in fix:
        if not any(is_excluded(name, [pattern]) for name in can_be_fixed):
            raise UnsupportedLayerError(
                f"fix: {quoted(pattern)} names only what stays in float: leave it out here, or in exclude"
            )
    costs, role = {}, None
    for name, operation in traced.operations.items():
        fixed = FIXED_BITS if name in ends or is_excluded(name, fix, traced.ties) else None
        if name in layers:
            role = role_of(layers[name], operation.inputs, role)
        costs[name] = LayerCost(
            macs=operation.macs,
            macs_limpq=operation.macs_limpq,
            weights=operation.weights,
            inputs=operation.inputs,
            signed=operation.low < 0,
            fixed=FLOAT if operation.kind == "float" else fixed,
            offset=operation.low < 0 and isfinite(operation.low),
            role=role if name in layers else None,
        )
    return costs


def _first_and_last(module: nn.Module, order: Sequence[str]) -> Collection[str]:
    """Return the layers at both ends: the first and the last that run, and all that timm names as such.

    Args:
        order: the layers in the order of execution.
    """
    names = {order[0], order[-1]} if order else set()
    config = getattr(module, "pretrained_cfg", None) or {}
    for key in ("first_conv", "classifier"):
        ends = config.get(key) or ()
        names |= {ends} if isinstance(ends, str) else set(ends)
    return names & set(order)
