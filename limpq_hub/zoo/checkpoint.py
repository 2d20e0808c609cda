"""A checkpoint folder: one fine-tuned policy as `config.json`, `policy.json` and bit-packed `model.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limpq_hub.errors import ArtifactFormatError, ArtifactIntegrityError, PolicyError, quoted
from limpq_hub.plan.costs import Costs
from limpq_hub.plan.jsonfile import check_shape, errors_naming, write_bytes, write_json
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops, total_size_bits
from limpq_hub.quant.convert import build_quantized, read_policy
from limpq_hub.quant.fake_quantization import quantize_to_integers
from limpq_hub.quant.layers import quantized_layers
from limpq_hub.quant.packing import pack, unpack
from limpq_hub.zoo.folder import SealedFolder, seal_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import load_strictly, tensors_from_bytes, tensors_to_bytes

KIND = "checkpoint"
_WEIGHTS = "model.safetensors"
FILES = ("policy.json", _WEIGHTS, "metrics.json")


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    costs: Costs,
    *,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a quantized network: what the weights are on their grids, packed, and nothing that is not needed to run.

    Args:
        model: timm network with one bit-width per layer, from `to_quantized` or `select_policy`.
        costs: cost of each layer.
        metrics: measured figures, written to `metrics.json`.
        provenance: how the checkpoint came about.
    """
    spec = NetworkSpec.of(model)
    bits = read_policy(model)
    policy = Policy(bits.model, {name: bits.layers[name] for name in costs}, spec.input_size)
    write_json(folder / "policy.json", policy.to_json())
    write_bytes(folder / _WEIGHTS, tensors_to_bytes(_packed(model, policy)))
    if metrics is not None:
        write_json(folder / "metrics.json", metrics)
    config = spec.to_config() | {
        **_counted(policy, costs),
        "signed_inputs": [name for name, cost in costs.items() if cost.signed],
        "provenance": dict(provenance or {}),
    }
    seal_folder(folder, KIND, config, FILES)


def read_checkpoint_policy(folder: SealedFolder) -> Policy:
    """Return the policy of a checkpoint, without its weights.

    Raises:
        ArtifactError: its file is damaged, or holds no policy.
    """
    content = folder.read_json("policy.json")
    with errors_naming(f"{folder.name}/policy.json"):
        return Policy.from_json(content)


def load_checkpoint(folder: SealedFolder) -> tuple[nn.Module, Policy]:
    """Return the quantized network in eval mode, and its policy, after recounting all that the folder claims.

    Raises:
        ArtifactError: a file is damaged, or does not fit the network; nothing is half-loaded.
    """
    spec = NetworkSpec.from_config(folder.config, folder.name)
    check_shape(folder.config, {"signed_inputs": [str]}, f"{folder.name}/config.json")
    module, signed = spec.build(), folder.config["signed_inputs"]
    costs = spec.costs(module, signed)
    if not set(signed) <= set(costs):
        raise ArtifactFormatError(f"{folder.name}/config.json: signed_inputs names layers that the network has not")
    policy = read_checkpoint_policy(folder)
    with errors_naming(f"{folder.name}/policy.json"):
        if (policy.model, policy.input_size) != (spec.architecture, spec.input_size):
            raise PolicyError(f"the policy is for {quoted(policy.model)} at {policy.input_size} pixels")
        quantized = build_quantized(module, policy, costs)
    for key, value in _counted(policy, costs).items():
        if folder.config.get(key) != value:
            raise ArtifactIntegrityError(
                f"{folder.name}: config.json says {key} {folder.config.get(key)!r}, a recount gives {value!r}"
            )
    name = f"{folder.name}/{_WEIGHTS}"
    packed = tensors_from_bytes(folder.read(_WEIGHTS), name)
    load_strictly(quantized, _unpacked(quantized, policy, packed, name), name)
    return quantized.eval(), policy


def _counted(policy: Policy, costs: Costs) -> dict[str, Any]:
    """Return what `config.json` claims of a policy, counted afresh."""
    return {
        "policy_sha256": policy.digest(),
        "bitops": total_bitops(costs, policy),
        "size_bytes": -(-total_size_bits(costs, policy) // 8),
    }


def _packed(model: nn.Module, policy: Policy) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint: of each layer its weights as integers, and its two step sizes."""
    tensors = dict(model.state_dict())
    for name, layer in quantized_layers(model):
        del tensors[f"{name}.weight_quantizer.step"], tensors[f"{name}.activation_quantizer.step"]
        weight = tensors.pop(f"{name}.weight")
        bits = policy.layers[name].weight
        scale = layer.weight_quantizer.step_of(bits).detach().reshape(1)
        input_scale = layer.activation_quantizer.step_of(policy.layers[name].activation).detach().reshape(1)
        integers = quantize_to_integers(weight, scale[0], *layer.weight_quantizer.range_of(bits)).to(torch.int8)
        tensors[f"{name}.weight_packed"] = torch.from_numpy(pack(integers.cpu().numpy(), bits))
        tensors[f"{name}.weight_scale"] = scale
        tensors[f"{name}.weight_shape"] = torch.tensor(weight.shape)
        tensors[f"{name}.input_scale"] = input_scale
    return tensors


def _unpacked(model: nn.Module, policy: Policy, packed: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """Return the state of the network from the tensors of a checkpoint.

    Args:
        model: the network, whose layers have the bit-widths of `policy`.
        file: what to call it in an error.
    """
    tensors = dict(packed)
    weight_bits = {name: bits.weight for name, bits in policy.layers.items()}

    def take(key: str, dtype: torch.dtype) -> Tensor:
        if key not in tensors:
            raise ArtifactFormatError(f"{file}: tensor {key} is missing")
        if tensors[key].dtype != dtype:
            raise ArtifactFormatError(f"{file}: tensor {key} is {tensors[key].dtype}, it must be {dtype}")
        return tensors.pop(key)

    for name, layer in list(quantized_layers(model)):
        shape = tuple(take(f"{name}.weight_shape", torch.int64).tolist())
        if shape != tuple(layer.weight.shape):
            raise ArtifactFormatError(
                f"{file}: layer {name} has weights of shape {list(shape)}, the network needs {list(layer.weight.shape)}"
            )
        scales = {key: take(f"{name}.{key}", torch.float32) for key in ("weight_scale", "input_scale")}
        for key, scale in scales.items():
            if scale.shape != (1,) or not bool(scale.isfinite().all() and (scale > 0).all()):
                raise ArtifactFormatError(f"{file}: tensor {name}.{key} must be one number above 0")
        try:
            integers = unpack(take(f"{name}.weight_packed", torch.uint8).numpy(), weight_bits[name], shape)
        except ArtifactFormatError as error:
            raise ArtifactFormatError(f"{file}: tensor {name}.weight_packed: {error}") from None
        tensors[f"{name}.weight"] = torch.from_numpy(integers).to(scales["weight_scale"].dtype) * scales["weight_scale"]
        tensors[f"{name}.weight_quantizer.step"] = scales["weight_scale"]
        tensors[f"{name}.activation_quantizer.step"] = scales["input_scale"]
    return tensors
