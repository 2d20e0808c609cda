"""Networks by layer name, as the tests of other tools' formats use them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy


@pytest.fixture
def policy() -> Callable[..., Policy]:
    """A function that builds a policy from (weight bits, activation bits) by layer name."""

    def build(model: str, layers: dict[str, tuple[int, int]], input_size: int | None = None) -> Policy:
        return Policy(model, {name: LayerBits(*bits) for name, bits in layers.items()}, input_size)

    return build


@pytest.fixture
def small_resnet() -> dict[str, tuple[int, int]]:
    """Weight and activation bits of one plain and one downsampling unit between the first and the last layer."""
    return {
        "conv1": (8, 8),
        "layer1.0.conv1": (2, 3),
        "layer1.0.conv2": (3, 4),
        "layer2.0.conv1": (4, 5),
        "layer2.0.conv2": (5, 6),
        "layer2.0.downsample.0": (6, 5),
        "fc": (8, 7),
    }
