"""HAWQ: a bit configuration, whole numbers of bits by the module names of HAWQ's own networks."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from limpq_hub.errors import ArtifactFormatError, PolicyError, shown
from limpq_hub.interop.fitting import check_entries
from limpq_hub.plan.policy import FORMAT, Policy

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
        planned = [policy.layers[name].activation for name in names]
        if len(set(planned)) > 1:
            parts = " and ".join(f"{name} ({count} bits)" for name, count in zip(names, planned, strict=True))
            notes.append(f"activations of {parts} share one quantizer in HAWQ: it gets {max(planned)} bits")
    bits |= dict.fromkeys(_residuals(policy.model, modules.values()), RESIDUAL_BITS)
    return {f"{_title(policy.model)}{SCHEME}": bits}, tuple(notes)


def read_hawq(content: Any, *, model: str, layers: Collection[str], input_size: int | None = None) -> Policy:
    """Return the policy in one bit configuration of HAWQ, named as `write_hawq` names its modules.

    HAWQ's own configurations of resnet18 and resnet50b can be read too, once they are dictionaries.

    Args:
        content: `{"bit_config_<network>_<scheme>": {module: bits}}`, one entry.
        model: timm architecture that the policy is for.
        layers: its layer names, in the order of execution, first and last included.
        input_size: height and width in pixels, or None if unknown.

    Raises:
        ArtifactFormatError: the content is no bit configuration, or of another network.
        PolicyError: a module is missing or foreign, or its bits are not 2..8; names it.
    """
    titles = list(content) if isinstance(content, dict) else []
    title = str(titles[0]) if len(titles) == 1 else ""
    if not title.startswith(_title(model)) or not isinstance(content[titles[0]], dict):
        raise ArtifactFormatError(
            f'a HAWQ policy of {model} is one entry "{_title(model)}<scheme>" with bits by module: '
            f"found {shown(titles or content)}"
        )
    bits, modules = content[titles[0]], {name: _modules(model, name) for name in layers}
    residuals = _residuals(model, modules.values())
    check_entries(
        bits, dict.fromkeys([*(name for pair in modules.values() for name in pair), *residuals]), shown(title)
    )
    for name in residuals:
        if bits[name] != RESIDUAL_BITS:
            raise PolicyError(
                f"{shown(title)}: {name} has {shown(bits[name])} bits; a policy says nothing of residual sums, "
                f"which HAWQ gives {RESIDUAL_BITS}"
            )
    found = {name: {"weight": bits[pair.weight], "activation": bits[pair.activation]} for name, pair in modules.items()}
    return Policy.from_json({"format": FORMAT, "model": model, "input_size": input_size, "layers": found})


def _modules(model: str, layer: str) -> _Modules:
    if model not in NETWORKS:
        return _Modules(f"{layer}.quant_layer", f"{layer}.quant_act")
    if layer == "conv1":
        return _Modules(NETWORKS[model][1], "quant_input")
    if layer == "fc":
        return _Modules("quant_output", "quant_act_output")
    found = _IN_UNIT.fullmatch(layer)
    if not found:
        raise PolicyError(f"HAWQ's {NETWORKS[model][0]} has nothing for layer {shown(layer)}; is the model right?")
    stage, unit, convolution = found.groups()
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
