"""Measure what each layer costs and whether its input can be negative, of any module at an input size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.costs import FIXED_BITS, LayerCost


@dataclass
class LayerTrace:
    """What one forward pass of one image shows of a layer."""

    macs: int = 0
    macs_limpq: int = 0
    inputs: int = 0


@dataclass(frozen=True)
class Trace:
    """What one forward pass shows of a network.

    Attributes:
        layers: what each convolution and linear layer did, in the order of execution.
        norm_feeds: for each batch normalization the convolution that ran last before it; those before the first
            convolution are absent.
    """

    layers: Mapping[str, LayerTrace]
    norm_feeds: Mapping[str, str]


def quantizable_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return the convolution and linear layers by name.

    Raises:
        UnsupportedLayerError: a layer holds weights that cannot be quantized without changing what it computes;
            names each with its class.
    """
    layers, refused = {}, []
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
        if plain and "weight" in layer._parameters:
            layers[name] = layer
        else:
            refused.append(f"{name} ({type(layer).__name__})")
    if refused:
        raise UnsupportedLayerError(
            f"{_listed(refused)} cannot be quantized: only layers that compute what nn.Conv2d or nn.Linear compute "
            "can; replace them, or choose a network without them"
        )
    if not layers:
        raise UnsupportedLayerError(
            f"{type(module).__name__} has no nn.Conv2d or nn.Linear: there is nothing to quantize"
        )
    return layers


def trace(module: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    """Return what one forward pass shows, run on the meta device: no memory and no time.

    Args:
        input_shape: (channels, height, width) of one image, or whatever one sample of `module` is.

    Raises:
        UnsupportedLayerError: a layer is never called (or its weight is used through `F.linear`, behind its back).
    """
    twin = copy.deepcopy(module).to("meta").eval()
    layers = quantizable_layers(twin)
    seen: dict[str, LayerTrace] = {}
    feeds: dict[str, str] = {}

    last_convolution = ""

    def count(name: str, layer: nn.Module, x: Tensor, output: Tensor) -> None:
        nonlocal last_convolution
        record = seen.setdefault(name, LayerTrace())
        per_output = layer.weight[0].numel()
        record.macs += prod(output.shape[1:]) * per_output
        record.macs_limpq += _outputs_limpq(layer, x, output) * per_output
        record.inputs = max(record.inputs, prod(x.shape[1:]))
        if isinstance(layer, nn.Conv2d):
            last_convolution = name

    def feed(name: str, norm: nn.Module, x: Tensor, output: Tensor) -> None:
        if last_convolution:
            feeds.setdefault(name, last_convolution)

    norms = {name: norm for name, norm in twin.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    with _watch(layers, count), _watch(norms, feed), torch.no_grad():
        twin(torch.empty(1, *input_shape, device="meta", dtype=next(twin.parameters()).dtype))
    never = [name for name in layers if name not in seen]
    if never:
        raise UnsupportedLayerError(
            f"{_listed(never)}: the forward pass never calls these layers (their weights may be used through "
            "F.linear), so a quantizer in them would never run; choose a network that calls its layers"
        )
    return Trace(seen, feeds)


def probe_signs(module: nn.Module, example_input: Tensor) -> dict[str, bool]:
    """Return for each layer whether its input was ever negative.

    Looks at two forward passes in eval mode: of `example_input` and of normal noise in its shape.

    Args:
        example_input: a batch as `module` takes it, [batch, 3, height, width] for a picture network.
    """
    signs: dict[str, bool] = {}

    def look(name: str, layer: nn.Module, x: Tensor, output: Tensor) -> None:
        signs[name] = signs.get(name, False) or bool((x < 0).any())

    twin = copy.deepcopy(module).eval()
    noise = torch.randn(example_input.shape, generator=torch.Generator().manual_seed(0)).to(example_input)
    with _watch(quantizable_layers(twin), look), torch.no_grad():
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
    layers, traced = quantizable_layers(module), trace(module, input_shape).layers
    fixed = _first_and_last(module, list(traced))
    return {
        name: LayerCost(
            macs=seen.macs,
            macs_limpq=seen.macs_limpq,
            weights=layers[name].weight.numel(),
            inputs=seen.inputs,
            signed=signs[name],
            fixed=FIXED_BITS if name in fixed else None,
        )
        for name, seen in traced.items()
    }


def profile_module(module: nn.Module, example_input: Tensor) -> dict[str, LayerCost]:
    """Return the cost of each layer by name, its sign probed with `example_input` [batch, 3, height, width].

    Raises:
        UnsupportedLayerError: a layer cannot be quantized, or is never called.
    """
    return measure_costs(module, tuple(example_input.shape[1:]), probe_signs(module, example_input))


def _outputs_limpq(layer: nn.Module, x: Tensor, output: Tensor) -> int:
    """Return the outputs per image as the published script counts them: it rounds down the area, not the sides."""
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
    """Return the layers at both ends: the first and the last that run, and all that timm names as such."""
    names = {order[0], order[-1]}
    config = getattr(module, "pretrained_cfg", None) or {}
    for key in ("first_conv", "classifier"):
        named = config.get(key) or ()
        names |= {named} if isinstance(named, str) else set(named)
    return names & set(order)


@contextmanager
def _watch(layers: Mapping[str, nn.Module], look: Callable[[str, nn.Module, Tensor, Tensor], None]):
    """Call `look(name, layer, input, output)` whenever one of `layers` runs."""

    def hook_of(name: str):
        return lambda layer, inputs, output: look(name, layer, inputs[0], output)

    handles = [layer.register_forward_hook(hook_of(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
