"""safetensors in memory, and strict loading into a network."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.quant.quantizer import LsqQuantizer

# Those that every operation knows: floating point, and whole numbers.
_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_DTYPES |= {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the tensors as the content of a safetensors file."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def tensors_from_bytes(data: bytes, name: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        ArtifactFormatError: the data is not safetensors.
    """
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactFormatError(f"{name} is not a safetensors file: {str(error)[:100]}") from None


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network, each tensor under its first name; layers may share a weight."""
    first_names = {name for name, _ in module.named_parameters()} | {name for name, _ in module.named_buffers()}
    return {name: value for name, value in module.state_dict().items() if name in first_names}


def step_names(module: nn.Module) -> set[str]:
    """Return the names of the step sizes of quantizers; a network may have a parameter called `step` of its own."""
    return {f"{name}.step" for name, part in module.named_modules() if isinstance(part, LsqQuantizer)}


def is_storable(dtype: torch.dtype) -> bool:
    """Return whether an artifact can hold tensors of a type."""
    return dtype in _DTYPES


def is_in_range(key: str, value: Tensor, steps: Collection[str]) -> bool:
    """Return whether every number of a tensor is finite, of step sizes above 0 and of variances not below.

    Args:
        key: name of the tensor in its network.
        steps: the names of those that are step sizes, see `step_names`.
    """
    if key in steps and not bool((value > 0).all()):
        return False
    if key.endswith(".running_var") and not bool((value >= 0).all()):
        return False
    return bool(value.isfinite().all())


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Copy `tensors` into `module`: exactly its names and shapes, whole numbers as such, floating point of any width.

    Raises:
        ArtifactFormatError: a tensor is missing, foreign, of another shape, or not finite; nothing is copied.
    """
    state, steps = own_state(module), step_names(module)
    for key in state.keys() - tensors.keys():
        raise ArtifactFormatError(f"{name}: tensor {key} is missing")
    for key in tensors.keys() - state.keys():
        raise ArtifactFormatError(f"{name}: tensor {key} is not part of the network")
    for key, value in state.items():
        tensor = tensors[key]
        if tensor.shape != value.shape or tensor.is_floating_point() != value.is_floating_point():
            raise ArtifactFormatError(
                f"{name}: tensor {key} is {tensor.dtype} {list(tensor.shape)}, the network needs {list(value.shape)}"
            )
        if not is_storable(tensor.dtype):
            raise ArtifactFormatError(f"{name}: tensor {key} is {tensor.dtype}, which no artifact has")
        # As the network will hold it: what a wider number has can be infinite there, or 0.
        tensor = tensor.to(value)
        # What a network is built with may be infinite.
        if tensor.is_floating_point() and not (is_in_range(key, tensor, steps) or torch.equal(tensor, value)):
            raise ArtifactFormatError(
                f"{name}: tensor {key} has a value that is not finite, or a step or variance below 0"
            )
    with torch.no_grad():
        for key, value in state.items():
            value.copy_(tensors[key])
