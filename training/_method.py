"""The method in three functions that neither log nor step: the joint gradients, their policies, and the loss."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.plan.costs import Costs
from limpq_hub.plan.policy import LayerBits, Policy
from limpq_hub.quant.convert import set_policy_


def accumulate_joint_gradients(
    accelerator: Accelerator,
    supernet: nn.Module,
    images: Tensor,
    policies: Sequence[Policy],
    loss_of: Callable[[Tensor], Tensor],
) -> Tensor:
    """Add the gradients of one batch under each policy; the caller clips and steps.

    Args:
        images: [batch, 3, height, width], normalized.
        loss_of: loss of logits [batch, classes].

    Returns:
        Loss under each policy, [len(policies)], detached, of this process.

    Source: LIMPQ, joint training: each candidate bit-width, then one random mixture.
    """
    losses = []
    for policy in policies:
        set_policy_(supernet, policy)
        with accelerator.autocast():
            loss = loss_of(supernet(images))
        accelerator.backward(loss)
        losses.append(loss.detach())
    return torch.stack(losses)


def joint_policies(model: str, costs: Costs, candidates: Sequence[int], *, seed: int, step: int) -> list[Policy]:
    """Return the policies of one joint step: uniform at each candidate, most bits first, then a random mixture.

    The mixture draws weight and activation bits independently, from (seed, step) alone. First and last layer are
    left out: they run in float.
    """
    searched = [name for name, cost in costs.items() if cost.fixed is None]
    draw = random.Random(f"mixture {seed} {step}").choice
    uniform = [dict.fromkeys(searched, LayerBits(bits, bits)) for bits in sorted(candidates, reverse=True)]
    mixture = {name: LayerBits(draw(candidates), draw(candidates)) for name in searched}
    return [Policy(model, layers) for layers in (*uniform, mixture)]


def classification_loss(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, *, smoothing: float, distill: float = 0.0
) -> Tensor:
    """Return cross-entropy mixed with the KL divergence from the teacher, shape [].

    Args:
        logits, teacher_logits: [batch, classes].   labels: [batch], int64.
        distill: share of the KL term, 0..1.
    """
    logits = logits.float()
    hard = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    if teacher_logits is None or distill == 0:
        return hard
    soft = nn.functional.kl_div(
        logits.log_softmax(-1), teacher_logits.float().log_softmax(-1), log_target=True, reduction="batchmean"
    )
    return (1 - distill) * hard + distill * soft
