"""Which layers of a network can be quantized, and what one forward pass shows of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor, nn

from limpq_hub.errors import UnsupportedLayerError

QuantizableLayer: TypeAlias = nn.Conv2d | nn.Linear


@dataclass
class LayerTrace:
    """What one forward pass of one image shows of a layer; a layer that is called twice is counted twice.

    Attributes:
        macs: multiply-accumulate operations.
        macs_limpq: the same as the published script counts them.
        inputs: elements of its largest input.
    """

    macs: int = 0
    macs_limpq: int = 0
    inputs: int = 0


@dataclass(frozen=True)
class Trace:
    """What one forward pass shows of a network.

    Attributes:
        layers: what each convolution and linear layer did, in the order of execution.
        norm_feeds: for each batch normalization, by name, the convolution that ran last before it; those before the
            first convolution are absent.
    """

    layers: Mapping[str, LayerTrace]
    norm_feeds: Mapping[str, str]


def quantizable_layers(module: nn.Module) -> dict[str, QuantizableLayer]:
    """Return the convolution and linear layers by name.

    Raises:
        UnsupportedLayerError: a layer holds weights that cannot be quantized without changing what it computes;
            names each with its class.
    """
    layers: dict[str, QuantizableLayer] = {}
    unsupported = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            plain = type(layer).forward is nn.Conv2d.forward and type(layer)._conv_forward is nn.Conv2d._conv_forward
        elif isinstance(layer, nn.Linear):
            plain = type(layer).forward is nn.Linear.forward
        elif isinstance(layer, nn.modules.conv._ConvNd | nn.Bilinear | nn.RNNBase):
            plain = False
        else:
            continue
        # A parametrized weight (weight_norm, for one) is computed anew at every call.
        if plain and isinstance(layer, nn.Conv2d | nn.Linear) and "weight" in layer._parameters:
            layers[name] = layer
        else:
            unsupported.append(f"{name} ({type(layer).__name__})")
    if unsupported:
        raise UnsupportedLayerError(
            f"{_listed(unsupported)} cannot be quantized: only layers that compute what nn.Conv2d or nn.Linear compute "
            "can; replace them, or choose a network without them"
        )
    if not layers:
        raise UnsupportedLayerError(
            f"{type(module).__name__} has no nn.Conv2d or nn.Linear: there is nothing to quantize"
        )
    return layers


def trace(module: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    """Return what one forward pass shows, run on the meta device: shapes only, nothing is computed.

    Args:
        input_shape: of one sample without the batch dimension: (channels, height, width) of one image.

    Raises:
        UnsupportedLayerError: a layer is never called (or its weight is used through `F.linear`, behind its back).
    """
    twin = copy.deepcopy(module).to("meta").eval()
    layers = quantizable_layers(twin)
    traces: dict[str, LayerTrace] = {}
    norm_feeds: dict[str, str] = {}
    last_convolution = ""

    def count(name: str, x: Tensor, output: Tensor) -> None:
        nonlocal last_convolution
        layer, layer_trace = layers[name], traces.setdefault(name, LayerTrace())
        macs_per_output = layer.weight[0].numel()
        layer_trace.macs += prod(output.shape[1:]) * macs_per_output
        layer_trace.macs_limpq += _outputs_limpq(layer, x, output) * macs_per_output
        layer_trace.inputs = max(layer_trace.inputs, prod(x.shape[1:]))
        if isinstance(layer, nn.Conv2d):
            last_convolution = name

    def note_feed(name: str, x: Tensor, output: Tensor) -> None:
        if last_convolution:
            norm_feeds.setdefault(name, last_convolution)

    norms = {name: norm for name, norm in twin.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    with called_after_forward(layers, count), called_after_forward(norms, note_feed), torch.no_grad():
        twin(torch.empty(1, *input_shape, device="meta", dtype=next(twin.parameters()).dtype))
    uncalled = [name for name in layers if name not in traces]
    if uncalled:
        raise UnsupportedLayerError(
            f"{_listed(uncalled)}: the forward pass never calls these layers (their weights may be used through "
            "F.linear), so a quantizer in them would never run; choose a network that calls its layers"
        )
    return Trace(traces, norm_feeds)


@contextmanager
def called_after_forward(
    modules: Mapping[str, nn.Module], call: Callable[[str, Tensor, Tensor], None]
) -> Iterator[None]:
    """Inside the block, call `call(name, input, output)` after each forward pass of one of `modules`."""

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, inputs, output: call(name, inputs[0], output)

    handles = [module.register_forward_hook(hook_of(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _outputs_limpq(layer: nn.Module, x: Tensor, output: Tensor) -> int:
    """Return the outputs per image as the published script counts them: it rounds the area down, not each side."""
    if not isinstance(layer, nn.Conv2d) or isinstance(layer.padding, str):
        return prod(output.shape[1:])
    height, width = (
        (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1
        for size, padding, dilation, kernel, stride in zip(
            x.shape[-2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    )
    return layer.out_channels * int(height * width)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
