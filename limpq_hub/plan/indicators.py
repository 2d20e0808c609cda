"""The learned importance of each layer: `Indicators`, the step sizes of a jointly trained supernet."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from limpq_hub.errors import ArtifactFormatError, LimpqError, PolicyError, shown
from limpq_hub.plan.budget import is_number
from limpq_hub.plan.costs import Counting, LayerCost, total_bitops
from limpq_hub.plan.frozen import FrozenMapping
from limpq_hub.plan.jsonfile import parse_json, write_json
from limpq_hub.plan.policy import BIT_WIDTHS, LayerBits, Policy

FORMAT = 1
DEFAULT_ALPHA = 2.0
Steps = Mapping[str, Mapping[int, float]]
_FILE_KEYS = {"format", "model", "input_size", "num_classes", "candidates", "alpha", "layers", "provenance"}
_COST_KEYS = {"macs", "macs_limpq", "weights", "inputs", "signed", "fixed"}
_STEP_KEYS = ("weight_steps", "activation_steps")
_MAGNITUDE_KEYS = ("weight_magnitude", "activation_magnitude")


@dataclass(frozen=True)
class Outlier:
    """A banned entry: fewer bits that learned a smaller step size than the next more bits did."""

    layer: str
    kind: Literal["weight", "activation"]
    bits: int
    step: float
    step_above: float


@dataclass(frozen=True)
class Indicators:
    """Learned step sizes per searched layer and bit-width, with what each layer costs.

    Attributes:
        model: timm architecture.
        input_size: height and width in pixels.
        num_classes: outputs of the classifier.
        costs: cost of every quantized layer, in the order of execution.
        weight_steps, activation_steps: step sizes, > 0, by layer and bit-width; searched layers only.
        alpha: factor of the weight importance in the objective, unless a search says otherwise.
        provenance: how the indicators came about.
        weight_magnitudes, activation_magnitudes: mean absolute weight, and input activation, of each searched layer,
            > 0; empty if they were not measured. With them a layer's importance is its relative noise, without them
            the bare step.
    """

    model: str
    input_size: int
    num_classes: int
    costs: Mapping[str, LayerCost]
    weight_steps: Steps
    activation_steps: Steps
    alpha: float = DEFAULT_ALPHA
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weight_magnitudes: Mapping[str, float] = field(default_factory=dict)
    activation_magnitudes: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        searched = [name for name, cost in self.costs.items() if cost.fixed is None]
        for kind, steps in (("weight", self.weight_steps), ("activation", self.activation_steps)):
            _check_same_layers(kind, steps, searched)
            for name, of_layer in steps.items():
                _check_steps(f"{kind} steps of layer {shown(name)}", of_layer)
            frozen = {name: FrozenMapping(steps[name]) for name in searched}
            object.__setattr__(self, f"{kind}_steps", FrozenMapping(frozen))
        for kind in ("weight", "activation"):
            magnitudes = getattr(self, f"{kind}_magnitudes")
            if self.weight_magnitudes or self.activation_magnitudes:
                _check_magnitudes(kind, magnitudes, searched)
            object.__setattr__(self, f"{kind}_magnitudes", FrozenMapping(magnitudes))
        object.__setattr__(self, "costs", FrozenMapping(self.costs))
        object.__setattr__(self, "provenance", FrozenMapping(self.provenance))

    @property
    def title(self) -> str:
        """The network as a message names it: "resnet18 at 64x64"."""
        return f"{self.model} at {self.input_size}x{self.input_size}"

    @property
    def candidates(self) -> tuple[int, ...]:
        """Every bit-width that some layer may take, most bits first."""
        found = {bits for steps in (self.weight_steps, self.activation_steps) for of in steps.values() for bits in of}
        return tuple(sorted(found, reverse=True))

    def importance(self, name: str, bits: LayerBits, alpha: float) -> float:
        """Return what `bits` add to the objective in layer `name`: activation importance + alpha x weight importance.

        An importance is the step size, as published. Where magnitudes were measured it is (step / mean magnitude)^2,
        up to a factor the power of the rounding noise relative to the tensor: steps grow with the scale of a tensor,
        and batch normalization undoes that scale.

        Raises:
            PolicyError: no step was learned at these bits.

        Source: LIMPQ (ECCV 2022), the objective of its integer programme. Rounding to a grid of spacing s has a noise
            of power s^2 / 12; that relative noise ranks layers better was found here (README, "The proof").
        """
        parts = {}
        for kind, steps, width, magnitudes in (
            ("weight", self.weight_steps[name], bits.weight, self.weight_magnitudes),
            ("activation", self.activation_steps[name], bits.activation, self.activation_magnitudes),
        ):
            if width not in steps:
                raise PolicyError(
                    f"layer {shown(name)} learned no {kind} step at {width} bits; "
                    f"choose from {', '.join(map(str, sorted(steps)))}"
                )
            parts[kind] = (steps[width] / magnitudes[name]) ** 2 if magnitudes else steps[width]
        return parts["activation"] + alpha * parts["weight"]

    def without_outliers(self) -> tuple[Indicators, tuple[Outlier, ...]]:
        """Return the indicators without their outliers, and the outliers.

        An entry is an outlier if its step is smaller than the one of the next more bits: fewer bits cannot hurt
        less. The published code gives it a cost of 1e8, which drowns all others; here it is no longer a choice.
        """
        outliers = (*_outliers("weight", self.weight_steps), *_outliers("activation", self.activation_steps))
        banned = {(outlier.kind, outlier.layer, outlier.bits) for outlier in outliers}

        def keep(kind: str, steps: Steps) -> Steps:
            return {
                name: {bits: step for bits, step in of_layer.items() if (kind, name, bits) not in banned}
                for name, of_layer in steps.items()
            }

        kept = replace(
            self,
            weight_steps=keep("weight", self.weight_steps),
            activation_steps=keep("activation", self.activation_steps),
        )
        return kept, outliers

    def most_bits(self) -> Policy:
        """Return the policy with the most learned bits in every searched layer."""
        return Policy.uniform(self.model, self.costs, self.candidates[0], input_size=self.input_size)

    def bitops_range(self, counting: Counting = "exact") -> tuple[int, int]:
        """Return the BitOps of one image under the policies of the fewest and of the most bits."""
        least, most = (total_bitops(self.costs, policy, counting) for policy in (self.fewest_bits(), self.most_bits()))
        return least, most

    def fewest_bits(self) -> Policy:
        """Return the policy with the fewest bits in each layer that are a choice, outliers left out."""
        kept, _ = self.without_outliers()
        bits = {
            name: cost.fixed or LayerBits(min(kept.weight_steps[name]), min(kept.activation_steps[name]))
            for name, cost in self.costs.items()
        }
        return Policy(self.model, bits, self.input_size)

    def to_json(self) -> dict[str, Any]:
        """Return the content of an `indicators.json`."""
        layers: dict[str, Any] = {}
        for name, cost in self.costs.items():
            fixed = cost.fixed and {"weight": cost.fixed.weight, "activation": cost.fixed.activation}
            layers[name] = {key: getattr(cost, key) for key in ("macs", "macs_limpq", "weights", "inputs", "signed")}
            layers[name]["fixed"] = fixed
            if fixed is None:
                for key in _STEP_KEYS:
                    layers[name][key] = {str(bits): step for bits, step in getattr(self, key)[name].items()}
                for key in _MAGNITUDE_KEYS if self.weight_magnitudes else ():
                    layers[name][key] = getattr(self, f"{key}s")[name]
        return {
            "format": FORMAT,
            "model": self.model,
            "input_size": self.input_size,
            "num_classes": self.num_classes,
            "candidates": list(self.candidates),
            "alpha": self.alpha,
            "layers": layers,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, content: Any, name: str = "indicators.json") -> Indicators:
        """Return the indicators in a parsed `indicators.json`.

        Args:
            name: what to call the file in an error.

        Raises:
            ArtifactFormatError: names the layer and bit-width where the content is not valid.
        """
        try:
            return _read(content)
        except LimpqError as error:
            raise ArtifactFormatError(f"{name}: {error}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Indicators:
        """Return the indicators of a file.

        Raises:
            ArtifactFormatError: the file is not valid; the message names layer and bit-width.
            OSError: the file cannot be read.
        """
        return cls.from_json(parse_json(Path(path).read_bytes(), str(path)), str(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the indicators to a file, whole or not at all."""
        write_json(path, self.to_json())


def _outliers(kind: Literal["weight", "activation"], steps: Steps) -> Iterable[Outlier]:
    for name, of_layer in steps.items():
        widths = sorted(of_layer, reverse=True)
        for above, bits in itertools.pairwise(widths):
            if of_layer[bits] < of_layer[above]:
                yield Outlier(name, kind, bits, of_layer[bits], of_layer[above])


def _check_same_layers(kind: str, steps: Steps, searched: list[str]) -> None:
    for name in steps:
        if name not in searched:
            raise ArtifactFormatError(f"{kind} steps for layer {shown(name)}, which is not a searched layer; remove it")
    for name in searched:
        if name not in steps:
            raise ArtifactFormatError(
                f"layer {shown(name)} has no {kind} steps; train them with training/indicators.py"
            )


def _check_magnitudes(kind: str, magnitudes: Mapping[str, float], searched: list[str]) -> None:
    if set(magnitudes) != set(searched):
        raise ArtifactFormatError(f"{kind} magnitudes must be given for every searched layer and no other, or for none")
    for name, magnitude in magnitudes.items():
        if not is_number(magnitude) or magnitude <= 0:
            raise ArtifactFormatError(
                f"layer {shown(name)}: the {kind} magnitude must be a number above 0, found {shown(magnitude)}"
            )


def _check_steps(what: str, steps: Mapping[int, float]) -> None:
    if not steps:
        raise ArtifactFormatError(f"{what}: none given, at least one bit-width is needed")
    for bits, step in steps.items():
        if type(bits) is not int or bits not in BIT_WIDTHS:
            raise ArtifactFormatError(f"{what}: a bit-width is a whole number from 2 to 8, found {shown(bits)}")
        if not is_number(step) or step <= 0:
            raise ArtifactFormatError(f"{what}: the step at {bits} bits must be a number above 0, found {shown(step)}")


def _read(content: Any) -> Indicators:
    if not isinstance(content, dict):
        raise ArtifactFormatError(f"indicators are a JSON object, found {shown(content)}")
    if type(content.get("format")) is not int or content["format"] != FORMAT:
        raise ArtifactFormatError(
            f"format {shown(content.get('format'))} is not the format {FORMAT} that this version of limpq-hub reads"
        )
    _check_keys("indicators", content, _FILE_KEYS)
    model, layers, provenance = content["model"], content["layers"], content["provenance"]
    if not isinstance(model, str) or not model:
        raise ArtifactFormatError(f'"model" must be the name of a timm architecture, found {shown(model)}')
    if not isinstance(layers, dict) or not layers:
        raise ArtifactFormatError(f'"layers" must list at least one layer by name, found {shown(layers)}')
    if not isinstance(provenance, dict):
        raise ArtifactFormatError(f'"provenance" must be a JSON object, found {shown(provenance)}')
    alpha = content["alpha"]
    if not is_number(alpha) or alpha < 0:
        raise ArtifactFormatError(f'"alpha" must be a number of at least 0, found {shown(alpha)}')
    candidates = content["candidates"]
    if not isinstance(candidates, list) or not candidates or len({str(bits) for bits in candidates}) != len(candidates):
        raise ArtifactFormatError(f'"candidates" must list different bit-widths, found {shown(candidates)}')
    costs = {name: _cost(name, layer) for name, layer in layers.items()}
    searched = {name: layers[name] for name, cost in costs.items() if cost.fixed is None}
    weight_magnitudes, activation_magnitudes = (
        {name: layer[key] for name, layer in searched.items() if key in layer} for key in _MAGNITUDE_KEYS
    )
    return Indicators(
        model=model,
        input_size=_count('"input_size"', content["input_size"]),
        num_classes=_count('"num_classes"', content["num_classes"]),
        costs=costs,
        weight_steps={name: _steps(name, "weight", layer, candidates) for name, layer in searched.items()},
        activation_steps={name: _steps(name, "activation", layer, candidates) for name, layer in searched.items()},
        alpha=alpha,
        provenance=provenance,
        weight_magnitudes=weight_magnitudes,
        activation_magnitudes=activation_magnitudes,
    )


def _cost(name: str, layer: Any) -> LayerCost:
    where = f"layer {shown(name)}"
    if not isinstance(layer, dict):
        raise ArtifactFormatError(f"{where}: must be a JSON object, found {shown(layer)}")
    fixed = layer.get("fixed")
    measured = set(_MAGNITUDE_KEYS) & set(layer)
    _check_keys(where, layer, _COST_KEYS if fixed is not None else _COST_KEYS.union(_STEP_KEYS, measured))
    if type(layer["signed"]) is not bool:
        raise ArtifactFormatError(f'{where}: "signed" must be true or false, found {shown(layer["signed"])}')
    if fixed is not None:
        if not isinstance(fixed, dict) or set(fixed) != {"weight", "activation"}:
            raise ArtifactFormatError(f'{where}: "fixed" needs "weight" and "activation" bits, found {shown(fixed)}')
        try:
            fixed = LayerBits(fixed["weight"], fixed["activation"])
        except PolicyError as error:
            raise ArtifactFormatError(f'{where}: "fixed": {error}') from None
    counts = {key: _count(f'{where}: "{key}"', layer[key]) for key in ("macs", "macs_limpq", "weights", "inputs")}
    return LayerCost(**counts, signed=layer["signed"], fixed=fixed)


def _steps(name: str, kind: str, layer: dict[str, Any], candidates: list[int]) -> dict[int, float]:
    where, steps = f"layer {shown(name)}, {kind} steps", layer[f"{kind}_steps"]
    if not isinstance(steps, dict):
        raise ArtifactFormatError(f"{where}: must give a step for each bit-width, found {shown(steps)}")
    for bits in candidates:
        if str(bits) not in steps:
            raise ArtifactFormatError(f"{where}: no step at {shown(bits)} bits, which is a candidate")
    for bits in steps:
        if bits not in {str(candidate) for candidate in candidates}:
            raise ArtifactFormatError(f"{where}: a step at {shown(bits)} bits, which is not a candidate")
    return {bits: steps[str(bits)] for bits in candidates}


def _count(what: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ArtifactFormatError(f"{what} must be a whole number of at least 1, found {shown(value)}")
    return value


def _check_keys(where: str, content: dict[str, Any], keys: set[str]) -> None:
    for key in keys - set(content):
        raise ArtifactFormatError(f'{where}: "{key}" is missing')
    for key in set(content) - keys:
        raise ArtifactFormatError(f"{where}: {shown(key)} is not known in format {FORMAT}")
