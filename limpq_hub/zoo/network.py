"""Which network an artifact is for: `NetworkSpec`, built again from timm by name alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import timm
from torch import nn

from limpq_hub.errors import ArtifactFormatError, quoted
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.jsonfile import check_shape
from limpq_hub.quant.profile import measure_costs
from limpq_hub.zoo.timm_network import timm_network

_SHAPE = {
    "architecture": str,
    "num_classes": int,
    "input_size": int,
    "mean": [float],
    "std": [float],
    "interpolation": str,
    "crop_pct": float,
}
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")


@dataclass(frozen=True)
class NetworkSpec:
    """A timm network and how pictures are prepared for it.

    Attributes:
        architecture: timm name without a tag.
        input_size: height and width in pixels.
        mean, std: per channel, for pixels in 0..1.
        crop_pct: share of the shorter side that the center crop keeps.
    """

    architecture: str
    num_classes: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return (3, self.input_size, self.input_size)

    @classmethod
    def of(cls, module: nn.Module) -> NetworkSpec:
        """Return the spec of a timm network, from its `pretrained_cfg`."""
        network: Any = module  # torch's types know nothing of what timm sets
        config = network.pretrained_cfg
        return cls(
            architecture=config["architecture"],
            num_classes=network.num_classes,
            input_size=config["input_size"][-1],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            interpolation=config["interpolation"],
            crop_pct=config["crop_pct"],
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str) -> NetworkSpec:
        """Return the spec in the `config.json` of an artifact.

        Args:
            name: what to call the artifact in an error.

        Raises:
            ArtifactFormatError: a value is missing, or the architecture is not one of timm's.
        """
        where = f"{name}/config.json"
        check_shape(config, _SHAPE, where)
        architecture = config["architecture"]
        if not re.fullmatch(r"[A-Za-z0-9_]+", architecture) or not timm.is_model(architecture):
            raise ArtifactFormatError(f"{where}: {quoted(architecture)} is not an architecture of timm")
        for key, lowest, highest in (("num_classes", 1, 99_999), ("input_size", 1, 9_999), ("crop_pct", 0.01, 1)):
            if not lowest <= config[key] <= highest:
                raise ArtifactFormatError(f"{where}: {key} of {quoted(config[key])} cannot be")
        mean, std = tuple(config["mean"]), tuple(config["std"])
        # Pixels of 0..255 have a std of 1/255 here; far from that a picture becomes noise, or infinite.
        if not all(abs(value) <= 1e3 for value in mean):
            raise ArtifactFormatError(f"{where}: mean of {quoted(list(mean))} is not how pictures can be prepared")
        if (
            len(mean) != 3
            or len(std) != 3
            or not all(1e-3 <= value <= 1e3 for value in std)
            or config["interpolation"] not in _INTERPOLATIONS
        ):
            raise ArtifactFormatError(f"{where}: mean, std or interpolation is not how pictures can be prepared")
        return cls(**{key: config[key] for key in _SHAPE} | {"mean": mean, "std": std})

    def to_config(self) -> dict[str, Any]:
        """Return the spec as `config.json` holds it."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    def build(self) -> nn.Module:
        """Return the float network with random weights, in eval mode."""
        config = {key: getattr(self, key) for key in ("mean", "std", "interpolation", "crop_pct")}
        return timm_network(
            self.architecture, input_size=self.input_size, config=config, num_classes=self.num_classes, pretrained=False
        ).eval()

    def recount(
        self,
        module: nn.Module,
        *,
        signed: Collection[str],
        offset: Collection[str],
        in_float: Sequence[str] = (),
        fixed: Sequence[str] = (),
    ) -> dict[str, LayerCost]:
        """Return the cost of all that `module` multiplies, counted afresh.

        Args:
            signed: what an artifact says has inputs that can be negative: its steps were trained so.
            offset: what it says has inputs with a zero point of their own.
            in_float: what it leaves in float.
            fixed: what it has at 8/8 bits.
        """
        counted = measure_costs(module, self.input_shape, exclude=in_float, fix=fixed)
        return {name: replace(cost, signed=name in signed, offset=name in offset) for name, cost in counted.items()}
