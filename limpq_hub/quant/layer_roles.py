"""What a layer is in its block, by its shape: depthwise networks lose differently in each of these roles."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

from limpq_hub.plan.costs import LayerRole


def role_of(layer: nn.Module, inputs: int) -> LayerRole | None:
    """Return the role of a layer, or None if its shape is that of no role.

    Args:
        inputs: elements of its input for one image.
    """
    if not isinstance(layer, _ConvNd):
        return None
    if layer.groups == layer.in_channels > 1:
        return "depthwise"
    if any(size != 1 for size in layer.kernel_size) or layer.groups > 1 or layer.in_channels == layer.out_channels:
        return None
    grows = layer.out_channels > layer.in_channels
    if inputs == layer.in_channels:  # one position: the input is pooled over the picture
        return "excite" if grows else "squeeze"
    return "expand" if grows else "project"
