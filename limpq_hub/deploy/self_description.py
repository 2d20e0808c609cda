"""What an exported network says of itself: in its metadata, in `config.json` and in `preprocessor_config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from PIL import Image
from torch import nn

from limpq_hub.errors import OutputError, UnsupportedLayerError
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import architecture_of, read_policy
from limpq_hub.version import __version__
from limpq_hub.zoo.limpq_model import Loaded
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.timm_config import timm_config

# As transformers numbers them.
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class SelfDescription:
    """What is known of a quantized network.

    Attributes:
        policy: its bits.
        timm: its `config.json` in timm's layout; of a network without `spec`, its architecture or class alone.
        spec: how it takes pictures; None of a network that is none of timm's, and of one that timm made another of, by
            arguments that no entry holds or for pictures of other channels.
        classes: id and name of each class, in the order of the logits; empty if not known.
        unsaid: why there is no `spec`; empty where there is one.
    """

    policy: Policy
    timm: Mapping[str, Any]
    spec: NetworkSpec | None
    classes: tuple[Mapping[str, str], ...]
    unsaid: str = ""

    @classmethod
    def of(cls, model: nn.Module) -> SelfDescription:
        """Return what a network from `load`, from timm, or of one's own says of itself."""
        loaded = cast("Loaded | None", getattr(model, "limpq", None))
        spec = _spec_of(model)
        if isinstance(spec, str):
            return cls(read_policy(model), {"architecture": architecture_of(model)}, None, (), unsaid=spec)
        return cls(read_policy(model), timm_config(model), spec, loaded.classes if loaded else ())

    def of_pictures(self, shape: tuple[int, ...]) -> SelfDescription:
        """Return what the network says of itself where it is exported for pictures of another size than its own.

        How pictures are prepared it cannot say of those that are not square.

        Args:
            shape: (channels, height, width) of the pictures.

        Raises:
            OutputError: they have another number of channels than the network takes.
        """
        if self.spec is None or shape == self.spec.input_shape:
            return self
        channels, height, width = shape
        if channels != self.spec.input_shape[0]:
            raise OutputError(
                f"images: pictures of {list(shape)}, the network takes {self.spec.input_shape[0]} channels: give such"
            )
        if height != width:
            unsaid = f"pictures of {list(shape)} are not square"
            return replace(self, timm={"architecture": self.spec.architecture}, spec=None, unsaid=unsaid)
        prepared = {**self.timm["pretrained_cfg"], "input_size": shape}
        return replace(self, timm={**self.timm, "pretrained_cfg": prepared}, spec=replace(self.spec, input_size=height))

    def metadata(self) -> dict[str, str]:
        """Return what the ONNX file itself says, by key."""
        content: dict[str, Any] = {
            "policy": self.policy.to_json(),
            "policy_sha256": self.policy.digest(),
            "preprocessing": self.preprocessor(),
            "classes": [dict(record) for record in self.classes],
            "version": __version__,
        }
        return {
            f"limpq.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in content.items()
        }

    def config(self) -> dict[str, Any]:
        """Return `config.json`: timm's names, and beside them transformers' names of the classes."""
        ids = [record["id"] for record in self.classes]
        names = [record["name"] for record in self.classes]
        if not ids:
            return dict(self.timm)
        return {
            **self.timm,
            "label_names": ids,
            "label_descriptions": dict(zip(ids, names, strict=True)),
            "id2label": {str(index): name for index, name in enumerate(names)},
            "label2id": {name: index for index, name in enumerate(names)},
        }

    def preprocessor(self) -> dict[str, Any] | None:
        """Return `preprocessor_config.json` as transformers reads it; None where its names cannot say it."""
        if self.spec is None or self.spec.crop_mode == "border":
            return None
        spec, side = self.spec, self.spec.input_size
        crops = spec.crop_mode == "center"
        size = {"shortest_edge": int(side / spec.crop_pct)} if crops else {"height": side, "width": side}
        return {
            "image_processor_type": "BitImageProcessor" if crops else "ViTImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": size,
            "resample": int(_RESAMPLING[spec.interpolation]),
            "do_center_crop": crops,
            "crop_size": {"height": side, "width": side},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(spec.mean),
            "image_std": list(spec.std),
        }


def _spec_of(model: nn.Module) -> NetworkSpec | str:
    """Return how a network of timm takes pictures; why it does not say so where timm's name and arguments do not."""
    config = getattr(model, "pretrained_cfg", None)
    if not config:
        return "it is none that timm has by name"
    try:
        spec = NetworkSpec.of(model)
    except UnsupportedLayerError as error:
        return str(error)
    names = config.get("first_conv") or ()
    first = {names} if isinstance(names, str) else set(names)
    channels = {
        layer.in_channels for name, layer in model.named_modules() if name in first and hasattr(layer, "in_channels")
    }
    of_its_own = min(channels - {spec.input_shape[0]}, default=None)
    if of_its_own is None:
        return spec
    plural = "" if of_its_own == 1 else "s"
    return f"its first convolution takes {of_its_own} channel{plural}, not {spec.input_shape[0]}"
