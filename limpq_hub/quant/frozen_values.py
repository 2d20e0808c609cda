"""The weight and bias that a frozen layer multiplies by, computed once, and whether they are still up to date."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.fake_quantization import quantize_to_integers, spread_over, upcast_half
from limpq_hub.quant.graph_nodes import is_traced
from limpq_hub.quant.layers import QuantLayer

# What a tensor that a frozen convolution returns says of the normalization that is in it already: its identity. On the
# tensor, not on a module, which several threads may run at once.
NORMALIZED_BY = "_normalized_by"


@dataclass(frozen=True)
class FrozenValues:
    """The folded weight and bias of a layer, and the stamp that shows whether they are still up to date.

    Attributes:
        bits: of weight and input.
        stamp: of the tensors that all was computed from (`stamp_of`), and what the normalization adds to the variance;
            empty once the layer was moved.
        sources: these tensors, held so that no other one can be given their memory.
        step: of the input, shape [].
        low, high: lowest and highest integer of the input.
        weight: on its grid, times the steps of input and weight and the factors of the normalization.
        bias: [outputs], with the offsets of the normalization, or None.
        is_normalized: whether there is a normalization in them.
    """

    bits: LayerBits
    stamp: tuple[float, ...]
    sources: tuple[Tensor, ...]
    step: Tensor
    low: int
    high: int
    weight: Tensor
    bias: Tensor | None
    is_normalized: bool

    def integers_of(self, x: Tensor) -> Tensor:
        """Return the integers that `x` falls on, in the shape and precision of `x`."""
        return quantize_to_integers(upcast_half(x), self.step, self.low, self.high).to(x.dtype)


def stamp_of(sources: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Return the address and the count of in-place writes of each tensor, -1 where they are not counted.

    Another tensor in the place of one, and every write by an operation of torch, changes it. A write through `.data`,
    numpy or the storage, or by a kernel that torch does not know, does not.
    """
    versions = (-1 if source.is_inference() else source._version for source in sources)
    return (*(source.data_ptr() for source in sources), *versions)


def operands_of(layer: QuantLayer) -> list[Tensor]:
    """Return the tensors that the result of a layer is computed from beside its input."""
    # Out of torch's dictionaries, at every call: as attributes they take as long as to compare all of their stamps.
    modules, parameters = layer._modules, layer._parameters
    weight, activation = cast(Any, modules["weight_quantizer"]), cast(Any, modules["activation_quantizer"])
    operands = [
        # A plain attribute of a layer that computes it in a hook, as in torch's pruning.
        *(parameters[name] if name in parameters else getattr(layer, name, None) for name in ("weight", "bias")),
        weight._parameters["step"],
        activation._parameters["step"],
        activation._buffers.get("zero_point"),
    ]
    return [operand for operand in operands if operand is not None]


class FrozenLayer(QuantLayer):
    """Base class of frozen layers: their folded values, and whether a call may use them.

    Attributes:
        norm: the batch normalization behind it, or none; in a tuple, so that it is not registered here as well.
        places: where the two are registered: the module that has one of them, its name there, and which it is.
    """

    norm: tuple[nn.BatchNorm2d, ...] = ()
    places: tuple[tuple[nn.Module, str, nn.Module], ...] = ()
    _values: FrozenValues | None = None

    def folded_norm(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the batch normalization behind the layer; none once another module is in the place of one of them."""
        return self.norm if all(parent._modules.get(name) is module for parent, name, module in self.places) else ()

    def noted(self, output: Tensor) -> Tensor:
        """Return what the frozen values gave, with a note for the normalization that is folded into them."""
        for norm in self.folded_norm():
            setattr(output, NORMALIZED_BY, id(norm))
        return output

    def runs_frozen(self, x: Tensor) -> bool:
        """Return whether the layer computes by its frozen values."""
        if (
            self._is_replica
            or is_traced(x)
            or self.runs_at(None)
            or (torch.is_grad_enabled() and (x.requires_grad or self._learns()))
        ):
            return False
        if torch.compiler.is_compiling() and not self._is_up_to_date():
            return False
        if torch.jit.is_tracing() and (self._values is None or self._values.stamp != self._stamp(self._sources())):
            return False
        return not any(
            module.training or module._forward_hooks or module._forward_pre_hooks
            for module in (self, *self.folded_norm())
        )

    def _is_up_to_date(self) -> bool:
        """Return whether the folded values are of the active bits, and of the normalization that is there."""
        values = self._values
        return values is not None and values.bits == self.bits and values.is_normalized == bool(self.folded_norm())

    def _learns(self) -> bool:
        return any(source.requires_grad for source in self._sources())

    def _sources(self) -> tuple[Tensor, ...]:
        sources: list[Tensor | None] = [*operands_of(self)]
        for norm in self.folded_norm():
            # Writes of torch to the statistics are not counted; to the number of batches they are.
            sources += [norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked]
        return tuple(source for source in sources if source is not None)

    def _stamp(self, sources: tuple[Tensor, ...]) -> tuple[float, ...]:
        return (*stamp_of(sources), *(norm.eps for norm in self.folded_norm()))

    def _bias(self) -> Tensor | None:
        return cast(Tensor | None, getattr(self, "bias", None))

    def frozen_values(self) -> FrozenValues:
        """Return what the layer multiplies by, computed anew if anything has changed.

        A compiled network does not look for changes: after one it is to be called once before it is compiled again.
        """
        if torch.compiler.is_compiling() and self._values is not None:
            return self._values
        sources = self._sources()
        stamp = self._stamp(sources)
        if self._values is None or self._values.stamp != stamp or -1 in stamp or not self.runs_at(self._values.bits):
            # Outside inference mode: a tensor made in it could not take part in a later autograd pass of the input.
            with torch.inference_mode(False), torch.no_grad():
                self._values = self._computed(stamp, sources)
        return self._values

    def _computed(self, stamp: tuple[float, ...], sources: tuple[Tensor, ...]) -> FrozenValues:
        bits, bias = self.bits, self._bias()
        if bits is None:
            raise RuntimeError("a layer in float has no frozen values")
        low, high = self.activation_quantizer.range_of(bits.activation)
        step = upcast_half(self.activation_quantizer.step_of(bits.activation)).clone()
        weight = upcast_half(self.weight_quantizer(self.weight)) * step
        for norm in self.folded_norm():
            mean, variance = (upcast_half(norm.get_buffer(key)) for key in ("running_mean", "running_var"))
            factor = (variance + norm.eps).rsqrt() * (norm.weight if norm.affine else 1)
            bias = (mean.neg() if bias is None else bias - mean) * factor + (norm.bias if norm.affine else 0)
            weight = weight * spread_over(weight, factor, 0)
        dtype = self.weight.dtype
        held = tuple(source.detach() for source in sources)
        bias = None if bias is None else bias.to(dtype)
        return FrozenValues(bits, stamp, held, step, low, high, weight.to(dtype), bias, bool(self.folded_norm()))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        values = self._values
        if values is not None:
            moved = {"step": fn(values.step), "weight": fn(values.weight)}
            bias = None if values.bias is None else fn(values.bias)
            self._values = replace(values, stamp=(), sources=(), bias=bias, **moved)
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> FrozenLayer:
        """Set train or eval mode; the values are computed anew, as torch does not count every write to a weight."""
        if self._values is not None:
            self._values = replace(self._values, stamp=(), sources=())
        super().train(mode)
        return self

    def forget(self) -> None:
        """Compute the values anew before they are used again."""
        self._values = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        super()._load_from_state_dict(*args, **kwargs)
