"""Measure what each layer costs and whether its input can be negative, of any module at an input size."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from limpq_hub.plan.costs import FIXED_BITS, LayerCost
from limpq_hub.quant.tracing import called_after_forward, quantizable_layers, trace


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
    with called_after_forward(quantizable_layers(twin), note_sign), torch.no_grad():
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
