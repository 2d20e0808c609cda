"""Joint training of a supernet: every step trains all candidate bit-widths and random mixtures of them."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.plan.costs import Costs
from limpq_hub.train.data.picture_loader import TrainingLoader
from limpq_hub.train.loop.batches import StepPosition
from limpq_hub.train.loop.fit import fit
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, classification_loss, joint_policies
from limpq_hub.train.method.layer_outputs import LayerOutputs
from limpq_hub.train.method.oscillation import update_oscillating_
from limpq_hub.train.method.shared_stem import SharedStem
from limpq_hub.train.training_settings import JointSettings, LossSettings, TrainingSettings
from limpq_hub.zoo.network import NetworkSpec


def train_jointly_(
    accelerator: Accelerator,
    supernet: nn.Module,
    teacher: nn.Module,
    costs: Costs,
    loader: TrainingLoader,
    joint: JointSettings,
    loss: LossSettings,
    settings: TrainingSettings,
) -> float:
    """Train `supernet` in place, and return the seconds it took; raises like `fit`.

    Args:
        teacher: a float network, for `loss.distill`.
    """
    image = torch.zeros(1, *NetworkSpec.of(supernet).input_shape, device=accelerator.device)
    stem = SharedStem(supernet, image) if joint.share_stem else None
    outputs = LayerOutputs(supernet, joint.output_distance) if joint.output_distance else None
    memory: dict[str, Any] = {}

    def accumulate(images: Tensor, labels: Tensor, position: StepPosition) -> Tensor:
        """Add the gradients of one batch under the policies of its step; return the loss of each pass."""
        policies = joint_policies(
            joint.model,
            costs,
            joint.candidates,
            seed=joint.seed,
            step=position.step,
            uniform=joint.uniform,
            mixtures=joint.mixtures,
            oscillating=update_oscillating_(memory, supernet, joint.spare_oscillating, position.epoch),
        )
        with torch.no_grad(), accelerator.autocast():
            taught = teacher(images) if loss.distill else None

        def loss_of(logits: Tensor, highest: Tensor | None) -> Tensor:
            """Return the loss of one pass from its logits and those of the pass at the most bits."""
            teachers = ((taught, loss.distill), (highest, joint.in_place_distill))
            return classification_loss(logits, labels if loader.labelled else None, *teachers, smoothing=loss.smoothing)

        return accumulate_joint_gradients(
            accelerator, supernet, images, policies, loss_of, stem=stem, outputs=outputs, share=position.share
        )

    return fit(accelerator, supernet, loader, accumulate, settings, memory=memory)
