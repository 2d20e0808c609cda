"""Quantized layers: a convolution or linear layer of any class, its input and its weight quantized."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.fake_quantization import Grid, quantize_to_integers
from limpq_hub.quant.graph_nodes import is_recorded, is_traced, node_of
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.quantized import Quantized, shares_quantizers
from limpq_hub.quant.quantizer import LsqQuantizer
from limpq_hub.quant.tracing.operations import WEIGHT_OPERATIONS, Multiplication, weighted
from limpq_hub.quant.weight_cache import CachedWeight


class QuantLayer(Quantized):
    """A convolution or linear layer with quantized weight and input, in front of the class that computes it.

    In eval mode the quantized weight is computed once and cached, outside of the state dict, until the weight, its step
    size or the bits change; a write that torch does not count, through `.data` or numpy, is seen from the next
    `train()` or `eval()` on. While gradients for the weight are wanted, or where the class computes its weight, it is
    computed at every call, and so in a graph that `torch.compile`, `torch.export` or `torch.jit.trace` makes.

    Attributes:
        weight: [outputs, inputs, ...] of a convolution, [outputs, inputs] of a linear layer; float.
        computes_weight: whether the class makes another weight of it at every call, such as a standardised one; it is
            that one which is quantized.
        constants: names of buffers that the class multiplies by as they are.
    """

    weight: Tensor
    computes_weight: bool = False
    constants: tuple[str, ...] = ()
    # torch sets it of a replica in `nn.DataParallel`, whose parameters are plain attributes for one call.
    _is_replica: bool = False
    _cached_weight: CachedWeight | None = None

    def add_quantizers_(
        self,
        weight_candidates: tuple[int, ...],
        activation_candidates: tuple[int, ...],
        *,
        grid: Grid,
        per_channel: bool = False,
    ) -> None:
        """Give the layer its quantizers, with the weight steps at their initial values.

        Args:
            weight_candidates: bit-widths of the weight, each in 2..8.
            activation_candidates: bit-widths of the input, each in 2..8.
            grid: of the input.
            per_channel: whether every output channel has a weight step of its own; a grouped transposed convolution
                keeps one.

        Raises:
            UnsupportedLayerError: the class computes a weight that cannot be stored.
        """
        channel_dim = 1 if isinstance(self, nn.modules.conv._ConvTransposeNd) else 0
        # The output channels of a grouped transposed convolution lie in two dimensions of its weight.
        per_channel = per_channel and not (channel_dim and getattr(self, "groups", 1) > 1)
        self.weight_quantizer = LsqQuantizer(
            weight_candidates,
            grid="signed",
            per_sample=False,
            channels=self.weight.shape[channel_dim] if per_channel else None,
            channel_dim=channel_dim,
        )
        self.activation_quantizer = LsqQuantizer(activation_candidates, grid=grid, per_sample=True)
        if not self.weight.is_meta:
            self.weight_quantizer.to(self.weight.device)
            self.activation_quantizer.to(self.weight.device)
            if self.computes_weight:
                self._check_computed_weight()
            weight = self.effective_weight()
            for bits in weight_candidates:
                self.weight_quantizer.set_step_(bits, self.weight_quantizer.initial_step(weight, bits))

    def share_quantizers_(self, first: QuantLayer) -> None:
        """Take the quantizers of a layer that has the same weight.

        Raises:
            UnsupportedLayerError: the class computes a weight that cannot be stored, or another one than that layer.
        """
        self.weight_quantizer, self.activation_quantizer = first.weight_quantizer, first.activation_quantizer
        self.computes_weight = first.computes_weight
        if self.computes_weight and not self.weight.is_meta:
            self._check_computed_weight()
            if not self.makes_same_weight(first):
                raise UnsupportedLayerError("makes another weight than a layer that it shares its parameter with")

    def makes_same_weight(self, other: QuantLayer) -> bool:
        """Return whether it multiplies by the weight of another layer; of one parameter both may make their own."""
        # What is no number differs from itself, and is told where it is stored.
        weights = [layer.effective_weight().nan_to_num() for layer in (self, other)]
        return torch.equal(*weights)

    def effective_weight(self) -> Tensor:
        """Return the weight that the input is multiplied by in float, in the shape of the weight."""
        return self._computed_weights(0.0)[-1] if self.computes_weight else self.weight

    def _check_computed_weight(self) -> None:
        """Raise `UnsupportedLayerError` unless every call makes the same one weight, of the shape of its parameter."""
        try:
            weights = [weight for value in (0.0, 1.0) for weight in self._computed_weights(value)]
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, IndexError) as error:
            raise UnsupportedLayerError(f"makes its weight in a way that cannot be followed ({error})") from error
        if not weights:
            raise UnsupportedLayerError("makes its weight in a way that cannot be followed")
        if weights[0].shape != self.weight.shape:
            raise UnsupportedLayerError("makes a weight of another shape than that of its parameter")
        # What is no number differs from itself, and is told where it is stored.
        first = weights[0].nan_to_num()
        if any(weight.shape != first.shape or not torch.equal(weight.nan_to_num(), first) for weight in weights[1:]):
            raise UnsupportedLayerError("makes several weights, or another one for other inputs")

    def _computed_weights(self, value: float) -> list[Tensor]:
        """Return the weights that the class makes in a call, in eval mode, for an input of one value everywhere."""
        kernel = getattr(self, "kernel_size", ())
        dilation = getattr(self, "dilation", ())
        sides = [(size - 1) * gap + 1 for size, gap in zip(kernel, dilation, strict=True)]
        inputs = getattr(self, "in_channels", getattr(self, "in_features", self.weight.shape[1]))
        x = self.weight.new_full((1, inputs, *sides), value)
        weights: list[Tensor] = []

        def note_weight(call: Multiplication) -> Tensor:
            """Note the weight of a call if it is that of this layer, and return the float result."""
            if self._takes(call.second):
                weights.append(call.second)
            return call.result()

        with torch.no_grad(), in_eval_mode(self), _WeightOperations(note_weight):
            super().forward(x)
        return weights

    def multiply(self, call: Multiplication) -> Tensor:
        """Return the result of a call with its input and weight quantized; of a foreign weight as it is."""
        if not self._takes(call.second):
            return call.result()
        x = self.activation_quantizer(call.first)
        weight = self.weight_quantizer(call.second) if self.computes_weight else self.quantized_weight()
        return call.compute(x, weight)

    def _takes(self, weight: Tensor) -> bool:
        """Return whether a weight is this layer's, or computed; a class may multiply by other tensors of it as well."""
        if weight is self.weight:
            return True
        constants = (self._buffers.get(name) for name in self.constants)
        is_parameter = isinstance(weight, nn.Parameter) or id(weight) in replicated_parameters(self)
        return not (is_parameter or any(weight is x for x in constants))

    def quantized_weight(self) -> Tensor:
        """Return the weight on its grid, in the shape of the weight."""
        if is_recorded():
            return self.weight_quantizer(self.weight)
        weight, step, bits = self.weight, self.weight_quantizer.step, self.weight_quantizer.bits
        wants_gradient = torch.is_grad_enabled() and (weight.requires_grad or step.requires_grad)
        if self.training or wants_gradient or weight.is_inference() or step.is_inference():
            self._cached_weight = None
            return self.weight_quantizer(weight)
        if self._cached_weight is None or not self._cached_weight.is_current(weight, step, bits):
            # Outside inference mode: a tensor made in it could not take part in a later autograd pass of the input.
            with torch.inference_mode(False), torch.no_grad():
                self._cached_weight = CachedWeight.of(weight, step, bits, self.weight_quantizer(weight))
        return self._cached_weight.quantized

    def weight_integers(self, bits: int) -> Tensor:
        """Return the integers of the weight at `bits`, int8 in the shape of the weight.

        Raises:
            ValueError: `bits` is no candidate.
        """
        weight, quantizer = self.effective_weight(), self.weight_quantizer
        low, high = quantizer.range_of(bits)
        step = quantizer.step_of(bits)
        return quantize_to_integers(weight, step, low, high, channel_dim=quantizer.channel_dim).to(torch.int8)

    def train(self, mode: bool = True) -> QuantLayer:
        """Set train or eval mode, and empty the cache of the quantized weight."""
        self._cached_weight = None
        return super().train(mode)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return what the class computes of the same arguments, its input and its weight quantized."""
        if is_traced(*args, *kwargs.values()):
            return cast(Tensor, node_of(self, *args, **kwargs))
        with _WeightOperations(self.multiply):
            return super().forward(*args, **kwargs)


class QuantConv2d(QuantLayer, nn.Conv2d):
    """A convolution with quantized weight and input; groups, dilation and padding modes as in `nn.Conv2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of the quantized input, both [batch, channels, height, width]."""
        if is_traced(input):
            return cast(Tensor, node_of(self, input))
        return self._conv_forward(self.activation_quantizer(input), self.quantized_weight(), self.bias)


class QuantConv2dSame(QuantLayer, Conv2dSame):
    """timm's convolution that pads its input so that the output is as large, divided by the stride; quantized."""


class QuantLinear(QuantLayer, nn.Linear):
    """A linear layer with quantized weight and input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the linear map of the quantized input, both [batch, ..., features]."""
        if is_traced(input):
            return cast(Tensor, node_of(self, input))
        return nn.functional.linear(self.activation_quantizer(input), self.quantized_weight(), self.bias)


def replicated_parameters(module: nn.Module) -> frozenset[int]:
    """Return the identities of the parameters of a replica in `nn.DataParallel`, which are plain tensors there."""
    if not getattr(module, "_is_replica", False):
        return frozenset()
    former = (getattr(part, "_former_parameters", {}) for part in module.modules())
    return frozenset(id(parameter) for parameters in former for parameter in parameters.values())


def quantize_layer_(layer: nn.Module) -> QuantLayer:
    """Turn a float layer into a quantized one, in place: its class is swapped for one in front of its own.

    Whoever holds the layer, such as a list beside its registration, then holds the quantized one.

    Returns:
        The layer itself; it still needs `add_quantizers_`.
    """
    layer_class: Any = type(layer)
    layer.__class__ = _quantized_class(layer_class)
    return cast(QuantLayer, layer)


def check_one_weight(network: nn.Module, name: str, layer: QuantLayer) -> None:
    """Raise `UnsupportedLayerError` if a layer makes another weight of the parameter that it shares with this one.

    Integers are stored once for all of them.

    Args:
        name: of the layer in the network.
    """
    for other_name, other in network.named_modules():
        if other is layer or not isinstance(other, QuantLayer) or not shares_quantizers(other, layer):
            continue
        if not other.makes_same_weight(layer):
            raise UnsupportedLayerError(
                f"{other_name} ({type(other).__name__}) makes another weight of its parameter than {name}, which "
                "shares it, and integers are stored once for both: train them with the same factors, or leave them in "
                f'float with exclude=["{name}"] when the network is converted'
            )


@cache
def _quantized_class(layer_class: Any) -> Any:
    """Return the class of a quantized layer that computes what `layer_class` computes."""
    plain = {nn.Conv2d: QuantConv2d, Conv2dSame: QuantConv2dSame, nn.Linear: QuantLinear}
    return plain.get(layer_class) or type(f"Quant{layer_class.__name__}", (QuantLayer, layer_class), {})


class _WeightOperations(TorchFunctionMode):
    """Hands every convolution and linear map that runs inside to a function."""

    def __init__(self, run: Callable[[Multiplication], Tensor]) -> None:
        super().__init__()
        self._run = run

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        if function in WEIGHT_OPERATIONS:
            return self._run(weighted(function, args, options))
        return function(*args, **options)
