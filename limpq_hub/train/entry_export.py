"""What joint training leaves behind: an entry folder, from a trained supernet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from limpq_hub.errors import TrainingError
from limpq_hub.plan.costs import FLOAT, Costs
from limpq_hub.plan.indicators import DEFAULT_ALPHA, Indicators
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.calibrate import calibrate_steps_
from limpq_hub.quant.convert import set_policy_
from limpq_hub.quant.learned_indicators import read_indicators
from limpq_hub.quant.policy_statistics import Statistics
from limpq_hub.quant.running_statistics import active_batch_norms
from limpq_hub.train.measure.alpha import ALPHAS, with_measured_alpha
from limpq_hub.train.measure.curves import save_curves
from limpq_hub.train.measure.divergence import Divergence
from limpq_hub.train.measure.kept_measurements import MEASURED, kept_measurements
from limpq_hub.train.measure.pair_importance import Measuring, measured_indicators
from limpq_hub.train.measure.usual_pairs import MEASURED_BATCH, usual_others, usual_weights
from limpq_hub.train.progress import progress_teller, tracked
from limpq_hub.train.training_settings import ExportSettings
from limpq_hub.version import __version__
from limpq_hub.zoo.anchors import anchor_policies, save_anchors
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_supernet, save_entry, save_float_network, seal_entry
from limpq_hub.zoo.folder import open_local_folder, unseal_folder
from limpq_hub.zoo.network import NetworkSpec

STEP_BATCHES = 4


def announced_export(settings: ExportSettings, supernet: nn.Module, costs: Costs, images: int) -> str:
    """Return in one line what comes after the training and takes long, and which options shorten it.

    Args:
        supernet: before it is trained: from its first steps follows about how many policies there will be.
        images: training images that there are to measure on.
    """
    network = NetworkSpec.of(supernet)
    first = read_indicators(supernet, costs, input_size=network.input_size, num_classes=network.num_classes)
    parts = []
    if settings.alpha is None:
        parts.append(f"{len(ALPHAS)} or more factors alpha are compared (--alpha NUMBER leaves it out)")
    if active_batch_norms(supernet):
        policies = len(anchor_policies(first, settings.anchor_gap))
        parts.append(
            f"the BatchNorm statistics of about {policies} policies are measured on {images} images each (an "
            f"--anchor-gap N above {settings.anchor_gap} takes fewer policies, --calibrate-images N fewer images)"
        )
    if settings.measure_images:
        pairs = sum(len(steps) * len(first.activation_steps[name]) for name, steps in first.weight_steps.items())
        measured = min(settings.measure_images, images)
        parts.append(
            f"the {pairs} pairs of bits of {len(first.weight_steps)} layers are measured on {measured} images "
            "(--measure-images N takes fewer, 0 leaves it out)"
        )
    kept = "what is measured is kept, and --resume goes on from it"
    return f"after the training {', then '.join(parts)}; {kept}" if parts else ""


def export_entry(
    settings: ExportSettings,
    supernet: nn.Module,
    network: nn.Module,
    costs: Costs,
    classes: Sequence[dict[str, str]],
    images: Sequence[Tensor],
    record: dict[str, object],
) -> None:
    """Write the entry folder and the picture of the steps, sealed as unfinished; the main process alone does.

    Args:
        network: the float network that the supernet started from.
        images: training images that are not augmented, [batch, 3, height, width] each.
        record: how the indicators came about.
    """
    # Of an entry that an earlier run left here, only some of the files would be replaced if this one were cut off.
    unseal_folder(settings.output)
    # First and last layer were float until now: their 8-bit steps come from training images.
    ends = [name for name, cost in costs.items() if cost.fixed not in (None, FLOAT)]
    set_policy_(supernet, Policy.uniform(settings.model, costs, max(settings.candidates)))
    calibrate_steps_(supernet, ends, images[:STEP_BATCHES])
    indicators = read_indicators(
        supernet,
        costs,
        input_size=NetworkSpec.of(network).input_size,
        num_classes=len(classes),
        alpha=DEFAULT_ALPHA if settings.alpha is None else settings.alpha,
        provenance=record,
    )
    statistics: Statistics = "corrected" if settings.freeze_batch_norm else "measured"
    kept = kept_measurements(settings.output / MEASURED, supernet, network, images, statistics)
    if settings.alpha is None:
        print("trained; now measuring which alpha is best (minutes; a run with --alpha leaves it out)", flush=True)
        divergence = Divergence(supernet, network, images, statistics, kept / "divergences.json")
        indicators, measured = with_measured_alpha(indicators, divergence)
        indicators = replace(indicators, provenance=record | {"kl_by_alpha": measured})
    save_float_network(settings.output, network)
    save_entry(settings.output, supernet, indicators, classes, unfinished=True)
    if active_batch_norms(supernet):
        _export_anchors(settings, indicators, network, images, kept)
        seal_entry(settings.output, NetworkSpec.of(supernet), unfinished=True)
    if settings.measure_images:
        _export_pairs(settings.output, _first(images, settings.measure_images), kept)
        seal_entry(settings.output, NetworkSpec.of(supernet), unfinished=True)
    save_curves(settings.output / "curves.png", indicators)


def _export_anchors(
    settings: ExportSettings, indicators: Indicators, network: nn.Module, images: Sequence[Tensor], kept: Path
) -> None:
    """Write the BatchNorm statistics of the anchor policies into the folder of the entry.

    Args:
        kept: folder in which they are kept as they are measured.
    """
    policies = anchor_policies(indicators, settings.anchor_gap)
    print(
        f"now the BatchNorm statistics at {len(policies)} policies over the range of budgets; a run with a larger "
        f"--anchor-gap, {settings.anchor_gap} here, takes fewer",
        flush=True,
    )
    shown = tracked(policies, "BatchNorm statistics", "policies", len(policies), each_takes_long=True)
    # What is shipped is in half precision: its statistics are measured on what is shipped.
    folder = open_local_folder(settings.output, "entry", unfinished=True)
    shipped = load_supernet(folder, indicators).to(images[0].device)
    save_anchors(settings.output, shipped, shown, images, network if settings.freeze_batch_norm else None, kept)


def _export_pairs(output: Path, images: Tensor, kept: Path) -> None:
    """Add the divergence of each pair of bits of each layer to the indicators of the entry.

    Args:
        images: [count, 3, height, width].
        kept: folder in which they are kept, layer by layer, as they are measured.

    Raises:
        TrainingError: the predictions are no numbers.
    """
    print(
        "now what each pair of bits of each layer does to the predictions; a run with a smaller --measure-images, "
        f"{len(images)} here, takes less time",
        flush=True,
    )
    entry = Entry(str(output), open_local_folder(output, "entry", unfinished=True), "local")
    weights = usual_weights(entry.indicators.per_channel)
    measuring = Measuring(entry, images.split(MEASURED_BATCH), weights, usual_others(weights))
    progress_file = kept / f"pairs-{len(images)}-{__version__}.json"
    try:
        with progress_teller("measuring the importance", "layers") as tell:
            measured_indicators(measuring, progress_file, tell=tell).save(output / "indicators.json")
    except TrainingError as error:
        raise TrainingError(f"{error}; or leave the pairs out: --resume with --measure-images 0") from error


def _first(batches: Sequence[Tensor], count: int) -> Tensor:
    """Return so many images of the batches, or all of them: [images, 3, height, width]."""
    first: list[Tensor] = []
    for images in batches:
        first.append(images[: count - sum(map(len, first))])
    return torch.cat(first)
