"""Which layer gets how many bits: `Policy`, with its JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limpq_hub.errors import ArtifactVersionError, PolicyError, quoted
from limpq_hub.plan.costs import FLOAT, Costs
from limpq_hub.plan.frozen import FrozenMapping
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.mistaken_file import mistaken_for

FORMAT = 1


@dataclass(frozen=True)
class Policy:
    """Bit-widths by layer name, first and last layer included.

    Attributes:
        model: timm architecture whose layer names these are.
        layers: bits of each quantized layer, in the order of execution.
        input_size: height and width in pixels that the policy was made for, or None if unknown.
    """

    model: str
    layers: Mapping[str, LayerBits]
    input_size: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", FrozenMapping(self.layers))

    @classmethod
    def uniform(
        cls,
        model: str,
        costs: Costs,
        weight: int,
        activation: int | None = None,
        input_size: int | None = None,
    ) -> Policy:
        """Return the policy with the same bits in every searched layer; fixed layers keep theirs.

        Args:
            weight: weight bits, 2..8.
            activation: activation bits, 2..8; the weight bits if None.

        Raises:
            PolicyError: bits are not whole numbers in 2..8.
        """
        bits = LayerBits(weight, weight if activation is None else activation)
        if bits == FLOAT:
            raise PolicyError("no policy leaves every layer in float: use whole numbers of bits from 2 to 8")
        return cls(model, {name: cost.fixed or bits for name, cost in costs.items()}, input_size)

    @property
    def in_float(self) -> list[str]:
        """The names of what stays in float, in the order of execution."""
        return [name for name, bits in self.layers.items() if bits == FLOAT]

    def digest(self) -> str:
        """Return a sha256 over model and bits: equal policies have equal digests, whatever their layer order."""
        bits = {name: [layer.weight, layer.activation] for name, layer in self.layers.items()}
        return hashlib.sha256(json.dumps([self.model, bits], sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the content of a `policy.json`."""
        return {
            "format": FORMAT,
            "model": self.model,
            "input_size": self.input_size,
            "layers": {
                name: {"weight": bits.weight, "activation": bits.activation} for name, bits in self.layers.items()
            },
        }

    @classmethod
    def from_json(cls, content: Any) -> Policy:
        """Return the policy in a parsed `policy.json`.

        Raises:
            PolicyError: the content is not a policy, or its bits cannot be.
            ArtifactVersionError: it is a policy of another format.
        """
        mistake = mistaken_for("policy", content) if isinstance(content, dict) else None
        if mistake:
            raise PolicyError(mistake)
        version = content.get("format") if isinstance(content, dict) else content
        wrong = f"not a policy of format {FORMAT}: found format {quoted(version)}"
        if not isinstance(content, dict) or type(version) is not int:
            raise PolicyError(wrong)
        if version != FORMAT:
            raise ArtifactVersionError(f"{wrong}; upgrade limpq-hub")
        model, layers, input_size = content.get("model"), content.get("layers"), content.get("input_size")
        if not isinstance(model, str) or not isinstance(layers, dict) or not layers:
            raise PolicyError('a policy needs "model" (a timm architecture) and "layers" (bits by layer name)')
        if input_size is not None and (type(input_size) is not int or input_size < 1):
            raise PolicyError(
                f'"input_size" of a policy is pixels, a positive whole number: found {quoted(input_size)}'
            )
        return cls(model, {name: _layer_bits(name, bits) for name, bits in layers.items()}, input_size)


def _layer_bits(name: str, bits: Any) -> LayerBits:
    if not isinstance(bits, dict) or set(bits) != {"weight", "activation"}:
        raise PolicyError(f'layer {quoted(name)} needs exactly "weight" and "activation" bits: found {quoted(bits)}')
    try:
        return LayerBits(bits["weight"], bits["activation"])
    except PolicyError as error:
        raise PolicyError(f"layer {quoted(name)}: {error}") from None
