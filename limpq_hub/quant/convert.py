"""Convert any network: float -> supernet or quantized network, supernet -> one policy."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from limpq_hub.errors import PolicyError
from limpq_hub.plan.costs import Costs
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import check_layers
from limpq_hub.quant.calibrate import StepStart, start_steps_
from limpq_hub.quant.fake_quantization import Grid
from limpq_hub.quant.layers import QuantConv2d, QuantLayer, QuantLinear, SwitchableBatchNorm2d, quantized_layers
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.tracing import quantizable_layers, trace

DEFAULT_CANDIDATES = (6, 5, 4, 3, 2)


def to_supernet(
    module: nn.Module,
    candidates: Sequence[int] = DEFAULT_CANDIDATES,
    *,
    example_input: Tensor,
    step_start: StepStart = "least-error",
) -> nn.Module:
    """Return a copy of `module` whose layers run at any candidate bit-width, ready for joint training.

    The first and the last layer run in float until a policy names them; then at 8 bits.

    Args:
        module: a float network.
        candidates: bit-widths, each in 2..8.
        example_input: a batch of real inputs, [batch, 3, height, width]; the steps start from it.
        step_start: "least-error" for the steps of least squared rounding error, "lsq" for the one-shot rules of LSQ.

    Raises:
        UnsupportedLayerError: a layer cannot be quantized, or is never called.
    """
    costs = profile_module(module, example_input)
    supernet = build_supernet(module, costs, candidates, tuple(example_input.shape[1:]))
    start_steps_(supernet, example_input, step_start)
    return supernet


def build_supernet(
    module: nn.Module, costs: Costs, candidates: Sequence[int], input_shape: tuple[int, ...]
) -> nn.Module:
    """Return a copy of `module` as a supernet whose activation steps are not yet set.

    Args:
        module: a float network.
        costs: of each of its layers; a layer with fixed bits gets these as its only candidates, and starts in float.
        candidates: bit-widths of the other layers, each in 2..8.
        input_shape: (channels, height, width) of one image.

    Raises:
        PolicyError: no candidates, or one outside of 2..8.
        UnsupportedLayerError: a layer cannot be quantized, or is never called.
    """
    candidates = tuple(sorted(set(candidates), reverse=True))
    if not candidates:
        raise PolicyError("candidates=() leaves nothing to choose: give bit-widths from 2 to 8")
    for bits in candidates:
        LayerBits(bits, bits)  # raises PolicyError outside of 2..8
    bit_widths = {
        name: ((cost.fixed.weight,), (cost.fixed.activation,)) if cost.fixed else (candidates, candidates)
        for name, cost in costs.items()
    }
    supernet = _replace_layers(module, costs, bit_widths)
    norms = {name: norm for name, norm in supernet.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    for name, feeding_layer in trace(module, input_shape).norm_feeds.items():
        if costs[feeding_layer].fixed is None:
            _replace_everywhere_(supernet, norms[name], SwitchableBatchNorm2d(norms[name], candidates, feeding_layer))
    for name, layer in quantized_layers(supernet):
        if costs[name].fixed:
            layer.set_bits_(None)
    return supernet


def to_quantized(
    module: nn.Module, policy: Policy, *, example_input: Tensor, step_start: StepStart = "least-error"
) -> nn.Module:
    """Return a copy of `module` with quantized layers at the bits of `policy`, ready for fine-tuning.

    Args:
        module: a float network.
        policy: bits for each of its layers, first and last included.
        example_input: a batch of real inputs, [batch, 3, height, width]; the steps start from it.
        step_start: "least-error" for the steps of least squared rounding error, "lsq" for the one-shot rules of LSQ.

    Raises:
        PolicyError: the policy is for other layers.
        UnsupportedLayerError: a layer cannot be quantized, or is never called.
    """
    costs = profile_module(module, example_input)
    quantized = build_quantized(module, policy, costs)
    start_steps_(quantized, example_input, step_start)
    return quantized


def build_quantized(module: nn.Module, policy: Policy, costs: Costs) -> nn.Module:
    """Return a copy of `module` at the bits of `policy` whose activation steps are not yet set.

    Args:
        module: a float network.
        policy: bits for each of its layers, first and last included.
        costs: of each of its layers.

    Raises:
        PolicyError: the policy is for other layers.
        UnsupportedLayerError: a layer cannot be quantized.
    """
    check_layers(costs, policy)
    bit_widths = {name: ((bits.weight,), (bits.activation,)) for name, bits in policy.layers.items()}
    return _replace_layers(module, costs, bit_widths)


def set_policy_(model: nn.Module, policy: Policy) -> nn.Module:
    """Switch every quantized layer of `model`, and the batch normalizations after it, to the bits of `policy`.

    A layer with one candidate only (first and last) that the policy leaves out runs in float.

    Returns:
        `model` itself.

    Raises:
        PolicyError: the policy is for other layers, or asks for bits that are not a candidate; nothing is changed.
    """
    layers = dict(quantized_layers(model))
    for name in policy.layers:
        if name not in layers:
            raise PolicyError(f"the policy names layer {name!r}, which is not a quantized layer of the network")
    choosing_norms = {norm.layer for norm in model.modules() if isinstance(norm, SwitchableBatchNorm2d)}
    for name, layer in layers.items():
        if name not in policy.layers and (name in choosing_norms or len(layer.weight_quantizer.candidates) > 1):
            raise PolicyError(f"the policy gives no bits for layer {name!r}")
    for name, bits in policy.layers.items():
        try:
            layers[name].check_bits(bits)
        except PolicyError as error:
            raise PolicyError(f"layer {name!r}: {error}") from None
    for name, layer in layers.items():
        layer.set_bits_(policy.layers.get(name))
    for norm in model.modules():
        if isinstance(norm, SwitchableBatchNorm2d):
            norm.bits = policy.layers[norm.layer].weight
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
    selected = set_policy_(copy.deepcopy(supernet), policy)
    for name, layer in list(quantized_layers(selected)):
        if layer.bits is None:
            raise PolicyError(f"the policy gives no bits for layer {name!r}")
        bits = layer.bits
        layer.weight_quantizer.keep_only_(bits.weight)
        layer.activation_quantizer.keep_only_(bits.activation)
    for norm in list(selected.modules()):
        if isinstance(norm, SwitchableBatchNorm2d):
            _replace_everywhere_(selected, norm, norm.active)
    return selected


def architecture_of(module: nn.Module) -> str:
    """Return timm's name of the architecture, or the class name of any other module."""
    return (getattr(module, "pretrained_cfg", None) or {}).get("architecture") or type(module).__name__


def _replace_layers(
    module: nn.Module, costs: Costs, bit_widths: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
) -> nn.Module:
    """Return a copy of `module` with quantized layers.

    Args:
        bit_widths: candidates of the weight and of the input of each layer.
    """
    copied = copy.deepcopy(module)
    for name, layer in quantizable_layers(copied).items():
        quantized: QuantLayer = (
            QuantConv2d.from_float(layer) if isinstance(layer, nn.Conv2d) else QuantLinear.from_float(layer)
        )
        weight_candidates, activation_candidates = bit_widths[name]
        grid: Grid = "signed" if costs[name].signed else "unsigned"
        quantized.add_quantizers_(weight_candidates, activation_candidates, grid=grid)
        if layer is copied:
            return quantized
        _replace_everywhere_(copied, layer, quantized)
    return copied


def _replace_everywhere_(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` is registered, under all of its names."""
    for name in [name for name, child in module.named_modules(remove_duplicate=False) if child is old]:
        module.set_submodule(name, new)
