"""Set step sizes and BatchNorm statistics from unlabelled images."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from limpq_hub.quant.layers import QuantLayer, SwitchableBatchNorm2d, quantized_layers
from limpq_hub.quant.quantizer import STEP_FLOOR, LsqQuantizer, quantization_range, quantize_to_integers

# Fractions of the largest magnitude that a calibrated grid may end at.
_CLIP_FRACTIONS = torch.arange(1, 81) / 80


@torch.no_grad()
def initialize_activation_steps_(model: nn.Module, images: Tensor) -> None:
    """Set every activation step of `model` to its initial value on one batch, the whole net at one bit-width at a time.

    Runs a copy of the model in train mode: nothing but the steps changes.

    Args:
        images: [batch, 3, height, width], normalized.
    """
    twin = copy.deepcopy(model).train()
    layers = dict(quantized_layers(twin))
    for layer in layers.values():
        layer.activation_quantizer.initializing = True
    for turn in range(max(len(layer.activation_quantizer.candidates) for layer in layers.values())):
        for module in twin.modules():
            if isinstance(module, QuantLayer):
                for quantizer in (module.weight_quantizer, module.activation_quantizer):
                    quantizer.bits = quantizer.candidates[min(turn, len(quantizer.candidates) - 1)]
            elif isinstance(module, SwitchableBatchNorm2d):
                module.bits = int(list(module.copies)[turn])
        twin(images)
    for name, layer in quantized_layers(model):
        layer.activation_quantizer.step.copy_(layers[name].activation_quantizer.step)


@torch.no_grad()
def calibrate_steps_(model: nn.Module, layers: Iterable[str], batches: Iterable[Tensor]) -> None:
    """Set the steps of the named layers to those of least squared rounding error, at the active bits.

    Args:
        batches: image batches, [batch, 3, height, width], normalized.
    """
    found = dict(quantized_layers(model))
    wanted = {name: found[name] for name in layers}
    inputs: dict[str, list[Tensor]] = {name: [] for name in wanted}
    handles = [
        layer.register_forward_pre_hook(lambda _, arguments, name=name: inputs[name].append(arguments[0].float()))
        for name, layer in wanted.items()
    ]
    with modes_restored(model):
        model.eval()
        try:
            for images in batches:
                model(images)
        finally:
            for handle in handles:
                handle.remove()
    for name, layer in wanted.items():
        for quantizer, values in (
            (layer.weight_quantizer, layer.weight),
            (layer.activation_quantizer, torch.cat(inputs[name])),
        ):
            quantizer.set_step_(quantizer.bits, _least_error_step(quantizer, values))


@torch.no_grad()
def recalibrate_batch_norm_(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the statistics of every active BatchNorm by their plain average over `batches`.

    Args:
        batches: unlabelled image batches, [batch, 3, height, width], normalized as the model takes them.

    Returns:
        The number of images seen; with none, the statistics stay as they were.
    """
    norms = _active_batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    seen = 0
    with modes_restored(model):
        model.eval()
        try:
            for images in batches:
                if not seen:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.momentum = None
                        norm.train()
                model(images)
                seen += len(images)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return seen


@contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Put every module back into its own train or eval mode at the end."""
    training = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, was_training in training.items():
            module.training = was_training


def _active_batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    switches = [module for module in model.modules() if isinstance(module, SwitchableBatchNorm2d)]
    idle = {norm for switch in switches for norm in switch.copies.values() if norm is not switch.active}
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d) and module not in idle]
    return [norm for norm in norms if norm.track_running_stats]


def _least_error_step(quantizer: LsqQuantizer, values: Tensor) -> Tensor:
    """Return the best of many steps, the present and the initial one among them."""
    bits, signed = quantizer.bits, quantizer.signed
    largest = values.abs().max().clamp_min(STEP_FLOOR)
    grid = _CLIP_FRACTIONS.to(values) * largest / quantization_range(bits, signed=signed)[1]
    steps = [*grid, quantizer.step_of(bits), quantizer.initial_step(values, bits)]
    errors = [
        (quantize_to_integers(values, step, bits, signed=signed) * step - values).square_().mean() for step in steps
    ]
    return steps[int(torch.stack(errors).argmin())]
