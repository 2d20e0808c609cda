"""Convert any network: float -> supernet or quantized network, supernet -> one policy."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from limpq_hub.errors import PolicyError, quoted
from limpq_hub.plan.costs import FLOAT, Costs
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import check_layers
from limpq_hub.quant.calibrate import StepStart, start_steps_
from limpq_hub.quant.image_batch import image_batch
from limpq_hub.quant.products import Routed
from limpq_hub.quant.profile import costs_of
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.quantized_copy import quantized_copy
from limpq_hub.quant.replacing import replace_everywhere_
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d
from limpq_hub.quant.tracing.forward_trace import Trace, computed_twins, trace

DEFAULT_CANDIDATES = (6, 5, 4, 3, 2)


def to_supernet(
    module: nn.Module,
    candidates: Sequence[int] = DEFAULT_CANDIDATES,
    *,
    example_input: Tensor,
    exclude: Sequence[str] = (),
    fix: Sequence[str] = (),
    per_channel: bool = False,
    step_start: StepStart = "least-error",
) -> nn.Module:
    """Return a copy of `module` whose layers run at any candidate bit-width, ready for joint training.

    The first and the last layer run in float until a policy names them; then at 8 bits. Products of two activations,
    such as query with key and attention with value, are searched as layers are.

    Args:
        module: a float network.
        candidates: bit-widths, each in 2..8.
        example_input: a batch of real inputs, [batch, 3, height, width]; the activation steps start from it.
        exclude: shell patterns over the names of layers, products and modules that stay in float.
        fix: shell patterns over those that are fixed at 8/8 bits, as the first and the last layer are.
        per_channel: whether every output channel of a layer has a weight step of its own.
        step_start: "least-error" for the steps of least squared rounding error, "lsq" for the one-shot rules of LSQ.

    Raises:
        DataError: `example_input` is no tensor of images alone.
        UnsupportedLayerError: a layer cannot be quantized, or the network does not take such an input.
    """
    input_shape = tuple(image_batch(example_input, "example_input", is_only_one=True).shape[1:])
    traced = trace(module, input_shape, exclude)
    costs = costs_of(module, traced, fix)
    supernet = build_supernet(module, costs, candidates, input_shape, per_channel=per_channel, traced=traced)
    start_steps_(supernet, example_input, step_start)
    return supernet


def build_supernet(
    module: nn.Module,
    costs: Costs,
    candidates: Sequence[int],
    input_shape: tuple[int, ...],
    *,
    per_channel: bool = False,
    traced: Trace | None = None,
) -> nn.Module:
    """Return a copy of `module` as a supernet whose activation steps are not yet set.

    Args:
        module: a float network.
        costs: of all that it multiplies; what has fixed bits gets these as its only candidates, and starts in float.
        candidates: bit-widths of the other layers, each in 2..8.
        input_shape: (channels, height, width) of one image.
        per_channel: whether every output channel of a layer has a weight step of its own.
        traced: what one image shows of `module`, with the same in float; worked out if None.

    Raises:
        PolicyError: no candidates, or one outside of 2..8.
        UnsupportedLayerError: a layer cannot be quantized, or the network does not take such an input.
    """
    candidates = tuple(sorted(set(candidates), reverse=True))
    if not candidates:
        raise PolicyError("candidates=() leaves nothing to choose: give bit-widths from 2 to 8")
    for bits in candidates:
        LayerBits(bits, bits)  # raises PolicyError outside of 2..8
    bit_widths = {
        name: ((cost.fixed.weight,), (cost.fixed.activation,)) if cost.fixed else (candidates, candidates)
        for name, cost in costs.items()
        if cost.fixed != FLOAT
    }
    traced = traced or _trace_again(module, costs, input_shape)
    supernet = quantized_copy(module, traced, costs, bit_widths, per_channel=per_channel)
    norms = {name: norm for name, norm in supernet.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    switches: dict[nn.Module, nn.Module] = {
        norms[name]: SwitchableBatchNorm2d(norms[name], candidates, feeding_layer)
        for name, feeding_layer in traced.norm_feeds.items()
        if costs[feeding_layer].fixed is None
    }
    replace_everywhere_(supernet, switches)
    for name, layer in quantized_layers(supernet):
        if costs[name].fixed:
            layer.set_bits_(None)
    return supernet


def to_quantized(
    module: nn.Module,
    policy: Policy,
    *,
    example_input: Tensor,
    per_channel: bool = False,
    step_start: StepStart = "least-error",
) -> nn.Module:
    """Return a copy of `module` with quantized layers at the bits of `policy`, ready for fine-tuning.

    Args:
        module: a float network.
        policy: bits for all that it multiplies, first and last layer included; what has 32/32 bits stays in float.
        example_input: a batch of real inputs, [batch, 3, height, width]; the steps start from it.
        per_channel: whether every output channel of a layer has a weight step of its own.
        step_start: "least-error" for the steps of least squared rounding error, "lsq" for the one-shot rules of LSQ.

    Raises:
        DataError: `example_input` is no tensor of images alone.
        PolicyError: the policy is for other layers.
        UnsupportedLayerError: a layer cannot be quantized, or the network does not take such an input.
    """
    _check_policy(policy)
    input_shape = tuple(image_batch(example_input, "example_input", is_only_one=True).shape[1:])
    traced = trace(module, input_shape, in_float=policy.in_float)
    costs = costs_of(module, traced)
    quantized = build_quantized(module, policy, costs, input_shape, per_channel=per_channel, traced=traced)
    start_steps_(quantized, example_input, step_start)
    return quantized


def build_quantized(
    module: nn.Module,
    policy: Policy,
    costs: Costs,
    input_shape: tuple[int, ...],
    *,
    per_channel: bool = False,
    traced: Trace | None = None,
) -> nn.Module:
    """Return a copy of `module` at the bits of `policy` whose activation steps are not yet set.

    Args:
        module: a float network.
        policy: bits for all that it multiplies, first and last layer included.
        costs: of the same.
        input_shape: (channels, height, width) of one image.
        per_channel: whether every output channel of a layer has a weight step of its own.
        traced: what one image shows of `module`, with the same in float; worked out if None.

    Raises:
        PolicyError: the policy is for other layers.
        UnsupportedLayerError: a layer cannot be quantized, or the network does not take such an input.
    """
    check_layers(costs, policy)
    for name, bits in policy.layers.items():
        if costs[name].fixed == FLOAT != bits:
            raise PolicyError(f"{quoted(name)} stays in float and cannot be quantized: give it 32/32 bits")
    bit_widths = {name: ((bits.weight,), (bits.activation,)) for name, bits in policy.layers.items() if bits != FLOAT}
    traced = traced or _trace_again(module, costs, input_shape)
    return quantized_copy(module, traced, costs, bit_widths, per_channel=per_channel)


def set_policy_(model: nn.Module, policy: Policy) -> nn.Module:
    """Switch every quantized layer of `model`, and the batch normalizations after it, to the bits of `policy`.

    A layer with one candidate only (first and last) that the policy leaves out runs in float.

    Returns:
        `model` itself.

    Raises:
        PolicyError: the policy is for other layers, or asks for bits that are not a candidate; nothing is changed.
    """
    policy_bits = _bits_by_layer(model, policy)
    for name, layer in quantized_layers(model):
        layer.set_bits_(policy_bits.get(name))
    for norm in model.modules():
        if isinstance(norm, SwitchableBatchNorm2d):
            norm.bits = policy_bits[norm.layer].weight
    return model


def read_policy(model: nn.Module) -> Policy:
    """Return the bits that the quantized layers of `model` run at; layers in float are left out."""
    return Policy(
        architecture_of(model), {name: layer.bits for name, layer in quantized_layers(model) if layer.bits is not None}
    )


def select_policy(supernet: nn.Module, policy: Policy) -> nn.Module:
    """Return a copy of `supernet` that is a plain quantized network at `policy`: one step and one BatchNorm per layer.

    Raises:
        PolicyError: the policy is for other layers, or asks for bits that are not a candidate.
    """
    policy_bits = _bits_by_layer(supernet, policy)
    for name, _ in quantized_layers(supernet):
        if name not in policy_bits:
            raise PolicyError(f"the policy gives no bits for layer {name!r}")
    # The memo of the copy: a BatchNorm that is found there is replaced by the one of its copies that was chosen, so
    # that the others, most of a supernet's modules, are not copied.
    memo: dict[int, Any] = {**computed_twins(supernet)}
    for norm in supernet.modules():
        if isinstance(norm, SwitchableBatchNorm2d):
            memo[id(norm)] = copy.deepcopy(norm.copies[str(policy_bits[norm.layer].weight)], memo)
    selected = copy.deepcopy(supernet, memo)
    for name, layer in quantized_layers(selected):
        bits = policy_bits[name]
        layer.set_bits_(bits)
        layer.weight_quantizer.keep_only_(bits.weight)
        layer.activation_quantizer.keep_only_(bits.activation)
    return selected


def architecture_of(module: nn.Module) -> str:
    """Return timm's name of the architecture, or the class name of any other module."""
    known = (getattr(module, "pretrained_cfg", None) or {}).get("architecture")
    own_class = next(kind for kind in type(module).__mro__ if not issubclass(kind, Routed))
    return known or own_class.__name__


def has_channel_steps(model: nn.Module) -> bool:
    """Return whether the layers of a quantized network have a weight step for each output channel."""
    return any(layer.weight_quantizer.step.ndim > 1 for _, layer in quantized_layers(model))


def _check_policy(policy: Policy) -> None:
    if not isinstance(policy, Policy):
        raise PolicyError(f"a policy is a limpq_hub.Policy, such as plan.policy, found {type(policy).__name__}")


def _bits_by_layer(model: nn.Module, policy: Policy) -> dict[str, LayerBits]:
    """Return the bits of `policy` by the quantized layers of `model` that it names; raises as `set_policy_` does."""
    _check_policy(policy)
    layers = dict(quantized_layers(model))
    policy_bits = {name: bits for name, bits in policy.layers.items() if bits != FLOAT or name in layers}
    for name in policy_bits:
        if name not in layers:
            raise PolicyError(f"the policy names layer {name!r}, which is not a quantized layer of the network")
    choosing_norms = {norm.layer for norm in model.modules() if isinstance(norm, SwitchableBatchNorm2d)}
    for name, layer in layers.items():
        if name not in policy_bits and (name in choosing_norms or len(layer.weight_quantizer.candidates) > 1):
            raise PolicyError(f"the policy gives no bits for layer {name!r}")
    for name, bits in policy_bits.items():
        try:
            layers[name].check_bits(bits)
        except PolicyError as error:
            raise PolicyError(f"layer {name!r}: {error}") from None
    return policy_bits


def _trace_again(module: nn.Module, costs: Costs, input_shape: tuple[int, ...]) -> Trace:
    return trace(module, input_shape, in_float=[name for name, cost in costs.items() if cost.fixed == FLOAT])
