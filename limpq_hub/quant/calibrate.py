"""Set step sizes from unlabelled images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from limpq_hub.errors import PolicyError, UnsupportedLayerError, quoted
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.least_error import SortedValues, least_error_grids
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.quantized import Quantized, quantized_layers
from limpq_hub.quant.quantizer import STEP_FLOOR, LsqQuantizer
from limpq_hub.quant.single_values import check_not_alone
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d
from limpq_hub.quant.tracing.forward_trace import copy_of
from limpq_hub.quant.watched_inputs import watched_inputs

# Values that one step is measured on at most, of all images together.
_SAMPLE = 2**18
# How the steps start that are then trained: by the published one-shot rules, or at the least squared rounding error.
StepStart: TypeAlias = Literal["lsq", "least-error"]


def start_steps_(model: nn.Module, images: Tensor, step_start: StepStart) -> None:
    """Set the steps of `model` to what training starts from.

    Args:
        model: a supernet or a quantized network, its weight steps at their initial values.
        images: [batch, 3, height, width], normalized.

    Raises:
        ValueError: there is no start of this name, or there are no images.
        UnsupportedLayerError: a layer is never called, or has an input or a weight that is no finite number; or, for
            "lsq", there is one image, of which a batch normalization has one value per channel.
    """
    if step_start not in get_args(StepStart):
        raise ValueError(
            f"step_start={quoted(step_start)} is not known: use {' or '.join(map(repr, get_args(StepStart)))}"
        )
    if not len(images):
        raise ValueError("there are no images in the batch: step sizes are set from one image or more")
    if step_start == "lsq":
        initialize_activation_steps_(model, images)
    else:
        initialize_steps_(model, [images])


@torch.no_grad()
def initialize_activation_steps_(model: nn.Module, images: Tensor) -> None:
    """Set every activation step of `model` to its initial value on one batch, the whole net at one bit-width at a time.

    Runs a copy of the model in train mode: nothing but the steps changes.

    Args:
        model: a supernet or a quantized network.
        images: [batch, 3, height, width], normalized.

    Raises:
        DataError: they are no tensor of images alone.
        UnsupportedLayerError: there is one image, of which a batch normalization has one value per channel, or a layer
            is never called, or has an input or a weight that is no finite number.
    """
    images = image_batch(images, "images", is_only_one=True)
    check_not_alone(model, images, UnsupportedLayerError, "an example_input of two images or more, or of a larger size")
    twin = copy_of(model).train()
    layers = dict(quantized_layers(twin))
    started: set[tuple[LsqQuantizer, int | None]] = set()

    def start(quantizer: LsqQuantizer, arguments: tuple[Tensor, ...]) -> None:
        """Set the step of the active bits, and note it."""
        _set_initial_step_(quantizer, arguments)
        started.add((quantizer, quantizer.bits))

    for layer in layers.values():
        for quantizer in _of_activations(layer):
            quantizer.register_forward_pre_hook(start)
    # In train mode dropout draws, where the images are.
    with torch.random.fork_rng([images.device] if images.device.type == "cuda" else []):
        for index in range(max(len(layer.activation_quantizer.candidates) for layer in layers.values())):
            for module in twin.modules():
                if isinstance(module, Quantized):
                    for quantizer in (module.weight_quantizer, module.activation_quantizer):
                        quantizer.bits = quantizer.candidates[min(index, len(quantizer.candidates) - 1)]
                elif isinstance(module, SwitchableBatchNorm2d):
                    module.bits = int(list(module.copies)[index])
            twin(images)
    for name, layer in layers.items():
        for quantizer in _of_activations(layer):
            if any((quantizer, bits) not in started for bits in quantizer.candidates):
                raise UnsupportedLayerError(
                    f"layer {name!r} does not quantize its input in train mode, in which steps are started: let the "
                    f"network call it in train mode too, leave it in float with exclude=[{name!r}], or start with "
                    'step_start="least-error"'
                )
    for name, layer in quantized_layers(model):
        for quantizer, initialized in zip(_of_activations(layer), _of_activations(layers[name]), strict=True):
            quantizer.load_state_dict(initialized.state_dict())
    for name, quantizer in _named_quantizers(model).items():
        _check_finite(name, quantizer, quantizer.step)


@torch.no_grad()
def initialize_steps_(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set every step of `model`, and every zero point, to those of least squared rounding error, at each bit-width.

    The error of an input is that on the values which it has in the float network: the quantizers are off, everything
    runs in eval mode. Nothing but steps and zero points changes.

    Args:
        model: a supernet or a quantized network.
        batches: image batches, [batch, 3, height, width], normalized.

    Raises:
        DataError: a batch is no tensor of images alone.
        UnsupportedLayerError: a layer is never called, or has an input or a weight that is no finite number.
    """
    quantizers = _named_quantizers(model)
    active_bits = {name: quantizer.bits for name, quantizer in quantizers.items()}
    try:
        for quantizer in quantizers.values():
            quantizer.bits = None
        values = _quantized_values(model, quantizers, batches)
    finally:
        for name, quantizer in quantizers.items():
            quantizer.bits = active_bits[name]
    for name, quantizer in quantizers.items():
        _set_least_error_(quantizer, quantizer.candidates, values[name])


@torch.no_grad()
def calibrate_steps_(model: nn.Module, layers: Iterable[str], batches: Iterable[Tensor]) -> None:
    """Set the steps of the named layers, and their zero points, to those of least squared error, at the active bits.

    Args:
        model: runs in eval mode, quantized as it is; only the steps of the named layers change.
        layers: names of quantized layers.
        batches: image batches, [batch, 3, height, width], normalized.

    Raises:
        DataError: a batch is no tensor of images alone.
        PolicyError: one of the layers runs in float.
        UnsupportedLayerError: one of the layers is never called, is frozen or of integers, or has an input or a weight
            that is no finite number.
    """
    all_layers = dict(quantized_layers(model))
    quantizers, active_bits = {}, {}
    for layer in layers:
        for name, quantizer in _named_quantizers(all_layers[layer]).items():
            if quantizer.bits is None:
                raise PolicyError(
                    f"layer {layer!r} runs in float and has no step to calibrate; set a policy with bits for it"
                )
            quantizers[f"{layer}.{name}"], active_bits[f"{layer}.{name}"] = quantizer, quantizer.bits
    values = _quantized_values(model, quantizers, batches)
    for name, quantizer in quantizers.items():
        _set_least_error_(quantizer, [active_bits[name]], values[name])


def _set_initial_step_(quantizer: LsqQuantizer, arguments: tuple[Tensor, ...]) -> None:
    """Forward pre-hook: set the step of the active bits from the values that are about to be quantized.

    The published rule knows no zero point: a grid with an offset starts at the least squared error.
    """
    if quantizer.bits is None:
        return
    if quantizer.grid == "offset":
        _set_least_error_(quantizer, [quantizer.bits], _drawn(arguments[0], _SAMPLE, torch.Generator().manual_seed(0)))
    else:
        quantizer.set_step_(quantizer.bits, quantizer.initial_step(arguments[0], quantizer.bits))


def _of_activations(layer: Quantized) -> list[LsqQuantizer]:
    """Return the quantizers of activations: one of a layer, two of a product."""
    return [quantizer for quantizer in (layer.weight_quantizer, layer.activation_quantizer) if quantizer.per_sample]


def _named_quantizers(module: nn.Module) -> dict[str, LsqQuantizer]:
    return {name: part for name, part in module.named_modules() if isinstance(part, LsqQuantizer)}


def _quantized_values(
    model: nn.Module, quantizers: Mapping[str, LsqQuantizer], batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Return what each quantizer was given to quantize while `model` ran on `batches` in eval mode.

    Of a weight with a step per channel that is all of it, in its own shape; else values at random positions, [values]:
    of a weight up to 2^18, of an input up to 2^18 divided by the number of batches of each call. The batches are held
    in memory.

    Raises:
        DataError: a batch is no tensor of images alone.
        UnsupportedLayerError: one of the quantizers is never called, or with what is no finite number.
        ValueError: there are no batches, or no images in them.
    """
    batches = [image_batch(images, "batches") for images in batches]
    if not sum(map(len, batches)):
        raise ValueError("no batches were given: step sizes are set from at least one batch of images")
    seen: dict[str, list[Tensor]] = {name: [] for name in quantizers}
    generator = torch.Generator().manual_seed(0)

    def sample(name: str, quantizer: LsqQuantizer, x: Tensor) -> None:
        """Keep values that a quantizer is called with: of inputs some of each batch, of a weight those of one call."""
        if quantizer.per_sample:
            seen[name].append(_drawn(x, _SAMPLE // len(batches), generator))
        else:
            seen[name] = [_drawn(x, _SAMPLE, generator) if quantizer.channels is None else x]

    # Eval mode empties the caches of quantized weights too: every weight is quantized once again.
    with watched_inputs(quantizers, sample), in_eval_mode(model):
        for images in batches:
            model(images)
    for name, values in seen.items():
        if not values:
            raise _never_called(name.rpartition(".")[0])
    drawn = {name: values[0] if len(values) == 1 else torch.cat(values) for name, values in seen.items()}
    for name, quantizer in quantizers.items():
        _check_finite(name, quantizer, drawn[name])
    return drawn


def _never_called(layer: str) -> UnsupportedLayerError:
    """Return the error for a layer whose quantizer was not called."""
    return UnsupportedLayerError(
        f"layer {layer!r} was never called, or is frozen as `load` returns it, or of integers: there are no values to "
        "set its steps from; of the latter two limpq_hub.quant.integer_layers.run_simulated_(model) makes layers as in "
        "training"
    )


def _check_finite(name: str, quantizer: LsqQuantizer, values: Tensor) -> None:
    """Raise `UnsupportedLayerError` where a step is set, or would be, from something else than finite numbers."""
    if not values.isfinite().all():
        layer, what = name.rpartition(".")[0], "an input" if quantizer.per_sample else "a weight"
        raise UnsupportedLayerError(
            f"layer {layer!r} has {what} that is not finite (nan or inf), of which no step size can be set: look at "
            "the weights of the network and at the images that were given"
        )


def _drawn(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return a copy of `count` values of a tensor at random positions, [values]; all of them where it has no more."""
    # Positions at equal distances would fall on the same columns or channels again and again.
    flat = x.flatten()
    if len(flat) <= count:
        return flat.clone()  # the network may write over its own
    return flat[torch.randint(len(flat), (count,), generator=generator).to(x.device)]


def _set_least_error_(quantizer: LsqQuantizer, bit_widths: Iterable[int], values: Tensor) -> None:
    """Set step and zero point at each of `bit_widths` to those of least squared error on `values`.

    The present step and the initial one are among those that are tried.
    """
    rows = SortedValues.of(quantizer.by_step(values))
    for bits in bit_widths:
        zero_points = range(2 ** (bits - 1) + 1) if quantizer.grid == "offset" else [quantizer.zero_point_of(bits)]
        tried = [step.reshape(-1) for step in (quantizer.step_of(bits), quantizer.initial_step(values, bits))]
        best = least_error_grids(rows, bits, zero_points, smallest=STEP_FLOOR, tried=tried)
        quantizer.set_step_(bits, best.steps.reshape(quantizer.step.shape[1:]))
        if quantizer.grid == "offset":
            quantizer.set_zero_point_(bits, int(best.zero_points))
