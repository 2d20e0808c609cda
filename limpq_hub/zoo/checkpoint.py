"""A checkpoint folder: one fine-tuned policy as `config.json`, `policy.json` and integers in `model.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limpq_hub.errors import ArtifactFormatError, ArtifactIntegrityError, ArtifactVersionError, PolicyError, quoted
from limpq_hub.plan.costs import FLOAT, Costs
from limpq_hub.plan.jsonfile import check_shape, errors_naming, json_text, write_json
from limpq_hub.plan.layer_bits import BIT_WIDTHS
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops, total_size_bytes
from limpq_hub.quant.convert import build_quantized, has_channel_steps, read_policy
from limpq_hub.quant.entropy_coding import LEAST_BITS_EACH
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.switchable_batch_norm import switching_norms
from limpq_hub.quant.tracing.forward_trace import copy_of
from limpq_hub.zoo.class_names import check_class_ids
from limpq_hub.zoo.folder import SealedFolder, seal_folder, unseal_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.packed_tensors import packed_tensors, unpacked_tensors
from limpq_hub.zoo.seal import WEIGHT_CODING
from limpq_hub.zoo.size_check import tensors_of_network
from limpq_hub.zoo.tensors import load_strictly, own_state, tensors_to_bytes

KIND = "checkpoint"
WEIGHTS = "model.safetensors"
CLASSES = "classes"
FILES = ("policy.json", WEIGHTS, "metrics.json")
# How weights that are not bit-packed are coded.
CODING = "deflate"


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    costs: Costs,
    *,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
    unfinished: bool = False,
) -> None:
    """Write a quantized network: what the weights are on their grids, coded, and nothing that is not needed to run.

    Args:
        model: timm network with one bit-width per layer, from `to_quantized` or `select_policy`.
        costs: cost of each layer.
        metrics: measured figures, written to `metrics.json`; with None one of another run is removed.
        provenance: how the checkpoint came about.
        classes: ids of the classes, in the order of the outputs; empty where they are not known.
        unfinished: whether more is to come, so that nobody but its maker is to open it.

    Raises:
        ArtifactFormatError: `classes` are not as many as the outputs, or two are alike.
        PolicyError: a quantized layer runs in float, or the network is a supernet.
        UnsupportedLayerError: no artifact can hold the network, a tensor has a value that is not finite, or a layer
            computes its weight from others.
        ValueError: `metrics` or `provenance` hold a number that JSON has not.
    """
    _check_one_policy(model)
    spec = NetworkSpec.of(model)
    spec.check_storable()
    if classes:
        check_class_ids(classes, spec.num_classes, "classes")
    bits = read_policy(model)
    policy = Policy(bits.model, {name: bits.layers.get(name, FLOAT) for name in costs}, spec.input_size)
    if any(value.dtype != torch.float32 for value in own_state(model).values() if value.is_floating_point()):
        model = copy_of(model).float()
    # Before anything is written: what was here stays where this cannot be stored.
    tensors = tensors_to_bytes(packed_tensors(model, policy))
    config = spec.to_config() | {
        **_counted(policy, costs),
        "signed_inputs": [name for name, cost in costs.items() if cost.signed],
        "offset_inputs": [name for name, cost in costs.items() if cost.offset],
        "per_channel": has_channel_steps(model),
        WEIGHT_CODING: CODING,
        **({CLASSES: list(classes)} if classes else {}),
        "provenance": dict(provenance or {}),
    }
    figures = None if metrics is None else json_text(metrics).encode()
    json_text(config)
    if unfinished:
        unseal_folder(folder)
    write_json(folder / "policy.json", policy.to_json())
    write_bytes(folder / WEIGHTS, tensors)
    (folder / "metrics.json").unlink(missing_ok=True)
    if figures is not None:
        write_bytes(folder / "metrics.json", figures)
    seal_folder(folder, KIND, config, FILES, unfinished=unfinished)


def read_checkpoint_policy(folder: SealedFolder) -> Policy:
    """Return the policy of a checkpoint, without its weights.

    Raises:
        ArtifactError: its file is damaged, or holds no policy.
    """
    content = folder.read_json("policy.json")
    with errors_naming(f"{folder.name}/policy.json"):
        return Policy.from_json(content)


def read_checkpoint_classes(folder: SealedFolder) -> tuple[str, ...]:
    """Return the ids of the classes of a checkpoint, in the order of its outputs; none where it does not say.

    Raises:
        ArtifactFormatError: they are no ids, not as many as the network has outputs, or two are alike.
    """
    where = f"{folder.name}/config.json"
    said = {CLASSES: folder.config.get(CLASSES, [])}
    check_shape(said, {CLASSES: [str]}, where)
    outputs = NetworkSpec.from_config(folder.config, folder.name).num_classes
    if said[CLASSES]:
        check_class_ids(said[CLASSES], outputs, where)
    return tuple(said[CLASSES])


def load_checkpoint(folder: SealedFolder) -> tuple[nn.Module, Policy]:
    """Return the quantized network in eval mode, and its policy, after recounting all that the folder claims.

    Raises:
        ArtifactError: a file is damaged, or does not fit the network; nothing is half-loaded.
    """
    spec = NetworkSpec.from_config(folder.config, folder.name)
    config = {"offset_inputs": [], "per_channel": False, **folder.config}  # format 1 has neither
    check_shape(
        config, {"signed_inputs": [str], "offset_inputs": [str], "per_channel": bool}, f"{folder.name}/config.json"
    )
    name = f"{folder.name}/{WEIGHTS}"
    packed = tensors_of_network(folder, WEIGHTS, spec, bits=_least_bits_each(folder))
    module, policy = spec.build(), read_checkpoint_policy(folder)
    signed, offset = config["signed_inputs"], config["offset_inputs"]
    with errors_naming(f"{folder.name}/policy.json"):
        costs, traced = spec.recount(module, signed=signed, offset=offset, in_float=policy.in_float)
    for key in ("signed_inputs", "offset_inputs"):
        if not set(config[key]) <= set(costs):
            raise ArtifactFormatError(f"{folder.name}/config.json: {key} names layers that the network has not")
    with errors_naming(f"{folder.name}/policy.json"):
        if (policy.model, policy.input_size) != (spec.architecture, spec.input_size):
            raise PolicyError(f"the policy is for {quoted(policy.model)} at {policy.input_size} pixels")
        per_channel = config["per_channel"]
        quantized = build_quantized(module, policy, costs, spec.input_shape, per_channel=per_channel, traced=traced)
    for key, value in _counted(policy, costs).items():
        if folder.config.get(key) != value:
            raise ArtifactIntegrityError(
                f"{folder.name}: config.json says {key} {folder.config.get(key)!r}, a recount gives {value!r}"
            )
    load_strictly(quantized, unpacked_tensors(quantized, policy, packed, name), name)
    return quantized.eval(), policy


def _check_one_policy(model: nn.Module) -> None:
    """Raise `PolicyError` if a network is a supernet, also one that is set to a policy."""
    several = [
        name
        for name, layer in quantized_layers(model)
        if max(len(layer.weight_quantizer.candidates), len(layer.activation_quantizer.candidates)) > 1
    ]
    for name in (*several, *switching_norms(model)):
        raise PolicyError(
            f"{name!r} is of a supernet, which has more than one policy needs, and a checkpoint holds one policy: give "
            "limpq_hub.quant.convert.select_policy(supernet, policy)"
        )


def _least_bits_each(folder: SealedFolder) -> float:
    """Return how few bits a weight takes in a checkpoint, on average; formats 1 to 3 pack all of them."""
    coding = folder.config.get(WEIGHT_CODING)
    if coding is None:
        return min(BIT_WIDTHS)
    if coding != CODING:
        raise ArtifactVersionError(
            f"{folder.name}/config.json: {WEIGHT_CODING} {quoted(coding)} is not {CODING!r}, the one that this version "
            f"reads; upgrade limpq-hub, or {folder.advice}"
        )
    return LEAST_BITS_EACH


def _counted(policy: Policy, costs: Costs) -> dict[str, Any]:
    """Return what `config.json` claims of a policy, counted afresh."""
    return {
        "policy_sha256": policy.digest(),
        "bitops": total_bitops(costs, policy),
        "size_bytes": total_size_bytes(costs, policy),
    }
