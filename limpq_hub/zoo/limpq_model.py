"""What `load` returns: a network of timm, typed as `LimpqModel`, that says of itself in `.limpq` what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from limpq_hub.plan.frozen import FrozenMapping
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.quantities import format_size
from limpq_hub.quant.batch_norm_calibration import Recalibration
from limpq_hub.zoo.entry import Published
from limpq_hub.zoo.measurement import Measurement, top1_on_images
from limpq_hub.zoo.network import NetworkSpec

Weights = Literal["finetuned", "joint", "random"]
Arithmetic = Literal["simulated", "integer"]


@dataclass(frozen=True)
class Loaded:
    """What `load` knows about the network that it returned, as `model.limpq`.

    Attributes:
        plan: policy, costs and proof.
        weights: "finetuned" for exactly this policy, "joint" from joint training, or "random".
        top1: percent, measured for exactly these weights and this policy, else None.
        measurement: of `top1`: on which images, and how many; None where that is None.
        expected_top1: percent, on a line between the measured budgets of the joint weights on both sides; None where
            `top1` is known, BatchNorm was recalibrated, or the policy is not the best for a BitOps budget alone.
        nearest: of the published fine-tuned policies that meet the limits that were asked for, whatever else was, that
            of the most BitOps; for a given policy that next below; or None.
        source: "bundled", "local" or "hub".
        revision: commit on the Hub, or None.
        network: architecture, input size and preprocessing.
        classes: id and name of each class, in the order of the class indices.
        arithmetic: "simulated" for floats that lie on integer grids, "integer" where layers multiply integers.
        in_float: with "integer", the layers that are simulated all the same, each with the reason.
        recalibration: whether BatchNorm has statistics of the images given to `calibrate`, and the KL to the float
            network with and without; None if none were asked for.
    """

    plan: Plan
    weights: Weights
    top1: float | None
    expected_top1: float | None
    nearest: Published | None
    source: str
    revision: str | None
    network: NetworkSpec
    classes: tuple[Mapping[str, str], ...] = field(repr=False)
    measurement: Measurement | None = field(default=None, repr=False)
    recalibration: Recalibration | None = None
    arithmetic: Arithmetic = "simulated"
    in_float: Mapping[str, str] = field(default=FrozenMapping({}), repr=False)

    def __str__(self) -> str:
        """Return the figures in one line."""
        searched = (
            f"searched, bound {self.plan.bound:.6f} of {self.plan.objective:.6f}" if self.plan.way else "as given"
        )
        proof = "proven optimal" if self.plan.optimal else searched
        return (
            f"{self.network.architecture} at {self.network.input_size}x{self.network.input_size}: "
            f"{self.plan.bitops:,} BitOps ({proof}), {format_size(self.plan.size_bytes)} of weights, "
            f"{self.weights} weights, "
            f"{accuracy_text(self.top1, self.measurement, self.expected_top1)}"
        )


class LimpqModel(nn.Module):
    """The type of what `load` returns, for annotations: a network of timm that has `.limpq`.

    The network itself is of timm's own class, for instance `ResNet`. Nothing is an instance of this one, so that
    `isinstance` tells nothing: a type checker alone needs it.

    Attributes:
        limpq: policy, weights and accuracy of the network.
    """

    limpq: Loaded


def accuracy_text(top1: float | None, measurement: Measurement | None, expected: float | None = None) -> str:
    """Return what is known of a top-1 in percent: measured, and how, expected, or neither."""
    if top1 is not None:
        return f"measured {top1_on_images(top1, measurement)}"
    return "accuracy not measured" if expected is None else f"about {expected:.1f} % top-1 expected"
