"""What a layer is in its block, by its shape and what runs before it: depthwise networks lose differently by role."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

from limpq_hub.plan.costs import LayerRole


def role_of(layer: nn.Module, inputs: int, before: LayerRole | None) -> LayerRole | None:
    """Return the role of a layer, or None if it has none.

    Args:
        inputs: elements of its input for one image.
        before: role of the layer that runs before it.
    """
    if not isinstance(layer, _ConvNd):
        return None
    if layer.groups == layer.in_channels > 1:
        return "depthwise"
    if any(size != 1 for size in layer.kernel_size) or layer.groups > 1:
        return None
    shrinks, grows = layer.out_channels < layer.in_channels, layer.out_channels > layer.in_channels
    if inputs == layer.in_channels:  # one position: the input is pooled over the picture
        if shrinks:
            return "squeeze"
        # Without a squeeze before it, it is the head of a network that pools first.
        return "excite" if grows and before == "squeeze" else None
    if grows:
        return "expand"
    return "project" if shrinks or before in ("depthwise", "excite") else None
