"""The file of `Indicators`: what a valid `indicators.json` holds."""

from __future__ import annotations

import re
from typing import Any, get_args

from limpq_hub.errors import ArtifactFormatError, ArtifactVersionError, PolicyError, quoted
from limpq_hub.plan.costs import FLOAT, LayerCost, LayerRole
from limpq_hub.plan.importance import Importance
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.mistaken_file import mistaken_for
from limpq_hub.plan.quantities import is_number

FORMAT = 2
_READ_FORMATS = (1, 2)
_FILE_KEYS = {"format", "model", "input_size", "num_classes", "candidates", "alpha", "layers", "provenance"}
_COST_KEYS = {"macs", "macs_limpq", "weights", "inputs", "signed", "fixed"}
# Since format 2, where they are true: the input has a zero point of its own; two activations are multiplied.
_FLAGS = {"offset", "product"}
_ROLES = get_args(LayerRole)
_STEP_KEYS = {"weight_steps", "activation_steps"}
# Where a layer learned fewer bit-widths than others did.
_OWN_KEYS = {"weight_candidates", "activation_candidates"}
# Since format 2, where it was measured: what each pair of bit-widths does to the predictions.
_MEASURED = {"divergences"}
_PAIR = re.compile(r"([2-8])/([2-8])")


def fields_of(content: Any) -> dict[str, Any]:
    """Return the arguments of `Indicators` that a parsed `indicators.json` holds.

    Raises:
        ArtifactFormatError: names the key, or the layer and bit-width, where the content is not valid.
    """
    if not isinstance(content, dict):
        raise ArtifactFormatError(f"indicators are a JSON object, found {quoted(content)}")
    mistake = mistaken_for("indicators", content)
    if mistake:
        raise ArtifactFormatError(mistake)
    if type(content.get("format")) is not int or content["format"] not in _READ_FORMATS:
        raise ArtifactVersionError(
            f"format {quoted(content.get('format'))} is not one of the formats 1 and {FORMAT} that this version of "
            "limpq-hub reads; upgrade it, or export the indicators again"
        )
    _check_keys("indicators", content, _FILE_KEYS | {"per_channel", "objective", "apart"} & set(content))
    if type(content.get("per_channel", False)) is not bool:
        raise ArtifactFormatError(f'"per_channel" must be true or false, found {quoted(content["per_channel"])}')
    model, layers, provenance = content["model"], content["layers"], content["provenance"]
    if not isinstance(model, str) or not model:
        raise ArtifactFormatError(f'"model" must be the name of a timm architecture, found {quoted(model)}')
    if not isinstance(layers, dict) or not layers:
        raise ArtifactFormatError(f'"layers" must list at least one layer by name, found {quoted(layers)}')
    if not isinstance(provenance, dict):
        raise ArtifactFormatError(f'"provenance" must be a JSON object, found {quoted(provenance)}')
    alpha = content["alpha"]
    if not is_number(alpha) or alpha < 0:
        raise ArtifactFormatError(f'"alpha" must be a number of at least 0, found {quoted(alpha)}')
    candidates = content["candidates"]
    whole = isinstance(candidates, list) and all(type(bits) is int for bits in candidates)
    if not whole or not candidates or len(set(candidates)) != len(candidates):
        raise ArtifactFormatError(f'"candidates" must list different bit-widths, found {quoted(candidates)}')
    costs = {name: cost_of(name, layer) for name, layer in layers.items()}
    searched = {name: layers[name] for name, cost in costs.items() if cost.fixed is None}
    return {
        "model": model,
        "input_size": _count('"input_size"', content["input_size"]),
        "num_classes": _count('"num_classes"', content["num_classes"]),
        "costs": costs,
        "weight_steps": {name: _steps(name, "weight", layer, candidates) for name, layer in searched.items()},
        "activation_steps": {name: _steps(name, "activation", layer, candidates) for name, layer in searched.items()},
        "alpha": alpha,
        "per_channel": content.get("per_channel", False),
        "divergences": {name: _divergences(name, layer) for name, layer in searched.items() if "divergences" in layer},
        "objective": _objective(content.get("objective", "learned")),
        "apart": content.get("apart"),
        "provenance": provenance,
    }


def cost_of(name: str, layer: Any, *, searchable: bool = True) -> LayerCost:
    """Return the cost of a layer.

    Args:
        searchable: whether the steps of a layer that is not fixed must be there as well.

    Raises:
        ArtifactFormatError: names the layer and what is wrong.
    """
    where = f"layer {quoted(name)}"
    if not isinstance(layer, dict):
        raise ArtifactFormatError(f"{where}: must be a JSON object, found {quoted(layer)}")
    fixed = layer.get("fixed")
    steps = _STEP_KEYS | (_OWN_KEYS | _MEASURED) & set(layer) if searchable and fixed is None else set()
    flags = _FLAGS & set(layer)
    _check_keys(where, layer, _COST_KEYS | steps | flags | {"role"} & set(layer))
    if layer.get("role", _ROLES[0]) not in _ROLES:
        raise ArtifactFormatError(f'{where}: "role" must be one of {", ".join(_ROLES)}, found {quoted(layer["role"])}')
    for key in ("signed", *sorted(flags)):
        if type(layer[key]) is not bool:
            raise ArtifactFormatError(f'{where}: "{key}" must be true or false, found {quoted(layer[key])}')
    if fixed is not None:
        if not isinstance(fixed, dict) or set(fixed) != {"weight", "activation"}:
            raise ArtifactFormatError(f'{where}: "fixed" needs "weight" and "activation" bits, found {quoted(fixed)}')
        try:
            fixed = LayerBits(fixed["weight"], fixed["activation"])
        except PolicyError as error:
            raise ArtifactFormatError(f'{where}: "fixed": {error}') from None
    counts = {key: _count(f'{where}: "{key}"', layer[key]) for key in ("macs", "macs_limpq", "inputs")}
    is_product = layer.get("product", False)
    counts["weights"] = _count(f'{where}: "weights"', layer["weights"], least=0 if is_product or fixed == FLOAT else 1)
    if is_product and counts["weights"]:
        raise ArtifactFormatError(f"{where}: a product of activations has no weights, found {counts['weights']}")
    return LayerCost(
        **counts, signed=layer["signed"], fixed=fixed, offset=layer.get("offset", False), role=layer.get("role")
    )


def _steps(name: str, kind: str, layer: dict[str, Any], candidates: list[int]) -> dict[int, float]:
    where, steps = f"layer {quoted(name)}, {kind} steps", layer[f"{kind}_steps"]
    learned = layer.get(f"{kind}_candidates", candidates)
    if not isinstance(learned, list) or any(bits not in candidates for bits in learned):
        raise ArtifactFormatError(f"{where}: its own candidates must be some of {candidates}, found {quoted(learned)}")
    if not isinstance(steps, dict):
        raise ArtifactFormatError(f"{where}: must give a step for each bit-width, found {quoted(steps)}")
    for bits in learned:
        if str(bits) not in steps:
            raise ArtifactFormatError(f"{where}: no step at {quoted(bits)} bits, which is a candidate")
    for bits in steps:
        if bits not in {str(candidate) for candidate in learned}:
            raise ArtifactFormatError(f"{where}: a step at {quoted(bits)} bits, which is not a candidate")
    return {bits: steps[str(bits)] for bits in learned}


def _divergences(name: str, layer: dict[str, Any]) -> dict[LayerBits, float]:
    where, pairs = f"layer {quoted(name)}, divergences", layer["divergences"]
    if not isinstance(pairs, dict):
        raise ArtifactFormatError(f"{where}: must give a number for each pair of bits, found {quoted(pairs)}")
    divergences = {}
    for text, value in pairs.items():
        match = _PAIR.fullmatch(text)
        if match is None:
            raise ArtifactFormatError(f'{where}: a pair of bits is like "4/3", found {quoted(text)}')
        divergences[LayerBits(int(match[1]), int(match[2]))] = value
    return divergences


def _objective(value: Any) -> Any:
    if value not in get_args(Importance):
        names = ", ".join(f'"{name}"' for name in get_args(Importance))
        raise ArtifactFormatError(f'"objective" must be one of {names}, found {quoted(value)}')
    return value


def _count(what: str, value: Any, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise ArtifactFormatError(f"{what} must be a whole number of at least {least}, found {quoted(value)}")
    return value


def _check_keys(where: str, content: dict[str, Any], keys: set[str]) -> None:
    for key in sorted(keys - set(content)):
        raise ArtifactFormatError(f'{where}: "{key}" is missing')
    for key in sorted(set(content) - keys):
        raise ArtifactFormatError(f"{where}: {quoted(key)} is not known in format {FORMAT}")
