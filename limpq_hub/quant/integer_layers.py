"""Convolutions that multiply the integers of a quantized network as such, by oneDNN, in torch alone.

The result of a layer is the sum of integers, exact in 32 bits, times the two steps: what the simulation computes in
floating point, without its rounding. So the values in between agree but for the last digits, and where such a value
lies on the edge between two integers it may be rounded to the other one.
"""

from __future__ import annotations

import os
from typing import Any, cast

import torch
from torch import Tensor, nn

from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.quant.layers import QuantConv2d
from limpq_hub.quant.quantized import Quantized, quantized_layers

# Those below VNNI; a name that oneDNN does not know leaves it at what the CPU has.
_ISA_WITHOUT_VNNI = {"SSE41", "AVX", "AVX2", "AVX512_CORE"}


class IntegerConv2d(QuantConv2d):
    """A quantized convolution whose input and weight are multiplied as integers; for eval mode, without gradients.

    The weight is packed once, at the first call: whoever changes it afterwards changes nothing.
    """

    _packed: tuple[Any, ...] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of the quantized input, both [batch, channels, height, width], float32."""
        weight, weight_steps, no_zero_points, step, low, high = self._packed or self._pack()
        integers = input.div(step).clamp_(low, high).round_()
        # oneDNN takes unsigned integers around a zero point.
        octets = (integers.sub_(low) if low else integers).to(torch.uint8)
        return torch.ops.onednn.qconv2d_pointwise(
            octets,
            step,
            -low,
            weight,
            weight_steps,
            no_zero_points,
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

    @torch.no_grad()
    def _pack(self) -> tuple[Any, ...]:
        bits = self.bits
        if bits is None:
            raise RuntimeError("a convolution that multiplies integers was switched to float")
        low, high = self.activation_quantizer.range_of(bits.activation)
        step = self.activation_quantizer.step_of(bits.activation).item()
        steps = self.weight_quantizer.step_of(bits.weight).expand(self.out_channels).contiguous()
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
        self._packed = (packed, steps, torch.zeros(self.out_channels, dtype=torch.int32), step, low, high)
        return self._packed

    def __getstate__(self) -> dict[str, Any]:
        # What oneDNN packs cannot be copied.
        return self.__dict__ | {"_packed": None}


def run_in_integers_(network: nn.Module) -> dict[str, str]:
    """Let the convolutions of a quantized network multiply integers where that is exact, in place.

    Args:
        network: on the CPU, in eval mode, its bits as they stay.

    Returns:
        The reason for each quantized layer that is simulated as before, by name.
    """
    run_simulated_(network)
    reasons, vnni = {}, has_vnni()
    for name, layer in quantized_layers(network):
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
