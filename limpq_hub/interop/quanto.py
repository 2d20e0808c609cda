"""optimum-quanto: the quantization map of a network, integer types by module name."""

from __future__ import annotations

from limpq_hub.interop.fitting import round_up
from limpq_hub.plan.policy import Policy

WEIGHT_TYPES = {2: "qint2", 4: "qint4", 8: "qint8"}
ACTIVATION_TYPES = {8: "qint8"}


def write_quanto(policy: Policy) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Return `policy` as the quantization map that `quantization_map` returns and `requantize` takes.

    Weights of 3 bits become qint4, of 5 to 7 bits qint8, all activations qint8: quanto has no other integer types.
    quanto quantizes what a module returns as well as what it is given. Use it as

        for name, types in quantization_map.items():
            optimum.quanto.quantize(model, **types, include=name)

    Source: optimum-quanto's `quantize`, `quantization_map` and `requantize`; tried with 0.2.7 on timm's resnet18.
    """
    weights, weight_notes = round_up(
        {name: bits.weight for name, bits in policy.layers.items()}, WEIGHT_TYPES, "weights"
    )
    activations, activation_notes = round_up(
        {name: bits.activation for name, bits in policy.layers.items()}, ACTIVATION_TYPES, "activations"
    )
    content = {name: {"weights": weights[name], "activations": activations[name]} for name in policy.layers}
    return content, (*weight_notes, *activation_notes)
