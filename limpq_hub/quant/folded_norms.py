"""Batch normalizations that are folded into the frozen convolution before them, and pass on what that gives them."""

from __future__ import annotations

from typing import Any, cast

from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from limpq_hub.quant.frozen_values import NORMALIZED_BY, FrozenLayer
from limpq_hub.quant.graph_nodes import is_traced, node_of


class FoldedNorm(nn.BatchNorm2d):
    """A batch normalization that passes on what its convolution gave with it folded in, and normalizes all else.

    Attributes:
        convolution: the one that it is folded into; in a tuple, so that it is not registered here as well.
    """

    convolution: tuple[FrozenLayer, ...] = ()

    def is_in(self, x: Tensor) -> bool:
        """Return whether the convolution has normalized `x` already."""
        return getattr(x, NORMALIZED_BY, None) == id(self)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.convolution[0].forget()
        super()._load_from_state_dict(*args, **kwargs)


class FoldedBatchNorm2d(FoldedNorm):
    """`nn.BatchNorm2d`, folded."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized input, both [batch, channels, height, width]."""
        if is_traced(input):
            return cast(Tensor, node_of(self, input))
        return input if self.is_in(input) else super().forward(input)


class FoldedBatchNormAct2d(FoldedNorm, BatchNormAct2d):
    """timm's `BatchNormAct2d`, folded: its activation is what is left of it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized and activated input, both [batch, channels, height, width]."""
        if is_traced(x):
            return cast(Tensor, node_of(self, x))
        return self.act(self.drop(x)) if self.is_in(x) else BatchNormAct2d.forward(self, x)
