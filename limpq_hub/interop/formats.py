"""The formats a policy can be written in: one function, and what it had to round."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from limpq_hub.errors import OutputError, quoted
from limpq_hub.interop.hawq import write_hawq
from limpq_hub.interop.nncf import write_nncf
from limpq_hub.interop.quanto import write_quanto
from limpq_hub.interop.torchao import write_torchao
from limpq_hub.plan.costs import FLOAT
from limpq_hub.plan.policy import Policy

_WRITERS = {"hawq": write_hawq, "nncf": write_nncf, "torchao": write_torchao, "quanto": write_quanto}
FORMATS = tuple(_WRITERS)


def write_policy_as(
    policy: Policy, format: str, products: Collection[str] = ()
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return `policy` as another tool reads it, and what that tool cannot hold or do, a sentence each.

    Best effort: the bit-widths are translated, not the step sizes, and no quantizer of these tools is LSQ. A bit-width
    that the tool does not have is rounded up to the next that it has; the notes name it and its layers.

    Args:
        policy: layers named as timm names them.
        products: names of those that are products of activations: no tool has bits for them.
        format: one of `FORMATS`: "hawq", "nncf", "torchao", "quanto".

    Returns:
        Plain dictionaries, lists, texts and numbers, to be written as JSON; and the notes, none where all is exact.

    Raises:
        OutputError: no such format.
        PolicyError: the policy cannot be written in it; names the layer.
    """
    if format not in FORMATS:
        raise OutputError(f"no format {quoted(format)}: a policy can be written as {', '.join(FORMATS)}")
    layers = {name: bits for name, bits in policy.layers.items() if bits != FLOAT and name not in products}
    content, notes = _WRITERS[format](Policy(policy.model, layers, policy.input_size))
    for left_out, why in (
        (policy.in_float, "they stay in float"),
        (products, f"{format} has no product of activations"),
    ):
        if left_out:
            notes = (*notes, f"left out, as {why}: {', '.join(left_out)}")
    return content, notes
