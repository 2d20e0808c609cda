"""Quantized layers as `load` returns them: weight, step sizes and batch normalization are folded once, for speed.

The input of a layer is quantized to integers. Its step size, that of the weight, and the batch normalization behind a
convolution are folded into one weight and one bias. The network is the same but for floating-point rounding: a value
halfway between two integers may be rounded to the other one.

A layer computes as in training, without the folded values: in train mode, where gradients are needed, under hooks on
the layer or its normalization, and in float. Once a tensor that they were computed from has changed, they are computed
again; what is written past torch's count of writes, through `.data`, numpy or a foreign kernel, is seen from the next
`train()` or `eval()` on. A folded normalization passes on what its convolution has just given, and normalizes what
anything else gives: what is put between the two, such as a hook that returns another tensor, needs `thaw_` first. Once
another module is registered in the place of one of the two, each computes alone: `model.bn1 = nn.BatchNorm2d(64)`
normalizes what the convolution gives. Parameters and state dict stay as they are. A convolution that is called alone,
`model.conv1(x)`, or taken into another network without its normalization, gives what is normalized already: for that,
and for the very bits of training, there is `thaw_(model)`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, cast

from timm.layers import BatchNormAct2d, conv2d_same
from torch import Tensor, nn
from torch.nn import functional

from limpq_hub.quant.folded_norms import FoldedBatchNorm2d, FoldedBatchNormAct2d, FoldedNorm
from limpq_hub.quant.frozen_values import FrozenLayer
from limpq_hub.quant.layers import QuantConv2d, QuantConv2dSame, QuantLayer, QuantLinear
from limpq_hub.quant.norm_pairs import normalized_convolutions


class FrozenConv2d(FrozenLayer, QuantConv2d):
    """A convolution with a quantized weight and input, and the batch normalization behind it if there is one."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of the quantized input, [batch, channels, height, width], or its norm."""
        if not self.runs_frozen(input):
            return QuantConv2d.forward(self, input)
        values = self.frozen_values()
        return self.noted(self._conv_forward(values.integers_of(input), values.weight, values.bias))


class FrozenConv2dSame(FrozenLayer, QuantConv2dSame):
    """The same of timm's convolution that pads its input by itself: what is padded is zero, and so is its integer."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the quantized input, [batch, channels, height, width], or its norm."""
        if not self.runs_frozen(x):
            return QuantConv2dSame.forward(self, x)
        values = self.frozen_values()
        # Pairs, which the types of torch call tuples of any length.
        shape: Any = (self.stride, self.padding, self.dilation, self.groups)
        return self.noted(conv2d_same(values.integers_of(x), values.weight, values.bias, *shape))


class FrozenLinear(FrozenLayer, QuantLinear):
    """A linear layer with a quantized weight and input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the linear map of the quantized input, both [batch, ..., features]."""
        if not self.runs_frozen(input):
            return QuantLinear.forward(self, input)
        values = self.frozen_values()
        return functional.linear(values.integers_of(input), values.weight, values.bias)


_FROZEN: dict[type, type] = {
    QuantConv2d: FrozenConv2d,
    QuantConv2dSame: FrozenConv2dSame,
    QuantLinear: FrozenLinear,
}
_FOLDED: dict[type, type] = {nn.BatchNorm2d: FoldedBatchNorm2d, BatchNormAct2d: FoldedBatchNormAct2d}


def freeze_(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Let the layers of a quantized network compute what never changes once, in place; other classes stay as they are.

    Args:
        network: in eval mode; it runs once, to see which normalization takes what from which convolution.
        input_shape: (channels, height, width) of one image.
    """
    pairs = normalized_convolutions(network, input_shape, norms=_FOLDED.keys())
    for module in list(network.modules()):
        if type(module) in _FROZEN and not cast(QuantLayer, module).computes_weight:
            module.__class__ = _FROZEN[type(module)]
    for convolution, norm in pairs.items():
        if isinstance(convolution, FrozenLayer):
            norm.__class__ = _FOLDED[type(norm)]
            convolution.norm, cast(FoldedNorm, norm).convolution = (norm,), (convolution,)
            convolution.places = tuple(_places_of((convolution, norm), network))
    for module in network.modules():
        if isinstance(module, FrozenLayer) and module.bits is not None:
            module.frozen_values()


def thaw_(network: nn.Module) -> nn.Module:
    """Undo `freeze_`, in place: every module computes alone what it computed in training, to the last bit.

    Returns:
        `network` itself.
    """
    plain = {frozen: before for before, frozen in (_FROZEN | _FOLDED).items()}
    for module in network.modules():
        if type(module) in plain:
            module.__class__ = plain[type(module)]
            for name in ("norm", "places", "convolution", "_values"):
                vars(module).pop(name, None)
    return network


def _places_of(modules: Collection[nn.Module], network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield where modules are registered in a network: the module that has one, its name there, and which it is."""
    for parent in network.modules():
        for name, child in parent._modules.items():
            if child is not None and child in modules:
                yield parent, name, child
