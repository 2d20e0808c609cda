"""The learned importance of each layer: `Indicators`, the step sizes of a jointly trained supernet."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, get_args

from limpq_hub.errors import ArtifactFormatError, PolicyError, quoted
from limpq_hub.plan.costs import Costs
from limpq_hub.plan.frozen import FrozenMapping
from limpq_hub.plan.importance import APART, OBJECTIVE_REASON, Importance, is_distance
from limpq_hub.plan.indicator_fields import FORMAT, fields_of
from limpq_hub.plan.jsonfile import errors_naming, read_json, write_json
from limpq_hub.plan.layer_bits import LayerBits, near_pairs
from limpq_hub.plan.learned_values import Divergences, Steps, check_divergences, check_same_layers, check_steps
from limpq_hub.plan.outliers import Outlier, in_order, outliers_of
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.plan.quantities import python_integer

DEFAULT_ALPHA = 2.0
# Far above any network, and far below where sums leave a float.
LARGEST_COUNT = 10**18


@dataclass(frozen=True)
class Indicators:
    """Learned step sizes per searched layer and bit-width, with what each layer costs.

    Attributes:
        model: timm architecture.
        input_size: height and width in pixels.
        num_classes: outputs of the classifier.
        costs: cost of every quantized layer, in the order of execution.
        weight_steps, activation_steps: step sizes, > 0, by layer and bit-width; searched layers only. Of a product of
            two activations those of its second and of its first operand.
        alpha: factor of the weight importance in the objective, unless a search says otherwise.
        provenance: how the indicators came about.
        per_channel: whether the weight step of a layer stands for steps of its output channels, one each.
        divergences: KL divergence of the network from the float one in nats, with one layer alone at each pair of
            bit-widths, by layer; empty if it was not measured.
        objective: which importance a search adds up unless it says otherwise.
        apart: how far apart the weight and the activation bits of a layer may be in a search by this objective, unless
            it says otherwise: 0 for equal bits; None for any.
    """

    model: str
    input_size: int
    num_classes: int
    costs: Costs
    weight_steps: Steps
    activation_steps: Steps
    alpha: float = DEFAULT_ALPHA
    provenance: Mapping[str, Any] = field(default_factory=dict)
    per_channel: bool = False
    divergences: Divergences = field(default_factory=dict)
    objective: Importance = "learned"
    apart: int | None = None

    def __post_init__(self) -> None:
        searched = [name for name, cost in self.costs.items() if cost.fixed is None]
        for kind, steps in (("weight", self.weight_steps), ("activation", self.activation_steps)):
            check_same_layers(kind, steps, searched)
            for name, of_layer in steps.items():
                check_steps(kind, name, of_layer)
            frozen = {name: FrozenMapping(steps[name]) for name in searched}
            object.__setattr__(self, f"{kind}_steps", FrozenMapping(frozen))
        if self.divergences or self.objective == "measured":
            check_divergences(self.divergences, searched, self.weight_steps, self.activation_steps)
        frozen_pairs = {name: FrozenMapping(self.divergences[name]) for name in searched if self.divergences}
        object.__setattr__(self, "divergences", FrozenMapping(frozen_pairs))
        for name, cost in self.costs.items():
            if max(cost.macs, cost.macs_limpq, cost.weights, cost.inputs) > LARGEST_COUNT:
                raise ArtifactFormatError(
                    f"layer {quoted(name)}: its MACs, weights and inputs must be at most {LARGEST_COUNT:.0e} each"
                )
        if not is_distance(self.apart):
            raise ArtifactFormatError(
                f'"apart" must be a whole number of bits from 0 to {max(APART)}, found {quoted(self.apart)}'
            )
        object.__setattr__(self, "costs", FrozenMapping(self.costs))
        object.__setattr__(self, "provenance", FrozenMapping(self.provenance))

    @property
    def title(self) -> str:
        """The network as a message names it: "resnet18 at 64x64"."""
        return f"{self.model} at {self.input_size}x{self.input_size}"

    @property
    def candidates(self) -> tuple[int, ...]:
        """Every bit-width that some layer may take, most bits first."""
        kinds = (self.weight_steps, self.activation_steps)
        widths = {bits for steps in kinds for of_layer in steps.values() for bits in of_layer}
        return tuple(sorted(widths, reverse=True))

    def using(self, importance: Importance | None, apart: int | None = None) -> Indicators:
        """Return the indicators with another objective.

        Args:
            importance: what the objective adds up; what it does anyway if None.
            apart: how far apart the weight and the activation bits of a layer may be, 6 for any; if None, as far as the
                indicators say for their own objective, and any for another.

        Raises:
            PolicyError: there is no such importance, or it was not measured; `apart` is no number of bits.
        """
        importance = self.objective if importance is None else importance
        if importance not in get_args(Importance):
            names = ", ".join(map(quoted, get_args(Importance)))
            raise PolicyError(f"importance={quoted(importance)} is not known: use one of {names}")
        if apart is not None and python_integer(apart) not in APART:
            raise PolicyError(
                f"apart={quoted(apart)} cannot be: use a whole number from 0, equal bits, to {max(APART)}, any bits"
            )
        if importance == "measured" and not self.divergences:
            raise PolicyError(
                f"importance={quoted(importance)}: the pairs of bits of {self.title} were not measured; measure them "
                "with: limpq measure MODEL --images FOLDER --output indicators.json"
            )
        if apart is None and importance == self.objective:
            return self
        distance = None if apart == max(APART) else python_integer(apart)
        if (importance, distance) == (self.objective, self.apart):
            return self
        # Why the objective was chosen is told of this one alone.
        provenance = {key: value for key, value in self.provenance.items() if key != OBJECTIVE_REASON}
        return replace(self, objective=importance, apart=distance, provenance=provenance)

    def importance(self, name: str, bits: LayerBits, alpha: float) -> float:
        """Return what `bits` add to the objective in layer `name`: activation step + alpha x weight step.

        Of a product of two activations it is the sum of both steps: alpha is the weight of the weights. Where the
        objective is coupled it is the root of activation step^2 + (alpha x weight step)^2, each `in_order`; where it is
        measured, the divergence of the pair, and alpha plays no part.

        Raises:
            PolicyError: no step was learned at these bits.

        Source: LIMPQ (ECCV 2022), the objective of its integer programme, for the sum.
        """
        weight_steps, activation_steps = self.weight_steps[name], self.activation_steps[name]
        kinds = (("weight", weight_steps, bits.weight), ("activation", activation_steps, bits.activation))
        for kind, steps, width in kinds:
            if width not in steps:
                learned = ", ".join(map(str, sorted(steps)))
                raise PolicyError(f"layer {quoted(name)} learned no {kind} step at {width} bits; choose from {learned}")
        [importance] = self.importances(name, [bits], alpha)
        return importance

    def importances(self, name: str, options: Iterable[LayerBits], alpha: float) -> list[float]:
        """Return the importance of layer `name` at each of many bits that it learned."""
        if self.objective == "measured":
            return [self.divergences[name][bits] for bits in options]
        steps, together = (in_order, math.hypot) if self.objective == "coupled" else (dict, operator.add)
        factor = 1.0 if self.costs[name].is_product else alpha
        of_weights = {bits: factor * step for bits, step in steps(self.weight_steps[name]).items()}
        of_activations = steps(self.activation_steps[name])
        return [together(of_activations[bits.activation], of_weights[bits.weight]) for bits in options]

    @cached_property
    def without_outliers(self) -> tuple[Indicators, tuple[Outlier, ...]]:
        """The indicators without their outliers, and the outliers.

        A step is an outlier if it is smaller than the step at the next more bits, though fewer bits lose more. The
        published code gives such bits a cost of 1e8, beside which all others are lost to rounding; here they are no
        candidates. There are none where the objective is coupled, which has steps `in_order`, or measured: divergences
        are taken as they are.
        """
        if self.objective != "learned":
            return self, ()
        outliers = (*outliers_of("weight", self.weight_steps), *outliers_of("activation", self.activation_steps))
        banned = {(outlier.kind, outlier.layer, outlier.bits) for outlier in outliers}

        def keep(kind: str, steps: Steps) -> Steps:
            """Return the steps of the weights or of the activations that are no outliers."""
            return {
                name: {bits: step for bits, step in of_layer.items() if (kind, name, bits) not in banned}
                for name, of_layer in steps.items()
            }

        cleaned = replace(
            self,
            weight_steps=keep("weight", self.weight_steps),
            activation_steps=keep("activation", self.activation_steps),
        )
        return cleaned, outliers

    def most_bits(self) -> Policy:
        """Return the policy with the most bits in each layer that are a choice, outliers and far bits left out."""
        cleaned, _ = self.without_outliers
        return cleaned._policy(max)

    def fewest_bits(self) -> Policy:
        """Return the policy with the fewest bits in each layer that are a choice, outliers and far bits left out."""
        cleaned, _ = self.without_outliers
        return cleaned._policy(min)

    def bitops_range(self) -> tuple[int, int]:
        """Return the BitOps of one image under the policies of the fewest and of the most bits."""
        return total_bitops(self.costs, self.fewest_bits()), total_bitops(self.costs, self.most_bits())

    def to_json(self) -> dict[str, Any]:
        """Return the content of an `indicators.json`."""
        layers: dict[str, Any] = {}
        candidates = self.candidates  # looked for in all layers: once, not for each of them
        for name, cost in self.costs.items():
            layers[name] = cost.to_json()
            if cost.fixed is None:
                for kind, steps in (("weight", self.weight_steps[name]), ("activation", self.activation_steps[name])):
                    layers[name][f"{kind}_steps"] = {str(bits): step for bits, step in steps.items()}
                    if len(steps) < len(candidates):
                        layers[name][f"{kind}_candidates"] = list(steps)
            if name in self.divergences:
                layers[name]["divergences"] = {bits.text: value for bits, value in self.divergences[name].items()}
        return {
            "format": FORMAT,
            "model": self.model,
            "input_size": self.input_size,
            "num_classes": self.num_classes,
            "candidates": list(candidates),
            "alpha": self.alpha,
            **({"per_channel": True} if self.per_channel else {}),
            **({"objective": self.objective} if self.objective != "learned" else {}),
            **({"apart": self.apart} if self.apart is not None else {}),
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
        with errors_naming(name):
            return cls(**fields_of(content))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Indicators:
        """Return the indicators of a file.

        Raises:
            ArtifactFormatError: the file is not valid; the message names layer and bit-width.
            OSError: the file cannot be read.
        """
        return cls.from_json(read_json(path), str(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the indicators to a file, whole or not at all."""
        write_json(path, self.to_json())

    def _policy(self, choose: Callable[..., LayerBits]) -> Policy:
        """Return the policy of the pairs whose product `choose` takes from those that each searched layer learned."""
        bits = {}
        for name, cost in self.costs.items():
            if cost.fixed is None:
                learned = (tuple(sorted(steps[name])) for steps in (self.weight_steps, self.activation_steps))
                pairs = near_pairs(*learned, self.apart)
                bits[name] = choose(pairs, key=lambda pair: pair.weight * pair.activation)
            else:
                bits[name] = cost.fixed
        return Policy(self.model, bits, self.input_size)
