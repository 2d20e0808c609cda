"""The tensors of a checkpoint: the weights of each layer as integers, in few bytes, and the step sizes of its grids."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from limpq_hub.errors import ArtifactFormatError, PolicyError, UnsupportedLayerError
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.entropy_coding import decode, encode
from limpq_hub.quant.fake_quantization import spread_over
from limpq_hub.quant.layers import QuantLayer, check_one_weight
from limpq_hub.quant.packing import pack, unpack
from limpq_hub.quant.quantized import Quantized, quantized_layers
from limpq_hub.quant.quantizer import LsqQuantizer
from limpq_hub.zoo.storable import check_keeps_weights, check_storable
from limpq_hub.zoo.tensors import own_state


def packed_tensors(model: nn.Module, policy: Policy) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint.

    Of each layer: `weight_coded` or `weight_packed`, the integers of its weight, see `stored_integers`; `weight_shape`;
    `weight_scale`, its step, or one for each output channel; `input_scale`; and `input_zero_point` where its input has
    one. Of a product `weight_scale` is the step of the second operand. All else as it is, and so the weight of a layer
    that something in float has too, such as an embedding.

    Raises:
        PolicyError: a quantized layer runs in float.
        UnsupportedLayerError: a tensor has a value that is not finite, a layer computes its weight from others, or
            layers that share a parameter make other weights of it.
    """
    check_keeps_weights(model)
    tensors, names, in_float = own_state(model), _parameter_names(model), _parameters_in_float(model)
    for name, layer in quantized_layers(model):
        for key in ("weight_quantizer.step", "activation_quantizer.step"):
            del tensors[f"{name}.{key}"]
        bits = policy.layers[name]
        if layer.bits is None:
            raise PolicyError(f"layer {name!r} runs in float, and is stored as integers: set a policy with bits for it")
        if isinstance(layer, QuantLayer) and not layer.effective_weight().isfinite().all():
            raise UnsupportedLayerError(
                f"layer {name!r} has a weight that is not finite (nan or inf), for which no integer stands: look at "
                "how the network was trained"
            )
        scale = layer.weight_quantizer.step_of(bits.weight).detach().reshape(-1)
        input_scale = layer.activation_quantizer.step_of(bits.activation).detach().reshape(1)
        if not (scale.isfinite().all() and input_scale.isfinite().all()):
            raise UnsupportedLayerError(
                f"layer {name!r} has a step that is not finite (nan or inf), of which no grid can be made: look at how "
                "the network was trained"
            )
        tensors |= {f"{name}.weight_scale": scale, f"{name}.input_scale": input_scale}
        zero_point = tensors.pop(f"{name}.activation_quantizer.zero_point", None)
        if zero_point is not None:
            tensors[f"{name}.input_zero_point"] = zero_point
        if isinstance(layer, QuantLayer):
            check_one_weight(model, name, layer)
            if layer.weight not in in_float:
                del tensors[names[layer.weight]]
            integers = layer.weight_integers(bits.weight)
            key, stored = stored_integers(integers.cpu().numpy(), bits.weight)
            tensors[f"{name}.{key}"] = torch.from_numpy(stored)
            tensors[f"{name}.weight_shape"] = torch.tensor(integers.shape)
    check_storable(model, tensors)
    return tensors


def stored_integers(integers: np.ndarray, bits: int) -> tuple[str, np.ndarray]:
    """Return the integers of a weight as a checkpoint stores them, whichever takes fewer bytes, with the name of it.

    "weight_coded" is what `limpq_hub.quant.entropy_coding` makes of them, "weight_packed" what
    `limpq_hub.quant.packing` does: less for the smallest layers, as a code is described in front of what it codes.

    Args:
        integers: whole numbers in -2^(b-1) .. 2^(b-1)-1, of any shape.
        bits: 2..8.
    """
    packed, coded = pack(integers, bits), encode(integers, bits)
    return ("weight_coded", coded) if coded.size < packed.size else ("weight_packed", packed)


def unpacked_tensors(model: nn.Module, policy: Policy, packed: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """Return the state of the network from the tensors of a checkpoint.

    Args:
        model: the network, whose layers have the bit-widths of `policy`; layers that compute their weight take the
            packed one from then on.
        file: what to call it in an error.

    Raises:
        ArtifactFormatError: a tensor is missing, of another shape or type, or not what `packed_tensors` makes.
    """
    tensors, names, in_float = dict(packed), _parameter_names(model), _parameters_in_float(model)

    def take(key: str, dtype: torch.dtype) -> Tensor:
        """Remove a tensor from `tensors`, and return it; raise an error if it is missing or of another type."""
        if key not in tensors:
            raise ArtifactFormatError(f"{file}: tensor {key} is missing")
        if tensors[key].dtype != dtype:
            raise ArtifactFormatError(f"{file}: tensor {key} is {tensors[key].dtype}, it must be {dtype}")
        return tensors.pop(key)

    for name, layer in list(quantized_layers(model)):
        scales = {key: take(f"{name}.{key}", torch.float32) for key in ("weight_scale", "input_scale")}
        for (key, scale), quantizer in zip(scales.items(), _quantizers(layer), strict=True):
            count = quantizer.step.numel()
            if scale.shape != (count,) or not bool(scale.isfinite().all() and (scale > 0).all()):
                numbers = "one number" if count == 1 else f"{count} numbers"
                raise ArtifactFormatError(f"{file}: tensor {name}.{key} must be {numbers} above 0")
        tensors[f"{name}.weight_quantizer.step"] = scales["weight_scale"].reshape(layer.weight_quantizer.step.shape)
        tensors[f"{name}.activation_quantizer.step"] = scales["input_scale"]
        if layer.activation_quantizer.grid == "offset":
            zero_point, most = take(f"{name}.input_zero_point", torch.int32), 2 ** (policy.layers[name].activation - 1)
            if zero_point.shape != (1,) or not 0 <= int(zero_point) <= most:
                raise ArtifactFormatError(
                    f"{file}: tensor {name}.input_zero_point must be one whole number from 0 to {most}"
                )
            tensors[f"{name}.activation_quantizer.zero_point"] = zero_point
        if isinstance(layer, QuantLayer):
            shape = take(f"{name}.weight_shape", torch.int64).tolist()
            if shape != list(layer.weight.shape):
                raise ArtifactFormatError(
                    f"{file}: layer {name} has weights of shape {shape}, the network needs {list(layer.weight.shape)}"
                )
            key = f"{name}.weight_packed" if f"{name}.weight_packed" in tensors else f"{name}.weight_coded"
            restored = unpack if key.endswith("packed") else decode
            try:
                integers = restored(take(key, torch.uint8).numpy(), policy.layers[name].weight, tuple(shape))
            except ArtifactFormatError as error:
                raise ArtifactFormatError(f"{file}: tensor {key}: {error}") from None
            own_name = names[layer.weight]
            # Versions before this one stored the integers alone; that is what their networks had in float as well.
            if own_name not in tensors or layer.weight not in in_float:
                scale = spread_over(layer.weight, scales["weight_scale"], layer.weight_quantizer.channel_dim)
                tensors[own_name] = torch.from_numpy(integers).to(scale.dtype) * scale
                _keep_weight_(model, layer)
    return tensors


def _parameter_names(model: nn.Module) -> dict[Tensor, str]:
    """Return the first name of each parameter, that of `own_state`; layers and others may share one."""
    return {parameter: name for name, parameter in model.named_parameters()}


def _parameters_in_float(model: nn.Module) -> set[Tensor]:
    """Return the parameters that a module has which is no quantized layer."""
    modules = (module for module in model.modules() if not isinstance(module, QuantLayer))
    return {parameter for module in modules for parameter in module.parameters(recurse=False)}


def _keep_weight_(model: nn.Module, layer: QuantLayer) -> None:
    """Let a layer, and those that share its weight, take its weight as it is from now on."""
    for module in model.modules():
        if isinstance(module, QuantLayer) and module.weight_quantizer is layer.weight_quantizer:
            module.computes_weight = False


def _quantizers(layer: Quantized) -> tuple[LsqQuantizer, LsqQuantizer]:
    return layer.weight_quantizer, layer.activation_quantizer
