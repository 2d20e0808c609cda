"""Set step sizes from unlabelled images."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from limpq_hub.errors import PolicyError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.fake_quantization import quantization_range, quantize_to_integers
from limpq_hub.quant.layers import QuantLayer, SwitchableBatchNorm2d, quantized_layers
from limpq_hub.quant.modes import modes_restored
from limpq_hub.quant.quantizer import STEP_FLOOR, LsqQuantizer

# The fractions of the largest magnitude that are tried as the end of a calibrated grid; what lies beyond is clipped.
_CLIP_FRACTIONS = torch.arange(1, 81) / 80


@torch.no_grad()
def initialize_activation_steps_(model: nn.Module, images: Tensor) -> None:
    """Set every activation step of `model` to its initial value on one batch, the whole net at one bit-width at a time.

    Runs a copy of the model in train mode: nothing but the steps changes.

    Args:
        model: a supernet or a quantized network.
        images: [batch, 3, height, width], normalized.
    """
    twin = copy.deepcopy(model).train()
    layers = dict(quantized_layers(twin))
    for layer in layers.values():
        layer.activation_quantizer.register_forward_pre_hook(_set_initial_step_)
    for index in range(max(len(layer.activation_quantizer.candidates) for layer in layers.values())):
        for module in twin.modules():
            if isinstance(module, QuantLayer):
                for quantizer in (module.weight_quantizer, module.activation_quantizer):
                    quantizer.bits = quantizer.candidates[min(index, len(quantizer.candidates) - 1)]
            elif isinstance(module, SwitchableBatchNorm2d):
                module.bits = int(list(module.copies)[index])
        twin(images)
    for name, layer in quantized_layers(model):
        layer.activation_quantizer.step.copy_(layers[name].activation_quantizer.step)


@torch.no_grad()
def calibrate_steps_(model: nn.Module, layers: Iterable[str], batches: Iterable[Tensor]) -> None:
    """Set the steps of the named layers to those of least squared rounding error, at the active bits.

    Args:
        model: runs in eval mode; only the steps of the named layers change.
        layers: names of quantized layers.
        batches: image batches, [batch, 3, height, width], normalized.

    Raises:
        PolicyError: one of the layers runs in float.
    """
    all_layers = dict(quantized_layers(model))
    calibrated = {name: all_layers[name] for name in layers}
    bits = {name: _active_bits(name, layer) for name, layer in calibrated.items()}
    inputs: dict[str, list[Tensor]] = {name: [] for name in calibrated}
    handles = [
        layer.register_forward_pre_hook(lambda _, arguments, name=name: inputs[name].append(arguments[0].float()))
        for name, layer in calibrated.items()
    ]
    with modes_restored(model):
        model.eval()
        try:
            for images in batches:
                model(images)
        finally:
            for handle in handles:
                handle.remove()
    for name, layer in calibrated.items():
        for quantizer, bit_width, values in (
            (layer.weight_quantizer, bits[name].weight, layer.weight),
            (layer.activation_quantizer, bits[name].activation, torch.cat(inputs[name])),
        ):
            quantizer.set_step_(bit_width, _least_error_step(quantizer, bit_width, values))


def _set_initial_step_(quantizer: LsqQuantizer, arguments: tuple[Tensor, ...]) -> None:
    """Forward pre-hook: set the step of the active bits from the values that are about to be quantized."""
    if quantizer.bits is not None:
        quantizer.set_step_(quantizer.bits, quantizer.initial_step(arguments[0], quantizer.bits))


def _active_bits(name: str, layer: QuantLayer) -> LayerBits:
    if layer.bits is None:
        raise PolicyError(f"layer {name!r} runs in float and has no step to calibrate; set a policy with bits for it")
    return layer.bits


def _least_error_step(quantizer: LsqQuantizer, bits: int, values: Tensor) -> Tensor:
    """Return the step of least squared rounding error of `values` at `bits`, shape [].

    The candidates are 80 clipping ranges, equally spaced up to the largest magnitude, and the present and the initial
    step.
    """
    signed = quantizer.signed
    largest = values.abs().max().clamp_min(STEP_FLOOR)
    clipped_steps = _CLIP_FRACTIONS.to(values) * largest / quantization_range(bits, signed=signed)[1]
    steps = [*clipped_steps, quantizer.step_of(bits), quantizer.initial_step(values, bits)]
    errors = [
        (quantize_to_integers(values, step, bits, signed=signed) * step - values).square_().mean() for step in steps
    ]
    return steps[int(torch.stack(errors).argmin())]
