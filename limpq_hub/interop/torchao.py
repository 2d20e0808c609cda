"""torchao: the configuration of each module, as `torchao.core.config.config_from_dict` reads it; weights only."""

from __future__ import annotations

from typing import Any

from limpq_hub.plan.policy import Policy


def write_torchao(policy: Policy) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the weight bits of `policy` as a `FqnToConfig` of one `IntxWeightOnlyConfig` per module.

    Every weight bit-width from 2 to 8 is exact: int2 to int8, symmetric, a scale per output channel, and in a
    convolution per place of the kernel too. Activations stay in floating point: what torchao has for them is 8 bits,
    for linear layers. Use it as

        config = torchao.core.config.config_from_dict(json.loads(text))
        torchao.quantization.quantize_(model, config, filter_fn=None)

    Source: torchao's `FqnToConfig` and `config_from_dict`; tried with torchao 0.18 on timm's resnet18.
    """
    modules = {name: _weight_only(bits.weight) for name, bits in policy.layers.items()}
    content = {"_type": "FqnToConfig", "_version": 1, "_data": {"fqn_to_config": modules}}
    planned = sorted({bits.activation for bits in policy.layers.values()})
    note = (
        f"activations of {', '.join(map(str, planned))} bits stay in floating point, in every layer: "
        "torchao's configuration of a convolution is for its weights alone"
    )
    return content, (note,)


def _weight_only(bits: int) -> dict[str, Any]:
    dtype = {"_type": "torch.dtype", "_data": f"int{bits}"}
    return {"_type": "IntxWeightOnlyConfig", "_version": 2, "_data": {"weight_dtype": dtype}}
