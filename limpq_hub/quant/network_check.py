"""What of a network would be searched, fixed, counted and left in float; nothing is computed, shapes are enough."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from limpq_hub.plan.costs import FLOAT, Costs, LayerCost
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops, total_size_bytes
from limpq_hub.quant.convert import DEFAULT_CANDIDATES
from limpq_hub.quant.profile import costs_of
from limpq_hub.quant.tracing.forward_trace import Trace, meta_twins, trace
from limpq_hub.quant.tracing.quantizable import is_excluded

Kind = Literal["convolution", "linear", "product", "float"]


@dataclass(frozen=True)
class CheckedOperation:
    """One layer, product of two activations, or operation that stays in float.

    Attributes:
        kind: "linear" of every layer that is no convolution.
        cost: per image, before the search chooses bits.
        reason: why it stays in float; empty of what does not.
    """

    kind: Kind
    cost: LayerCost
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what `limpq check --json` prints of it."""
        return {"kind": self.kind, **self.cost.to_json()} | ({"reason": self.reason} if self.reason else {})


@dataclass(frozen=True)
class NetworkCheck:
    """What a check found.

    Attributes:
        input_shape: (channels, height, width) of one image.
        candidates: bit-widths of what is searched, the lowest first.
        operations: all that is multiplied, by name, in the order of execution.
        flop_counter_macs: multiply-accumulates of the untouched network by PyTorch's flop counter.
        ties: for each layer that shares its weight with one before it, by name, that one.
        uncalled: layers that the forward pass does not reach, such as auxiliary heads for training.
        normalizations: how many modules of each class normalize; they stay in float.
    """

    input_shape: tuple[int, ...]
    candidates: tuple[int, ...]
    operations: Mapping[str, CheckedOperation]
    flop_counter_macs: int
    ties: Mapping[str, str]
    uncalled: tuple[str, ...]
    normalizations: Mapping[str, int]

    @property
    def costs(self) -> Costs:
        """The cost of each operation."""
        return {name: operation.cost for name, operation in self.operations.items()}

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(operation.cost.macs for operation in self.operations.values())

    @property
    def agrees(self) -> bool:
        """Whether the count equals that of PyTorch's flop counter."""
        return self.macs == self.flop_counter_macs

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of what the search gives bits to."""
        return tuple(name for name, cost in self.costs.items() if cost.fixed is None)

    @property
    def fixed(self) -> Mapping[str, LayerBits]:
        """The bits of the layers and products that are fixed in every policy; what stays in float is left out."""
        return {name: cost.fixed for name, cost in self.costs.items() if cost.fixed not in (None, FLOAT)}

    @property
    def bitops_range(self) -> tuple[int, int]:
        """BitOps of one image with everything searched at the fewest and at the most bits."""
        lowest, highest = (total_bitops(self.costs, policy) for policy in self._end_policies())
        return lowest, highest

    @property
    def size_bytes_range(self) -> tuple[int, int]:
        """Bytes of all weights, biases excluded, with everything searched at the fewest and at the most bits."""
        lowest, highest = (total_size_bytes(self.costs, policy) for policy in self._end_policies())
        return lowest, highest

    def of_kind(self, kind: Kind) -> dict[str, LayerCost]:
        """Return the costs of the operations of one kind."""
        return {name: operation.cost for name, operation in self.operations.items() if operation.kind == kind}

    def to_json(self) -> dict[str, Any]:
        """Return what `limpq check --json` prints."""
        return {
            "input_shape": list(self.input_shape),
            "candidates": list(self.candidates),
            "macs": self.macs,
            "flop_counter_macs": self.flop_counter_macs,
            "agrees": self.agrees,
            "searched": len(self.searched),
            "fixed": {name: [bits.weight, bits.activation] for name, bits in self.fixed.items()},
            "bitops": list(self.bitops_range),
            "size_bytes": list(self.size_bytes_range),
            "ties": dict(self.ties),
            "uncalled": list(self.uncalled),
            "normalizations": dict(self.normalizations),
            "operations": {name: operation.to_json() for name, operation in self.operations.items()},
        }

    def _end_policies(self) -> tuple[Policy, Policy]:
        lowest, highest = self.candidates[0], self.candidates[-1]
        return Policy.uniform("", self.costs, lowest), Policy.uniform("", self.costs, highest)


def check_network(
    module: nn.Module,
    input_shape: tuple[int, ...],
    *,
    candidates: Sequence[int] = DEFAULT_CANDIDATES,
    exclude: Sequence[str] = (),
    fix: Sequence[str] = (),
) -> NetworkCheck:
    """Return what of a network would be searched, fixed and left in float, and what it costs.

    Args:
        module: a float network on any device, the meta device among them; it is left as it is.
        input_shape: (channels, height, width) of one image.
        candidates: bit-widths of what is searched, each in 2..8.
        exclude: shell patterns over the names of layers, products and modules that stay in float.
        fix: shell patterns over those that are fixed at 8/8 bits, as the first and the last layer are.

    Raises:
        UnsupportedLayerError: a layer cannot be quantized, there is none, a pattern matches nothing, or the network
            does not take such an input.
    """
    # The flop counter puts hooks on the gradients of whatever wants them, and fails where there is no graph.
    untouched = copy.deepcopy(module, meta_twins(module)).eval().requires_grad_(False)
    traced = trace(module, input_shape, exclude)
    costs = costs_of(module, traced, fix)
    convolutions = {name for name, layer in untouched.named_modules() if isinstance(layer, _ConvNd)}
    return NetworkCheck(
        input_shape=tuple(input_shape),
        candidates=tuple(sorted(set(candidates))),
        operations={
            name: CheckedOperation(_kind(name, traced, convolutions), cost, _reason(name, cost, exclude, traced.ties))
            for name, cost in costs.items()
        },
        flop_counter_macs=flop_counter_macs(untouched, input_shape),
        ties=traced.ties,
        uncalled=traced.uncalled,
        normalizations=_normalizations(untouched),
    )


def flop_counter_macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of one image by PyTorch's flop counter.

    Args:
        module: runs as it is, on the device and in the mode it is in.
        input_shape: (channels, height, width) of one image.
    """
    parameter = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(1, *input_shape, device=parameter.device, dtype=parameter.dtype))
    return counter.get_total_flops() // 2


def _kind(name: str, traced: Trace, convolutions: Collection[str]) -> Kind:
    kind = traced.operations[name].kind
    if kind != "layer":
        return kind
    return "convolution" if name in convolutions else "linear"


def _reason(name: str, cost: LayerCost, exclude: Sequence[str], ties: Mapping[str, str]) -> str:
    if cost.fixed != FLOAT:
        return ""
    if is_excluded(name, exclude, ties):
        return "excluded"
    if name.startswith("unregistered:"):
        return "multiplied by a module that is registered nowhere"
    return "neither a layer's nor a product of two activations" if ":" in name else "a parameter that is no layer's"


def _normalizations(network: nn.Module) -> dict[str, int]:
    classes = (
        type(module).__name__
        for module in network.modules()
        if "Norm" in type(module).__name__ and next(module.parameters(recurse=False), None) is not None
    )
    return dict(Counter(classes))
