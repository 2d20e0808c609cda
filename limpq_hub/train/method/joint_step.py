"""The method in functions that neither log nor step: the joint gradients, their policies, and the loss."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.plan.costs import Costs
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import set_policy_
from limpq_hub.quant.fake_quantization import upcast_half
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.train.method.layer_outputs import LayerOutputs
from limpq_hub.train.method.shared_stem import SharedStem


def accumulate_joint_gradients(
    accelerator: Accelerator,
    supernet: nn.Module,
    images: Tensor,
    policies: Sequence[Policy],
    loss_of: Callable[[Tensor, Tensor | None], Tensor],
    *,
    stem: SharedStem | None = None,
    outputs: LayerOutputs | None = None,
    share: float = 1.0,
) -> Tensor:
    """Add the gradients of one batch under each policy; the caller clips and steps.

    Args:
        images: [batch, 3, height, width], normalized.
        loss_of: loss, shape [], of logits [batch, classes] and the detached logits of the first policy, which are
            None in its own pass.
        stem: shares what does not depend on the policy among the passes; the gradients stay the same.
        outputs: adds to the loss how far each layer's output is from that of the first policy.
        share: factor on the gradients, for a batch that is a part of a step.

    Returns:
        Loss under each policy, [len(policies)], detached, of this process.

    Source: LIMPQ, joint training: each candidate bit-width, then random mixtures.
    """
    losses, first_logits = [], None
    with ExitStack() as passes:
        if stem:
            passes.enter_context(stem.shared_by(len(policies)))
        if outputs:
            passes.enter_context(outputs.watched())
        for policy in policies:
            set_policy_(supernet, policy)
            with accelerator.autocast():
                logits = supernet(images)
                loss = loss_of(logits, first_logits)
                if outputs:
                    loss = loss + outputs.distance()
            accelerator.backward(loss * share)
            losses.append(loss.detach())
            if first_logits is None:
                first_logits = logits.detach()
    return torch.stack(losses)


def joint_policies(
    model: str,
    costs: Costs,
    candidates: Sequence[int],
    *,
    seed: int,
    step: int,
    uniform: str = "all",
    mixtures: int = 1,
    oscillating: Collection[str] = (),
) -> list[Policy]:
    """Return the policies of one joint step: uniform ones, most bits first, then random mixtures.

    A mixture draws weight and activation bits independently, from (seed, step) alone. First and last layer are left
    out: they run in float.

    Args:
        uniform: "all" for one pass at each candidate, "highest" for one at the most bits.
        oscillating: layers that are not drawn at the fewest weight bits.
    """
    searched = [name for name, cost in costs.items() if cost.fixed is None]
    draw = random.Random(f"mixture {seed} {step}").choice
    ordered = sorted(candidates, reverse=True)
    widths = ordered if uniform == "all" else ordered[:1]
    policies = [dict.fromkeys(searched, LayerBits(bits, bits)) for bits in widths]
    for _ in range(mixtures):
        policies.append(
            {
                name: LayerBits(draw(ordered[:-1] if name in oscillating else candidates), draw(candidates))
                for name in searched
            }
        )
    return [Policy(model, layers) for layers in policies]


def classification_loss(
    logits: Tensor, labels: Tensor | None, *teachers: tuple[Tensor | None, float], smoothing: float
) -> Tensor:
    """Return cross-entropy, mixed with the KL divergence from each teacher, shape [].

    Args:
        logits: [batch, classes].
        labels: [batch], int64; None where there are none.
        teachers: logits [batch, classes] to learn from, or None, and their share of the loss, 0..1; the labels keep
            what is left. Without labels the teachers that are there share all of the loss, at least one.
    """
    logits = upcast_half(logits)
    present = [(taught, share) for taught, share in teachers if taught is not None and share > 0]
    taught_share = sum(share for _, share in present)
    loss: Tensor | float = 0.0
    if labels is None:
        present = [(taught, share / taught_share) for taught, share in present]
    else:
        loss = (1 - taught_share) * nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    for taught, share in present:
        loss = loss + share * kl_divergence(logits, upcast_half(taught).log_softmax(-1))
    return torch.as_tensor(loss)
