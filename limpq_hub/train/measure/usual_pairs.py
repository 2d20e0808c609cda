"""How pairs of bits are measured unless it is told otherwise. Loads no torch."""

from __future__ import annotations

from typing import Literal, TypeAlias

# The float network with steps of least error, or the jointly trained one with its learned steps.
MeasuredWeights: TypeAlias = Literal["float", "joint"]

# Two minutes of a ResNet-18 at 64 pixels on two cores: training/README.md.
USUAL_IMAGES = 100
# Where BatchNorm statistics are corrected, other batches of the same images give other figures.
MEASURED_BATCH = 50
# In the joint network, what chose best of those that were tried: training/results/resnet18.tiny_imagenet/importance.md.
_BITS_OF_OTHERS = 3


def usual_weights(per_channel: bool) -> MeasuredWeights:
    """Return which network is measured, for weights with a step per channel, or one per layer.

    With a step per channel pairs of the joint network chose worse, with all other layers in float:
    training/results/tf_efficientnet_lite0.in1k/README.md.
    """
    return "float" if per_channel else "joint"


def usual_others(weights: MeasuredWeights) -> int | None:
    """Return the most bits of all other layers; None for float."""
    return _BITS_OF_OTHERS if weights == "joint" else None
