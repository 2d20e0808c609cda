"""Set step sizes from unlabelled images."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from limpq_hub.errors import PolicyError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.fake_quantization import quantize_to_integers
from limpq_hub.quant.layers import Quantized, quantized_layers
from limpq_hub.quant.modes import modes_restored
from limpq_hub.quant.quantizer import STEP_FLOOR, LsqQuantizer
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d

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
        for quantizer in _of_activations(layer):
            quantizer.register_forward_pre_hook(_set_initial_step_)
    for index in range(max(len(layer.activation_quantizer.candidates) for layer in layers.values())):
        for module in twin.modules():
            if isinstance(module, Quantized):
                for quantizer in (module.weight_quantizer, module.activation_quantizer):
                    quantizer.bits = quantizer.candidates[min(index, len(quantizer.candidates) - 1)]
            elif isinstance(module, SwitchableBatchNorm2d):
                module.bits = int(list(module.copies)[index])
        twin(images)
    for name, layer in quantized_layers(model):
        for quantizer, initialized in zip(_of_activations(layer), _of_activations(layers[name]), strict=True):
            quantizer.step.copy_(initialized.step)


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
    inputs: dict[LsqQuantizer, list[Tensor]] = {q: [] for layer in calibrated.values() for q in _of_activations(layer)}
    handles = [
        quantizer.register_forward_pre_hook(lambda own, arguments: inputs[own].append(arguments[0].float()))
        for quantizer in inputs
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
        for quantizer, bit_width in (
            (layer.weight_quantizer, bits[name].weight),
            (layer.activation_quantizer, bits[name].activation),
        ):
            values = torch.cat(inputs[quantizer]) if quantizer.per_sample else layer.effective_weight()
            quantizer.set_step_(bit_width, _least_error_step(quantizer, bit_width, values))


def _set_initial_step_(quantizer: LsqQuantizer, arguments: tuple[Tensor, ...]) -> None:
    """Forward pre-hook: set the step of the active bits from the values that are about to be quantized."""
    if quantizer.bits is not None:
        quantizer.set_step_(quantizer.bits, quantizer.initial_step(arguments[0], quantizer.bits))


def _of_activations(layer: Quantized) -> list[LsqQuantizer]:
    """Return the quantizers of activations: one of a layer, two of a product."""
    return [quantizer for quantizer in (layer.weight_quantizer, layer.activation_quantizer) if quantizer.per_sample]


def _active_bits(name: str, layer: Quantized) -> LayerBits:
    if layer.bits is None:
        raise PolicyError(f"layer {name!r} runs in float and has no step to calibrate; set a policy with bits for it")
    return layer.bits


def _least_error_step(quantizer: LsqQuantizer, bits: int, values: Tensor) -> Tensor:
    """Return the step of least squared rounding error of `values` at `bits`, shape [].

    The candidates are 80 clipping ranges, equally spaced up to the largest magnitude, and the present and the initial
    step.
    """
    largest = values.abs().max().clamp_min(STEP_FLOOR)
    clipped_steps = _CLIP_FRACTIONS.to(values) * largest / quantizer.range_of(bits)[1]
    steps = [*clipped_steps, quantizer.step_of(bits), quantizer.initial_step(values, bits)]
    errors = [
        (quantize_to_integers(values, step, *quantizer.range_of(bits)) * step - values).square_().mean()
        for step in steps
    ]
    return steps[int(torch.stack(errors).argmin())]
