"""Policies as the LIMPQ authors publish them: lists of bits in a YAML file, or as their search prints them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limpq_hub.errors import ArtifactFormatError, PolicyError, shown
from limpq_hub.interop.fitting import check_entries
from limpq_hub.plan.costs import Costs
from limpq_hub.plan.jsonfile import parse_json
from limpq_hub.plan.policy import FORMAT, Policy

_LISTS = ("weight_bits", "act_bits")
_PRINTED = re.compile(r"^searched (weight|act) bit-widths (\[.*\])\s*$", re.MULTILINE)


def read_limpq_policy(
    path: str | os.PathLike[str], *, model: str, costs: Costs, input_size: int | None = None
) -> Policy:
    """Return the policy in a file of the LIMPQ authors, or one with bits by layer name.

    Three forms are read; what else stands in the file is not looked at:

    - `weight_bits: [6, 3, ...]` and `act_bits: [6, 4, ...]` in a YAML file, as in the authors'
      `quantization_training/finetune_resnet50_w3a4_12.2compression_ratio.yaml`.
    - the lines `searched weight bit-widths [6, 3, ...]` and `searched act bit-widths [6, 4, ...]`, as their
      `search.py` prints them.
    - `layers: {layer: {weight: 6, activation: 6}, ...}` in YAML or JSON, fixed layers included or not; not a form of
      theirs, but what `policy.json` holds too.

    The authors' fine-tuning leaves the input of the first convolution in floating point; here it is fixed like the rest
    of that layer.

    Args:
        model: timm architecture that the policy is for.
        costs: cost of each layer, in the order of execution; bits of its fixed layers are filled in.
        input_size: height and width in pixels, or None if unknown.

    Raises:
        ArtifactFormatError: the file holds none of these forms.
        PolicyError: as `policy_from_lists`, or a layer is missing or foreign; names it.
        OSError: the file cannot be read.
    """
    name, data = str(path), Path(path).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactFormatError(f"{name} is not text: {error}; is this the right file?") from None
    printed = _PRINTED.findall(text)
    content = _of_printed(printed, name) if printed else _parse_yaml(text, name)
    lists = [content.get(key) for key in _LISTS]
    try:
        if all(isinstance(of_layers, list) for of_layers in lists) and "layers" not in content:
            return policy_from_lists(*lists, model=model, costs=costs, input_size=input_size)
        if isinstance(content.get("layers"), dict) and not any(key in content for key in _LISTS):
            return _complete(_without_prefix(content["layers"]), model, costs, input_size)
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from None
    raise ArtifactFormatError(
        f'{name} holds no policy: it needs the lists "weight_bits" and "act_bits", or "layers" with the bits of each '
        f"by name; found {shown(list(content))}"
    )


def policy_from_lists(
    weight_bits: Sequence[int],
    activation_bits: Sequence[int],
    *,
    model: str,
    costs: Costs,
    input_size: int | None = None,
) -> Policy:
    """Return the policy in two lists of bits, one number per layer in the order of execution.

    Args:
        weight_bits: 2..8 each; of the searched layers, as the authors have it, or of every layer with the fixed ones.
        activation_bits: the same for the layers' inputs.
        model: timm architecture that the policy is for.
        costs: cost of each layer, in the order of execution; bits of its fixed layers are filled in.
        input_size: height and width in pixels, or None if unknown.

    Raises:
        PolicyError: a list is too long or too short, bits are not 2..8, or a fixed layer has others; names the layer.
    """
    if len(weight_bits) != len(activation_bits):
        raise PolicyError(
            f"{len(weight_bits)} weight and {len(activation_bits)} activation bit-widths: give one of each per layer"
        )
    searched = [name for name, cost in costs.items() if cost.fixed is None]
    if len(weight_bits) not in (len(searched), len(costs)):
        raise PolicyError(
            f"{len(weight_bits)} bit-widths do not fit {model}, which has {len(searched)} searched layers, "
            f"{len(costs)} with the fixed ones; is the model right?"
        )
    names = searched if len(weight_bits) == len(searched) else list(costs)
    pairs = zip(names, weight_bits, activation_bits, strict=True)
    return _complete(
        {name: {"weight": weight, "activation": bits} for name, weight, bits in pairs}, model, costs, input_size
    )


def _complete(given: Mapping[str, Any], model: str, costs: Costs, input_size: int | None) -> Policy:
    """Return the policy with the layers in the order of `costs`, the fixed ones filled in."""
    fixed = {name: cost.fixed for name, cost in costs.items() if cost.fixed}
    filled = {name: {"weight": bits.weight, "activation": bits.activation} for name, bits in fixed.items()}
    layers = filled | dict(given)
    check_entries(layers, costs, "the policy")
    ordered = {name: layers[name] for name in costs}
    policy = Policy.from_json({"format": FORMAT, "model": model, "input_size": input_size, "layers": ordered})
    for name, bits in fixed.items():
        if policy.layers[name] != bits:
            raise PolicyError(
                f"layer {shown(name)} is fixed at {bits}, the policy has {policy.layers[name]}; leave it out"
            )
    return policy


def _without_prefix(layers: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the layers without the `module.` that DistributedDataParallel puts before each name."""
    named: dict[str, Any] = {}
    for name, bits in layers.items():
        bare = str(name).removeprefix("module.")
        if bare in named:
            raise PolicyError(f"layer {shown(bare)} stands twice; keep one")
        named[bare] = bits
    return named


def _of_printed(printed: Sequence[tuple[str, str]], name: str) -> dict[str, Any]:
    kinds = [kind for kind, _ in printed]
    if sorted(kinds) != ["act", "weight"]:
        raise ArtifactFormatError(
            f"{name}: one line of weight and one of act bit-widths make a policy, found {len(kinds)}; keep one run"
        )
    return {f"{kind}_bits": parse_json(numbers, name) for kind, numbers in printed}


def _parse_yaml(text: str, name: str) -> dict[Any, Any]:
    import yaml

    try:
        content, root = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ArtifactFormatError(f"{name} is not YAML: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(content, dict):
        raise ArtifactFormatError(f"{name} holds no policy: found {shown(content)} instead of keys and values")
    # safe_load keeps the last of two equal keys without a word.
    of_layers = [value for key, value in root.value if key.value == "layers"]
    for mapping in (root, *of_layers):
        seen = set()
        for key, _ in mapping.value if isinstance(mapping, yaml.MappingNode) else ():
            if key.value in seen:
                raise ArtifactFormatError(f"{name}: the key {shown(key.value)} stands twice; keep one")
            seen.add(key.value)
    return content
