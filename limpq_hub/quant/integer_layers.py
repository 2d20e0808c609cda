"""Convolutions that multiply the integers of a quantized network as such, by oneDNN, in torch alone.

The result of a layer is the sum of integers, exact in 32 bits, times the two steps: what the simulation computes in
floating point, without its rounding. So the values in between agree but for the last digits, and where such a value
lies on the edge between two integers it may be rounded to the other one. A call that integers cannot answer so, such as
one that wants gradients, is simulated.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import isfinite, isnan
from typing import Any, cast

import torch
from torch import Tensor, nn

from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.quant.frozen_values import operands_of, stamp_of
from limpq_hub.quant.graph_nodes import is_traced
from limpq_hub.quant.layers import QuantConv2d
from limpq_hub.quant.quantized import Quantized

# Those below VNNI; a name that oneDNN does not know leaves it at what the CPU has.
_ISA_WITHOUT_VNNI = {"SSE41", "AVX", "AVX2", "AVX512_CORE"}


@dataclass(frozen=True)
class PackedWeight:
    """The weight of a convolution as oneDNN takes it, and what shows whether it is still up to date.

    Attributes:
        bits: of weight and input.
        stamp: of the tensors that it was computed from (`limpq_hub.quant.frozen_values.stamp_of`).
        sources: these tensors, held so that no other one can be given their memory.
        weight: integers in an order of oneDNN's.
        weight_steps: float32 [outputs].
        no_zero_points: int32 [outputs], all 0.
        step: of the input.
        low, high: lowest and highest integer of the input.
    """

    bits: LayerBits
    stamp: tuple[int, ...]
    sources: tuple[Tensor, ...]
    weight: Any
    weight_steps: Tensor
    no_zero_points: Tensor
    step: float
    low: int
    high: int


class IntegerConv2d(QuantConv2d):
    """A quantized convolution whose input and weight are multiplied as integers.

    The weight is packed at the first call, and again once weight, steps or bits have changed. What is written past
    torch's count of writes, through `.data` or numpy, is seen from the next `train()` or `eval()` on. In train mode, in
    float, where gradients are needed, of values that are not float32 on the CPU, where one is no number, and in
    a graph that `torch.export` or `torch.jit.trace` makes, it is simulated.
    """

    _packed: PackedWeight | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of the quantized input, both [batch, channels, height, width]."""
        packed = self._packed_weight(input)
        if packed is None:
            return super().forward(input)
        integers = input.div(packed.step).clamp_(packed.low, packed.high).round_()
        if isnan(integers.sum().item()):  # no integer stands for what is no number
            return super().forward(input)
        # oneDNN takes unsigned integers around a zero point.
        octets = (integers.sub_(packed.low) if packed.low else integers).to(torch.uint8)
        output = torch.ops.onednn.qconv2d_pointwise(
            octets,
            packed.step,
            -packed.low,
            packed.weight,
            packed.weight_steps,
            packed.no_zero_points,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        # oneDNN's has its channels last; torch's is as the quantized input is, which `view` relies on.
        return output.contiguous() if octets.is_contiguous() else output

    def _packed_weight(self, x: Tensor) -> PackedWeight | None:
        """Return the weight packed as it is now; None where `x` is not to be multiplied by it."""
        if is_traced(x) or torch.jit.is_tracing() or torch.compiler.is_exporting():
            return None
        if self._is_replica or self.training or x.dtype != torch.float32 or not x.is_cpu:
            return None
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            return None
        sources, packed = tuple(operands_of(self)), self._packed
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *sources)):
            return None
        stamp = stamp_of(sources)
        if packed is None or packed.stamp != stamp or -1 in stamp or not self.runs_at(packed.bits):
            bits = self.bits
            with torch.inference_mode(False), torch.no_grad():
                packed = self._packed = None if bits is None else self._pack(bits, stamp, sources)
        return packed

    def _pack(self, bits: LayerBits, stamp: tuple[int, ...], sources: tuple[Tensor, ...]) -> PackedWeight | None:
        floats = [source for source in sources if source.is_floating_point()]
        if any(source.dtype != torch.float32 or source.device.type != "cpu" for source in floats):
            return None
        low, high = self.activation_quantizer.range_of(bits.activation)
        step = self.activation_quantizer.step_of(bits.activation).item()
        steps = self.weight_quantizer.step_of(bits.weight).expand(self.out_channels).contiguous()
        if self.weight.isnan().any() or not steps.isfinite().all() or not isfinite(step):
            return None
        packed = torch.ops.onednn.qconv_prepack(
            self.weight_integers(bits.weight),
            steps,
            step,
            -low,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            None,
        )
        held = tuple(source.detach() for source in sources)
        no_zero_points = torch.zeros(self.out_channels, dtype=torch.int32)
        return PackedWeight(bits, stamp, held, packed, steps, no_zero_points, step, low, high)

    def train(self, mode: bool = True) -> IntegerConv2d:
        """Set train or eval mode; the weight is packed anew, as torch does not count every write to it."""
        self._packed = None
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._packed = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # What oneDNN packs cannot be copied.
        return self.__dict__ | {"_packed": None}


def run_in_integers_(network: nn.Module) -> dict[str, str]:
    """Let the convolutions of a quantized network multiply integers where that is exact, in place.

    Args:
        network: on the CPU, in eval mode, its bits as they stay.

    Returns:
        The reason for each quantized layer that is simulated as before, by name; layers that share a weight have one
        each.
    """
    run_simulated_(network)
    reasons, vnni = {}, has_vnni()
    # Not `quantized_layers`: of those that share a weight each runs by itself.
    for name, layer in network.named_modules():
        if not isinstance(layer, Quantized):
            continue
        reason = _why_simulated(layer, vnni)
        if reason is None:
            layer.__class__ = IntegerConv2d
        else:
            reasons[name] = reason
    return reasons


def run_simulated_(network: nn.Module) -> None:
    """Undo `run_in_integers_` and `limpq_hub.quant.frozen_layers.freeze_`: every layer computes as in training."""
    thaw_(network)
    for module in network.modules():
        if type(module) is IntegerConv2d:
            cast(Any, module).__class__ = QuantConv2d
            vars(module).pop("_packed", None)


def has_vnni() -> bool:
    """Return whether the CPU, as far as oneDNN may use it, adds up products of 8 bits in 32."""
    wanted = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    if not torch.backends.mkldnn.is_available() or wanted in _ISA_WITHOUT_VNNI:
        return False
    return torch.cpu._is_vnni_supported()


def _why_simulated(layer: Quantized, vnni: bool) -> str | None:
    """Return why a layer is not to multiply integers; None if it is."""
    if type(layer) is not QuantConv2d or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return "it is no plain 2-d convolution"
    if layer.bits is None:
        return "it has no bits"
    if not torch.backends.mkldnn.is_available():
        return "torch was built without oneDNN"
    if layer.groups > 1:
        return "integers are slower than floats in grouped convolutions"
    if layer.bits.weight == 8 and not vnni:
        return "weights of 8 bits could overflow on a CPU without VNNI"
    return None
