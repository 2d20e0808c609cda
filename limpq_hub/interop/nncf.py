"""NNCF: a configuration file of its second version, bits by scope of the network's graph."""

from __future__ import annotations

import re
from typing import Any

from limpq_hub.plan.policy import Policy

# The only device of NNCF that allows other bits than a processor has.
DEVICE = "TRIAL"
_GROUPS = {"weights": "weight", "activations": "activation"}


def write_nncf(policy: Policy) -> tuple[dict[str, Any], tuple[str, ...]]:
    r"""Return `policy` as the content of an NNCF configuration file: "scope_overrides" of weights and activations.

    NNCF names an operation by the classes and names of the modules around it, such as
    `ResNet/Sequential[layer1]/BasicBlock[0]/NNCFConv2d[conv1]/conv2d_0`. The scopes written here are regular
    expressions that leave the classes open. Those of the activations stand for the inputs of the operation.

    For `nncf.torch.create_compressed_model` of NNCF 2; NNCF 3 has no such file.

    Source: NNCF's configuration schema, "scope_overrides"; tried with NNCF 2.19 on timm's resnet18, where the weights
        came out as planned and the activations as the note says.
    """
    overrides = {
        group: {_scope(name): {"bits": getattr(bits, kind)} for name, bits in policy.layers.items()}
        for group, kind in _GROUPS.items()
    }
    content: dict[str, Any] = {}
    if policy.input_size is not None:
        content["input_info"] = {"sample_size": [1, 3, policy.input_size, policy.input_size]}
    content["target_device"] = DEVICE
    content["compression"] = {"algorithm": "quantization", "scope_overrides": overrides}
    planned = {bits.activation for bits in policy.layers.values()}
    return content, () if len(planned) == 1 else (
        f"activations of {', '.join(map(str, sorted(planned)))} bits are written for each layer, but NNCF 2.19 gives "
        "the inputs of all convolutions the same bits: set num_bits of its activation quantizers afterwards, or name "
        'them under "initializer", "precision", "bitwidth_per_scope"',
    )


def _scope(layer: str) -> str:
    return "{re}^[^/]+" + "".join(rf"/[^/\[]+\[{re.escape(part)}\]" for part in layer.split(".")) + "/[^/]+$"
