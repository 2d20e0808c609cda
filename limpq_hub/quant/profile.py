"""Measure what each layer costs and whether its input can be negative, of any module at an input size."""

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
from limpq_hub.plan.costs import FIXED_BITS, LayerCost

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
    with _called_after_forward(layers, count), _called_after_forward(norms, note_feed), torch.no_grad():
        twin(torch.empty(1, *input_shape, device="meta", dtype=next(twin.parameters()).dtype))
    uncalled = [name for name in layers if name not in traces]
    if uncalled:
        raise UnsupportedLayerError(
            f"{_listed(uncalled)}: the forward pass never calls these layers (their weights may be used through "
            "F.linear), so a quantizer in them would never run; choose a network that calls its layers"
        )
    return Trace(traces, norm_feeds)


def probe_signs(module: nn.Module, example_input: Tensor) -> dict[str, bool]:
    """Return for each layer, by name, whether its input was ever negative.

    Runs two forward passes in eval mode: of `example_input` and of normal noise in its shape.

    Args:
        example_input: a batch as `module` takes it, [batch, 3, height, width] for an image network.

    Raises:
        UnsupportedLayerError: a layer cannot be quantized.
    """
    signs: dict[str, bool] = {}

    def note_sign(name: str, x: Tensor, output: Tensor) -> None:
        signs[name] = signs.get(name, False) or bool((x < 0).any())

    twin = copy.deepcopy(module).eval()
    noise = torch.randn(example_input.shape, generator=torch.Generator().manual_seed(0)).to(example_input)
    with _called_after_forward(quantizable_layers(twin), note_sign), torch.no_grad():
        twin(example_input)
        twin(noise)
    return signs


def measure_costs(module: nn.Module, input_shape: tuple[int, ...], signs: Mapping[str, bool]) -> dict[str, LayerCost]:
    """Return the cost of each layer by name, in the order of execution; the first and the last are fixed at 8/8 bits.

    Args:
        input_shape: (channels, height, width) of one image.
        signs: whether each layer's input can be negative, from `probe_signs`.

    Raises:
        UnsupportedLayerError: a layer cannot be quantized, or is never called.
    """
    layers, traces = quantizable_layers(module), trace(module, input_shape).layers
    fixed = _first_and_last(module, list(traces))
    return {
        name: LayerCost(
            macs=layer_trace.macs,
            macs_limpq=layer_trace.macs_limpq,
            weights=layers[name].weight.numel(),
            inputs=layer_trace.inputs,
            signed=signs[name],
            fixed=FIXED_BITS if name in fixed else None,
        )
        for name, layer_trace in traces.items()
    }


def profile_module(module: nn.Module, example_input: Tensor) -> dict[str, LayerCost]:
    """Return the cost of each layer by name, its sign probed with `example_input` [batch, 3, height, width].

    Raises:
        UnsupportedLayerError: a layer cannot be quantized, or is never called.
    """
    return measure_costs(module, tuple(example_input.shape[1:]), probe_signs(module, example_input))


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


def _first_and_last(module: nn.Module, order: list[str]) -> set[str]:
    """Return the layers at both ends: the first and the last that run, and all that timm names as such.

    Args:
        order: the layers in the order of execution.
    """
    names = {order[0], order[-1]}
    config = getattr(module, "pretrained_cfg", None) or {}
    for key in ("first_conv", "classifier"):
        ends = config.get(key) or ()
        names |= {ends} if isinstance(ends, str) else set(ends)
    return names & set(order)


@contextmanager
def _called_after_forward(
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


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
