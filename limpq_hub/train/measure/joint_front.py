"""Top-1 of the jointly trained weights at one budget after another, as shipped and recalibrated."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from limpq_hub.plan.plan import Plan
from limpq_hub.quant.batch_norm_calibration import recalibrate_batch_norm_
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.train.data.picture_loader import PictureLoader
from limpq_hub.train.measure.evaluate import evaluate
from limpq_hub.train.measure.measurement_cache import Figures, MeasurementCache
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.loading import NotFineTunedWarning, load_entry


def budgets(summary: Mapping[str, Any], points: int) -> list[int]:
    """Return budgets from the least to the most BitOps of an entry, evenly apart on a logarithmic scale."""
    least, most = summary["minimum_bitops"], summary["maximum_bitops"]
    if points == 1:
        return [most]
    between = [round(least * (most / least) ** (place / (points - 1))) for place in range(points)]
    return [least, *between[1:-1], most]


def joint_records(
    accelerator: Accelerator,
    entry: Entry,
    plans: Sequence[Plan],
    images: Sequence[Tensor],
    validation: PictureLoader,
    reference: Sequence[Tensor] | None,
    measured: MeasurementCache,
) -> Iterator[list[Figures]]:
    """Yield the records of each plan: with the BatchNorm statistics that the entry ships, and recalibrated ones.

    Args:
        entry: what they are of, found once, so that all records are of one version of it.
        images: unlabelled training images for the second, [batch, 3, height, width] each; none for no second one.
        reference: of the float network, as `evaluate` takes it.
        measured: cache of the figures of earlier runs; figures in it are not measured again.
    """
    for plan in plans:
        digest = plan.policy.digest()

        def measure(plan: Plan = plan) -> Figures:
            """Return the figures with shipped statistics, and with recalibrated ones if there are images."""
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotFineTunedWarning)
                network = thaw_(load_entry(entry, plan, weights="joint", device=accelerator.device))
            figures = {"shipped": {"calibration_images": 0} | evaluate(accelerator, network, validation, reference)}
            if images:
                count = recalibrate_batch_norm_(network, images)
                recalibrated = evaluate(accelerator, network, validation, reference)
                figures["recalibrated"] = {"calibration_images": count} | recalibrated
            return figures

        policy, figures = {"policy_sha256": digest, "bitops": plan.bitops}, measured.figures_of(digest, measure)
        yield [policy | figures[name] for name in ("shipped", "recalibrated") if name in figures]
