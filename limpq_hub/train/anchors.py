"""Measure the BatchNorm statistics of an entry anew, along the frontier of its search.

    python -m limpq_hub.train.anchors --model local-dir:out/my-entry --data ~/tiny-imagenet --output out/anchored

The end of a joint training measures them along the frontier of the learned step sizes. Where `publish --importance`
lets searches add up something else, other policies lie along it. Writes the entry with the new statistics, its policies
too, but without a front, which was measured with the old ones. The statistics of each policy are kept as they are
measured: the same command goes on where it was cut off.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from limpq_hub.errors import TrainingError
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.search_record import search_record
from limpq_hub.quant.running_statistics import active_batch_norms
from limpq_hub.train.carried_options import picture_options, typed_options
from limpq_hub.train.data.loaders import calibration_batches
from limpq_hub.train.launching import command_of, run
from limpq_hub.train.loop.folder import locked
from limpq_hub.train.loop.provenance import provenance
from limpq_hub.train.loop.run import finish, new_accelerator
from limpq_hub.train.measure.kept_measurements import MEASURED, forget_measurements, kept_measurements
from limpq_hub.train.options import add_data_options, add_entry_option, parser_of, settings_of
from limpq_hub.train.progress import tracked
from limpq_hub.train.settings import DataSettings, DeviceSettings, Invocation
from limpq_hub.train.training_options import add_anchor_options
from limpq_hub.zoo.anchors import (
    ANCHOR_POLICIES,
    ANCHOR_STATISTICS,
    anchor_policies,
    save_anchors,
    statistics_of_entry,
)
from limpq_hub.zoo.assembly import remade_entry
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import METRICS, load_float_network, load_supernet
from limpq_hub.zoo.folder_copy import check_place
from limpq_hub.zoo.front import without_front
from limpq_hub.zoo.network import NetworkSpec


@dataclass(frozen=True)
class AnchorSettings:
    """What this command is asked for.

    Attributes:
        model: entry as `limpq_hub.load` takes it.
        calibrate_images: unlabelled training images that the statistics of each policy are measured on.
        anchor_gap: bits by which neighbouring policies differ.
        output: folder of the entry with the new statistics.
        invocation: how the command was called, for `anchors.json`.
    """

    model: str
    calibrate_images: int
    anchor_gap: int
    output: Path
    data: DataSettings
    device: DeviceSettings
    invocation: Invocation


def parse_options(argv: Sequence[str] | None) -> AnchorSettings:
    """Return what was typed, as settings."""
    parser = parser_of(__doc__, "anchors")
    add_entry_option(parser)
    add_anchor_options(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder of the entry; an entry there is replaced")
    add_data_options(parser, trains=False, validates=False)
    return settings_of(AnchorSettings, parser, "anchors", argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the statistics of each policy, then write the entry with them."""
    settings = parse_options(argv)
    accelerator = new_accelerator(settings.device)
    if accelerator.num_processes > 1:
        raise TrainingError(f"anchors runs as one process: start it with {command_of('anchors')}")
    entry, output = find_entry(settings.model), settings.output.resolve()
    if entry.source == "local" and output == Path(settings.model.removeprefix("local-dir:")).resolve():
        raise TrainingError("--output would replace --model; choose another --output")
    metrics = entry.metrics
    check_place(entry.folder, output)
    beside = output.with_name(f".{output.name}.measured")
    with locked(beside):
        how_made = provenance(accelerator, settings.invocation, seconds=None)
        record = {"search": search_record(entry.indicators), "provenance": how_made}
        told = _measure(settings, entry, accelerator.device, beside, record)
        with remade_entry(entry.folder, output) as building:
            for file in (ANCHOR_POLICIES, ANCHOR_STATISTICS):
                shutil.copyfile(beside / file, building / file)
            if metrics:
                write_json(building / METRICS, without_front(metrics))
    forget_measurements(beside)
    print(f"{settings.output}: {told}")
    invocation, front = settings.invocation, output.with_name(f"{output.name}-front.json")
    words = [*picture_options(settings.data), *typed_options(invocation, "--seed", "--workers", "--threads")]
    command = command_of("front", "--model", f"local-dir:{settings.output}", *words, "--output", front)
    print(f"next, what the joint weights reach with them: {command}")
    finish(accelerator)


def _measure(
    settings: AnchorSettings, entry: Entry, device: torch.device, beside: Path, record: Mapping[str, object]
) -> str:
    """Write the statistics of each policy, and return in words what was measured.

    Args:
        beside: folder for the files; those of each policy are kept in it, to go on from.
        record: as `save_anchors` takes it.

    Raises:
        TrainingError: the network has no BatchNorm.
    """
    supernet = load_supernet(entry.folder, entry.indicators).to(device)
    if not active_batch_norms(supernet):
        raise TrainingError(f"{entry.name} has no BatchNorm, so its joint weights serve any policy as they are")
    corrects = statistics_of_entry(entry.folder) == "corrected"
    corrected_from = load_float_network(entry.folder).to(device) if corrects else None
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    images = calibration_batches(settings.data, spec, settings.calibrate_images, device)
    compared = supernet if corrected_from is None else corrected_from
    kept = kept_measurements(beside / MEASURED, supernet, compared, images, "corrected" if corrects else "measured")
    policies = anchor_policies(entry.indicators, settings.anchor_gap)
    shown = tracked(policies, "BatchNorm statistics", "policies", len(policies), each_takes_long=True)
    save_anchors(beside, supernet, shown, images, corrected_from, kept, record=record)
    return f"BatchNorm statistics of {len(policies)} policies, on {sum(map(len, images))} images each"


if __name__ == "__main__":
    run(main)
