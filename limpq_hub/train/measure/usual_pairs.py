"""How pairs of bits are measured unless it is told otherwise. Loads nothing."""

from __future__ import annotations

# Of all other layers of the jointly trained network; in the float one they are float. What chose the best policies of
# those that were tried: training/results/resnet18.tiny_imagenet/importance.md.
USUAL_OTHERS = 3
USUAL_IMAGES = 100
# Where BatchNorm statistics are corrected, other batches of the same images give other figures.
MEASURED_BATCH = 50
