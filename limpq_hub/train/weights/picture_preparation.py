"""Weights that take pictures otherwise than a training prepares them: told, for nothing else shows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from limpq_hub.train.weights.float_weights import open_weights
from limpq_hub.zoo.network import PREPARATION, NetworkSpec
from limpq_hub.zoo.timm_names import known_config


def preparation_note(
    weights: str | None, spec: NetworkSpec, option: str, *, model: str, typed: Collection[str] = ()
) -> str | None:
    """Return in one line how weights take pictures, and how they are given them, where that is not the same; else None.

    Weights without a configuration do not say how they take pictures.

    Args:
        weights: as `float_network` takes them; None for those of the network that is trained.
        spec: that network, which pictures are prepared for.
        option: that the weights were typed for.
        model: timm name that "pretrained" means the weights of.
        typed: what of the preparation was asked for, fields of the spec.

    Raises:
        TrainingError: there are no such weights.
        ArtifactError: what they say cannot be.
        HubError: the Hub does not give them.
    """
    if weights is None:
        return None
    stated = {key: value for key, value in _stated(weights, option, model).items() if key not in typed}
    own = NetworkSpec.from_config({**spec.to_config(), **stated}, f"{option} {weights}", to_build=False)
    if own.preparation == spec.preparation:
        return None
    return (
        f"note: {option} {weights} takes pictures otherwise than they are prepared here: it with {own.preparation}; "
        f"here with {spec.preparation}"
    )


def _stated(weights: str, option: str, model: str) -> Mapping[str, Any]:
    """Return how weights say that they take pictures, as JSON holds it; nothing where they do not."""
    if weights == "pretrained":
        timms = known_config(model)
        stated = {key: getattr(timms, key) for key in PREPARATION} if timms else {}
    else:
        config = open_weights(weights, option).config
        stated = dict(config.preparation) if config else {}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in stated.items()}
