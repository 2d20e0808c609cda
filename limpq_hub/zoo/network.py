"""Which network an artifact is for: `NetworkSpec`, built again from timm by name and arguments alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from glob import escape
from typing import Any

import timm
from timm.data import create_transform
from torch import nn

from limpq_hub.errors import ArtifactFormatError, UnsupportedLayerError, quoted
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.frozen import FrozenMapping
from limpq_hub.plan.jsonfile import check_shape
from limpq_hub.quant.profile import costs_of
from limpq_hub.quant.tracing.forward_trace import Trace, trace
from limpq_hub.zoo.factory_path import factory_of
from limpq_hub.zoo.model_args import ModelArgument, RefusedArgument, checked_arguments, kept_arguments
from limpq_hub.zoo.network_title import network_title
from limpq_hub.zoo.timm_network import BUILD_ERRORS, arguments_of, timm_network

_SHAPE = {
    "architecture": str,
    "num_classes": int,
    "input_size": int,
    "mean": [float],
    "std": [float],
    "interpolation": str,
    "crop_pct": float,
}
# What a `config.json` need not say, and what it then means: they came with format 3.
_DEFAULTS: dict[str, Any] = {"crop_mode": "center", "model_args": {}}
# The fields that say how pictures are prepared; timm's configurations call them the same.
PREPARATION = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True)
class NetworkSpec:
    """A timm network and how pictures are prepared for it.

    Attributes:
        architecture: timm name without a tag.
        num_classes: outputs of the classifier.
        input_size: height and width in pixels.
        mean, std: per channel, for pixels in 0..1.
        interpolation: how a picture is scaled, one of `INTERPOLATIONS`.
        crop_pct: share of the shorter side that the center crop keeps.
        crop_mode: "center"; "squash" scales both sides to the crop, whatever their ratio; "border" scales the longer
            side and fills up the shorter one.
        model_args: arguments of `timm.create_model` that make it another network, of `limpq_hub.zoo.model_args`.
    """

    architecture: str
    num_classes: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"
    model_args: Mapping[str, ModelArgument] = FrozenMapping({})

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_args", FrozenMapping(self.model_args))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return (3, self.input_size, self.input_size)

    @property
    def title(self) -> str:
        """Which network it is, in words."""
        return network_title(self.architecture, self.input_size, self.num_classes, self.model_args)

    @property
    def preparation(self) -> str:
        """How pictures are prepared, in words."""
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}, crop {self.crop_pct:g} ({self.crop_mode}), {self.interpolation}"

    @classmethod
    def of(cls, module: nn.Module) -> NetworkSpec:
        """Return the spec of a timm network, from its `pretrained_cfg` and what `timm.create_model` was given.

        Raises:
            UnsupportedLayerError: it was built with an argument that an artifact cannot hold.
        """
        network: Any = module  # torch's types know nothing of what timm sets
        config = network.pretrained_cfg
        try:
            model_args = checked_arguments(kept_arguments(arguments_of(module)))
        except RefusedArgument as error:
            raise UnsupportedLayerError(
                f"{config['architecture']} was built by timm with an argument that no entry or checkpoint can hold: "
                f"{error}"
            ) from None
        return cls(
            architecture=config["architecture"],
            num_classes=network.num_classes,
            input_size=config["input_size"][-1],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            interpolation=config["interpolation"],
            crop_pct=config["crop_pct"],
            crop_mode=config.get("crop_mode") or "center",
            model_args=model_args,
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str, *, to_build: bool = True) -> NetworkSpec:
        """Return the spec in the `config.json` of an artifact.

        Args:
            name: what to call the artifact in an error.
            to_build: whether timm is to build the network, so that it has to know the architecture; an export holds the
                network itself.

        Raises:
            ArtifactFormatError: a value is missing or cannot be, or timm is to build the network and has no such one.
        """
        where = f"{name}/config.json"
        values = _DEFAULTS | {key: config[key] for key in (*_SHAPE, *_DEFAULTS) if key in config}
        check_shape(values, _SHAPE | {"crop_mode": str, "model_args": dict}, where)
        architecture = values["architecture"]
        if not re.fullmatch(r"[A-Za-z0-9_]+", architecture) or (to_build and not timm.is_model(architecture)):
            own = "; where it is a factory of your own, give it: limpq_hub.load(..., build=factory)"
            advice = own if factory_of(architecture) else ""
            raise ArtifactFormatError(f"{where}: {quoted(architecture)} is not an architecture of timm{advice}")
        try:
            model_args = checked_arguments(values["model_args"])
        except RefusedArgument as error:
            raise ArtifactFormatError(f"{where}: model_args: {error}") from None
        listed = {"mean": tuple(values["mean"]), "std": tuple(values["std"]), "model_args": model_args}
        spec = cls(**values | listed)
        fault = spec._fault()
        if fault:
            raise ArtifactFormatError(f"{where}: {fault}")
        return spec

    def check_storable(self) -> None:
        """Raise `UnsupportedLayerError` if it is one that `from_config` would refuse, and so no artifact can hold."""
        if not timm.is_model(self.architecture):
            raise UnsupportedLayerError(
                f"{quoted(self.architecture)} is not an architecture of timm, and no entry or checkpoint can hold it: "
                "make a network of your own with limpq_hub.zoo.own_network"
            )
        fault = self._fault()
        if fault:
            raise UnsupportedLayerError(
                f"no entry or checkpoint can hold {self.title}: {fault}; they hold pictures prepared with a mean (at "
                "most 1000 in size) and a std (0.001 to 1000) of three channels, an interpolation of "
                f"{', '.join(INTERPOLATIONS)}, and a crop_mode of {', '.join(CROP_MODES)}"
            )

    def _fault(self) -> str | None:
        """Return what cannot be of the classes or of how pictures are prepared, None where all can."""
        # Above 1, timm scales a picture to less than the crop and fills it up.
        for key, lowest, highest in (("num_classes", 1, 99_999), ("input_size", 1, 9_999), ("crop_pct", 0.01, 2)):
            if not lowest <= getattr(self, key) <= highest:
                return f"{key} of {quoted(getattr(self, key))} cannot be, only {lowest} to {highest}"
        # Pixels of 0..255 have a std of 1/255 here; far from that a picture becomes noise, or infinite.
        if not all(abs(value) <= 1e3 for value in self.mean):
            return f"mean of {quoted(list(self.mean))} is not how pictures can be prepared"
        whole = len(self.mean) == len(self.std) == 3 and all(1e-3 <= value <= 1e3 for value in self.std)
        if not whole or self.interpolation not in INTERPOLATIONS or self.crop_mode not in CROP_MODES:
            return "mean, std, interpolation or crop_mode is not how pictures can be prepared"
        return None

    def to_config(self) -> dict[str, Any]:
        """Return the spec as `config.json` holds it: what is at its default is left out, and older versions read it."""
        values = asdict(self) | {"mean": list(self.mean), "std": list(self.std), "model_args": dict(self.model_args)}
        return {key: value for key, value in values.items() if key not in _DEFAULTS or value != _DEFAULTS[key]}

    def build(self, **options: Any) -> nn.Module:
        """Return the float network in eval mode, with random weights if nothing else is asked for.

        Args:
            options: of `timm.create_model`.

        Raises:
            ArtifactFormatError: timm cannot build it.
        """
        config = {key: getattr(self, key) for key in PREPARATION}
        options = {"num_classes": self.num_classes, "pretrained": False, **self.model_args, **options}
        try:
            return timm_network(self.architecture, input_size=self.input_size, config=config, **options).eval()
        except BUILD_ERRORS as error:
            raise ArtifactFormatError(f"timm cannot build {self.title}: {quoted(str(error))}") from error

    def transform(self) -> Callable[..., Any]:
        """Return timm's transform of validation: from an RGB picture of any size to a tensor of `input_shape`."""
        return create_transform(
            self.input_shape,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )

    def recount(
        self,
        module: nn.Module,
        *,
        signed: Collection[str],
        offset: Collection[str],
        in_float: Sequence[str] = (),
        fixed: Sequence[str] = (),
    ) -> tuple[dict[str, LayerCost], Trace]:
        """Return the cost of all that `module` multiplies, counted afresh, and the trace that shows it.

        Args:
            signed: what an artifact says has inputs that can be negative: its steps were trained so.
            offset: what it says has inputs with a zero point of their own.
            in_float: what it leaves in float.
            fixed: what it has at 8/8 bits.
        """
        traced = trace(module, self.input_shape, in_float=in_float)
        counted = costs_of(module, traced, [escape(name) for name in fixed])
        costs = {name: replace(cost, signed=name in signed, offset=name in offset) for name, cost in counted.items()}
        return costs, traced
