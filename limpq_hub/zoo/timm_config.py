"""timm's own `config.json` beside weights: which network they are of, and how it takes pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from timm.models import PretrainedCfg
from torch import nn

from limpq_hub.plan.jsonfile import check_shape
from limpq_hub.zoo.model_args import kept_arguments
from limpq_hub.zoo.network import PREPARATION, NetworkSpec

# What timm needs to know of a network to build it again and to load weights into it.
_BUILT_FROM = ("fixed_input_size", "pool_size", "first_conv", "classifier")


@dataclass(frozen=True)
class TimmConfig:
    """What a `config.json` in timm's layout says.

    Attributes:
        architecture: timm name without a tag.
        num_classes: None if it does not say.
        input_size: height and width in pixels; timm's default where it does not say, as of all below.
        preparation: mean, std, interpolation, crop_pct and crop_mode.
        model_args: arguments of `timm.create_model`, as they are written there.
    """

    architecture: str
    num_classes: int | None
    input_size: int
    preparation: Mapping[str, Any]
    model_args: Mapping[str, Any]


def parse_timm_config(content: Any, name: str) -> TimmConfig | None:
    """Return what parsed JSON says in timm's layout, the older one without `pretrained_cfg` too; None in any other.

    Args:
        name: what to call the file in an error.

    Raises:
        ArtifactFormatError: it is in timm's layout, and a value of it is malformed.
    """
    # An entry or checkpoint of this library names its architecture too, and a format.
    if not isinstance(content, dict) or "architecture" not in content or "format" in content:
        return None
    pretrained = content.get("pretrained_cfg", content)
    model_args = content.get("model_args", {})
    check_shape(content, {"architecture": str}, name)
    check_shape(pretrained, dict, f"{name}: pretrained_cfg")
    check_shape(model_args, dict, f"{name}: model_args")
    num_classes = content.get("num_classes", pretrained.get("num_classes"))
    if num_classes is not None:
        check_shape(num_classes, int, f"{name}: num_classes")
    defaults = PretrainedCfg()
    stated = {key: pretrained.get(key) for key in PREPARATION}
    input_shape = pretrained.get("input_size") or defaults.input_size
    check_shape(list(input_shape) if isinstance(input_shape, tuple) else input_shape, [int], f"{name}: input_size")
    return TimmConfig(
        architecture=content["architecture"],
        num_classes=num_classes,
        input_size=input_shape[-1],
        preparation={key: getattr(defaults, key) if value is None else value for key, value in stated.items()},
        model_args=kept_arguments(model_args),
    )


def timm_config(module: nn.Module) -> dict[str, Any]:
    """Return the `config.json` with which timm loads the weights of a network as `local-dir:` or from the Hub."""
    spec, network = NetworkSpec.of(module), cast(Any, module)
    return {
        "architecture": spec.architecture,
        "num_classes": spec.num_classes,
        "model_args": dict(spec.model_args),
        "pretrained_cfg": {
            "num_classes": spec.num_classes,
            "input_size": spec.input_shape,
            **{key: getattr(spec, key) for key in PREPARATION},
            **{key: network.pretrained_cfg.get(key) for key in _BUILT_FROM},
        },
    }
