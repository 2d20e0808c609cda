"""HAWQ: a bit configuration, whole numbers of bits by the module names of HAWQ's own networks."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from limpq_hub.errors import PolicyError, quoted
from limpq_hub.plan.policy import Policy

# timm architecture: HAWQ's name of the network with the same strides, and of its first convolution.
NETWORKS = {"resnet18": ("resnet18", "quant_init_block_convbn"), "resnet50": ("resnet50b", "quant_init_convbn")}
INPUT_SIZE = 224
SCHEME = "limpq"
RESIDUAL_BITS = 16
_RESIDUAL = "quant_act_int32"
_IN_UNIT = re.compile(r"layer(\d+)\.(\d+)\.(?:conv(\d)|downsample\.0)")


class _Modules(NamedTuple):
    """HAWQ's modules that quantize the weights and the input of one layer."""

    weight: str
    activation: str


def write_hawq(policy: Policy) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Return `policy` as an entry of HAWQ's `bit_config_dict`.

    timm's resnet18 and resnet50 get the module names of HAWQ's resnet18 and resnet50b; sums of a residual unit are 16
    bits, as in every configuration of HAWQ. The first convolution of a unit and its downsample convolution share one
    activation quantizer there, which gets the larger of their bits. HAWQ knows no other network of timm: elsewhere the
    names are `<layer>.quant_layer` for weights and `<layer>.quant_act` for the input. Use it as

        bit_config_dict.update(json.load(file))         # in HAWQ's bit_config.py
        python quant_train.py --arch resnet18 --quant-scheme limpq ...

    Raises:
        PolicyError: the model is called resnet18 or resnet50 and has a layer that this network has not; names it.

    Source: HAWQ's `bit_config.py`, `quant_train.py` and `q_resnet.py`, read and not run.
    """
    modules = {name: _modules(policy.model, name) for name in policy.layers}
    bits: dict[str, int] = {}
    sharing: dict[str, list[str]] = {}
    for name, planned in policy.layers.items():
        weight, activation = modules[name]
        sharing.setdefault(activation, []).append(name)
        bits[activation] = max(planned.activation, bits.get(activation, 0))
        bits[weight] = planned.weight
    notes = [] if policy.model in NETWORKS else [_own_network(policy.model)]
    if policy.model in NETWORKS and policy.input_size not in (None, INPUT_SIZE):
        notes.append(
            f"HAWQ's network is for pictures of {INPUT_SIZE} pixels, this policy for {policy.input_size}: "
            "change its final pooling"
        )
    for names in sharing.values():
        widths = [policy.layers[name].activation for name in names]
        if len(set(widths)) > 1:
            parts = " and ".join(f"{name} ({width} bits)" for name, width in zip(names, widths, strict=True))
            notes.append(f"activations of {parts} share one quantizer in HAWQ: it gets {max(widths)} bits")
    bits |= dict.fromkeys(_residuals(policy.model, modules.values()), RESIDUAL_BITS)
    return {f"{_title(policy.model)}{SCHEME}": bits}, tuple(notes)


def _modules(model: str, layer: str) -> _Modules:
    if model not in NETWORKS:
        return _Modules(f"{layer}.quant_layer", f"{layer}.quant_act")
    if layer == "conv1":
        return _Modules(NETWORKS[model][1], "quant_input")
    if layer == "fc":
        return _Modules("quant_output", "quant_act_output")
    convolution_of_unit = _IN_UNIT.fullmatch(layer)
    if not convolution_of_unit:
        raise PolicyError(f"HAWQ's {NETWORKS[model][0]} has nothing for layer {quoted(layer)}; is the model right?")
    stage, unit, convolution = convolution_of_unit.groups()
    prefix = f"stage{stage}.unit{int(unit) + 1}."
    if convolution is None:
        return _Modules(f"{prefix}quant_identity_convbn", f"{prefix}quant_act")
    before = int(convolution) - 1
    return _Modules(f"{prefix}quant_convbn{convolution}", f"{prefix}quant_act{before or ''}")


def _residuals(model: str, modules: Collection[_Modules]) -> list[str]:
    """Return the modules that quantize sums: after the first convolution, and of each residual unit."""
    if model not in NETWORKS:
        return []
    return list(dict.fromkeys(pair.weight.rpartition("quant_")[0] + _RESIDUAL for pair in modules))


def _title(model: str) -> str:
    return f"bit_config_{NETWORKS[model][0] if model in NETWORKS else model}_"


def _own_network(model: str) -> str:
    return (
        f"HAWQ has no network with the layers of timm's {model}: name the modules of yours <layer>.quant_layer and "
        "<layer>.quant_act"
    )
