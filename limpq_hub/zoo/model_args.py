"""Which arguments of `timm.create_model` an artifact may hold: a closed list of plain values. No torch, no timm.

None of them can name code, a file or weights. What a network takes of them is for timm to say: `mobilenetv2_100` takes
`pad_type` and `depth_multiplier`, but has a `channel_multiplier` of its own, and refuses another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from limpq_hub.errors import quoted
from limpq_hub.plan.quantities import decimal_number

ModelArgument = str | int | float | bool


class _Numbers(NamedTuple):
    """Numbers of a type, from the lowest to the highest."""

    kind: type[int] | type[float]
    lowest: float
    highest: float


_ACTIVATIONS = (
    "relu", "relu6", "leaky_relu", "elu", "silu", "swish", "mish", "gelu", "gelu_tanh", "quick_gelu",
    "hard_sigmoid", "hard_swish", "hard_mish", "sigmoid", "tanh",
)  # fmt: skip
_POOLINGS = ("avg", "max", "avgmax", "catavgmax", "fast", "fastavg", "fastmax", "fastavgmax", "fastcatavgmax")
_COUNT, _CHANNELS, _FACTOR = _Numbers(int, 1, 64), _Numbers(int, 1, 8192), _Numbers(float, 0.1, 8)
# What each may be: one of some words, numbers of a range, or (bool) true or false.
_ALLOWED: dict[str, tuple[str, ...] | _Numbers | type[bool]] = {
    # any network
    "act_layer": _ACTIVATIONS,
    "global_pool": (*_POOLINGS, "token", "map", "prr"),
    "bn_eps": _Numbers(float, 1e-9, 1),
    "bn_momentum": _Numbers(float, 0, 1),
    # convolutional networks
    "pad_type": ("", "same", "symmetric", "valid"),
    "output_stride": _Numbers(int, 8, 32),
    "channel_multiplier": _FACTOR,
    "depth_multiplier": _FACTOR,
    "fix_stem_head": bool,
    "group_size": _CHANNELS,
    "cardinality": _CHANNELS,
    "base_width": _CHANNELS,
    "stem_width": _CHANNELS,
    "stem_type": ("", "deep", "deep_tiered", "patch", "overlap", "overlap_tiered"),
    "replace_stem_pool": bool,
    "avg_down": bool,
    "conv_mlp": bool,
    "use_grn": bool,
    "ls_init_value": _Numbers(float, 0, 10),
    # transformers
    "patch_size": _COUNT,
    "window_size": _COUNT,
    "embed_dim": _CHANNELS,
    "depth": _COUNT,
    "num_heads": _COUNT,
    "mlp_ratio": _FACTOR,
    "init_values": _Numbers(float, 0, 10),
    "qkv_bias": bool,
    "qk_norm": bool,
    "class_token": bool,
    "reg_tokens": _Numbers(int, 0, 64),
    "no_embed_class": bool,
    "pre_norm": bool,
    "fc_norm": bool,
}


# What an artifact says elsewhere, or what changes nothing once a network is trained.
_NOT_KEPT = ("num_classes", "img_size", "zero_init_last", "weight_init")
_RGB = ("in_chans", 3)
_DROP_RATES = ("drop_rate", "drop_path_rate", "drop_block_rate")


class RefusedArgument(ValueError):
    """An argument that an artifact cannot hold; the message says why."""


def kept_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments of `timm.create_model` that make another network of the same name, unchecked."""
    return {
        name: value
        for name, value in arguments.items()
        if name not in _NOT_KEPT and not str(name).endswith(_DROP_RATES) and value is not None and (name, value) != _RGB
    }


def checked_arguments(arguments: Mapping[str, Any]) -> dict[str, ModelArgument]:
    """Return the arguments, sorted by name, whole numbers as floats where fractions are allowed.

    Raises:
        RefusedArgument: a name is not on the list, or a value is not of its type and range.
    """
    return {name: _checked(name, arguments[name]) for name in sorted(arguments, key=str)}


def typed_argument(text: str) -> tuple[str, ModelArgument]:
    """Return name and value of an argument as it is typed: "pad_type=same".

    Raises:
        RefusedArgument: the text is no NAME=VALUE, or not on the list.
    """
    name, equals, written = text.partition("=")
    if not equals:
        raise RefusedArgument(f"{quoted(text)} is not NAME=VALUE, for example pad_type=same")
    return name, _checked(name, _value(name, written))


def typed_text(arguments: Mapping[str, ModelArgument]) -> list[str]:
    """Return the arguments as they are typed, a word each."""
    return [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in arguments.items()]


def _value(name: str, written: str) -> object:
    """Return what a word stands for; the word itself where it stands for nothing of the type."""
    allowed = _ALLOWED.get(name)
    if allowed is bool:
        return {"true": True, "false": False}.get(written.lower(), written)
    if isinstance(allowed, _Numbers):
        try:
            if allowed.kind is float:
                return decimal_number(written)
            return int(written) if written.isascii() and written.isdecimal() else written
        except ValueError:
            return written
    return written


def _checked(name: str, value: object) -> ModelArgument:
    allowed = _ALLOWED.get(name)
    if allowed is None:
        raise RefusedArgument(
            f"{quoted(name)} is not an argument that can be kept; limpq_hub.zoo.model_args lists those that can"
        )
    if isinstance(allowed, _Numbers):
        number = _number(value, allowed)
        if number is not None:
            return number
        kind = "a whole number" if allowed.kind is int else "a number"
        expected = f"{kind} from {allowed.lowest:g} to {allowed.highest:g}"
    elif isinstance(allowed, tuple):
        if isinstance(value, str) and value in allowed:
            return value
        expected = f"one of {', '.join(map(repr, allowed))}"
    else:
        if isinstance(value, bool):
            return value
        expected = "true or false"
    raise RefusedArgument(f"{name} must be {expected}, found {quoted(value)}")


def _number(value: object, allowed: _Numbers) -> int | float | None:
    """Return a number of the type and range, or None; whether it is a number at all is asked first."""
    if isinstance(value, bool) or not isinstance(value, int if allowed.kind is int else int | float):
        return None
    return allowed.kind(value) if allowed.lowest <= value <= allowed.highest else None
