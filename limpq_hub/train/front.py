r"""Top-1, or agreement with float, without training: the jointly trained weights at budgets over the whole range.

    accelerate launch -m limpq_hub.train.front --model local-dir:out/joint --data ~/tiny-imagenet \
        --output out/front.json

Each budget is measured twice: with the BatchNorm statistics that the entry ships, and after recalibration on unlabelled
training images; only once where joint training kept the float network's statistics. `publish --front out/front.json`
puts the figures into the entry. Each is kept as it is measured: the same command goes on where it was cut off.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.progress_file import progress_file_of
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.plan.search_record import search_record
from limpq_hub.train.data.description import data_record
from limpq_hub.train.data.loaders import calibration_batches, validation_loader
from limpq_hub.train.data.network_classes import classes_of_entry
from limpq_hub.train.launching import run
from limpq_hub.train.loop.provenance import provenance
from limpq_hub.train.loop.run import finish, new_accelerator
from limpq_hub.train.measure.evaluate import accuracy_of, accuracy_text
from limpq_hub.train.measure.figure_dependence import digests_of_pictures
from limpq_hub.train.measure.joint_front import budgets, joint_records
from limpq_hub.train.measure.measurement_cache import MeasurementCache
from limpq_hub.train.measure.recalibration_images import recalibration_images
from limpq_hub.train.measure.reference import check_comparable, reference_of
from limpq_hub.train.option_types import MOST_CALIBRATION_IMAGES, output_file, whole_number
from limpq_hub.train.options import add_data_options, add_entry_option, parser_of, settings_of
from limpq_hub.train.plan_notes import print_plan_notes
from limpq_hub.train.push import publishing_command
from limpq_hub.train.settings import DataSettings, DeviceSettings, Invocation
from limpq_hub.zoo.anchors import statistics_of_entry
from limpq_hub.zoo.card_commands import last_component
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.float_file import float_file_of
from limpq_hub.zoo.front import digests_of_front
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.policy_request import plan_for

FORMAT = 1
# Options that no figure depends on, or that its key names.
_MAY_CHANGE = {"bitops", "points", "output", "workers", "threads", "batch_size"}


@dataclass(frozen=True)
class FrontSettings:
    """What this command is asked for.

    Attributes:
        model: entry as `limpq_hub.load` takes it.
        bitops: budgets; None for `points` of them over the whole range.
        calibrate_images: unlabelled images of the second measurement; 0 for none, None for what suits the entry.
        output: JSON file for the figures.
    """

    model: str
    bitops: Sequence[str] | None
    points: int
    calibrate_images: int | None
    output: Path
    data: DataSettings
    device: DeviceSettings
    invocation: Invocation


def parse_options(argv: Sequence[str] | None) -> FrontSettings:
    """Return what was typed, as settings."""
    parser = parser_of(__doc__, "front")
    add_entry_option(parser)
    parser.add_argument(
        "--bitops",
        nargs="+",
        help="budgets; if not given, --points of them over the whole range, evenly apart as logarithms",
    )
    parser.add_argument("--points", type=whole_number(1, 1000), default=14, help="how many budgets, at most 1000")
    parser.add_argument(
        "--calibrate-images",
        type=whole_number(0, MOST_CALIBRATION_IMAGES),
        help="training images to recalibrate BatchNorm; 1000 if not given, and none of an entry whose joint training "
        "kept the float network's statistics",
    )
    parser.add_argument("--output", type=output_file("front.json"), required=True, help="JSON file for the figures")
    add_data_options(parser, trains=False)
    return settings_of(FrontSettings, parser, "front", argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every budget."""
    settings = parse_options(argv)
    with progress_file_of(settings.output) as progress_file:
        _measure(settings, progress_file)


def _measure(settings: FrontSettings, progress_file: Path) -> None:
    data = settings.data
    accelerator = new_accelerator(settings.device)
    entry = find_entry(settings.model)
    check_comparable(entry, data)
    plans: dict[str, Plan] = {}  # a policy may be the best at several budgets
    for budget in settings.bitops or budgets(entry.summary(), settings.points):
        plan = plan_for(entry, bitops=budget)  # one that cannot be is told before hours of measuring
        plans[plan.policy.digest()] = plan
        if settings.bitops:
            print_plan_notes(accelerator, plan, str(budget))
    ids = classes_of_entry(entry, data)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    calibrate_images = recalibration_images(statistics_of_entry(entry.folder), settings.calibrate_images)
    images = calibration_batches(data, spec, calibrate_images, accelerator.device)
    validation = validation_loader(data, spec, data.batch_size, classes=ids)
    # Else figures without KL would stand beside figures with it where the Hub gave the float network in some runs only.
    needed = data.data is None or float_file_of(entry.folder) is not None
    reference = reference_of(accelerator, entry, None, validation, needed=needed)
    began, records = time.monotonic(), []
    digests = digests_of_front(entry.folder)
    options = {name: value for name, value in settings.invocation.options.items() if name not in _MAY_CHANGE}
    measured = MeasurementCache(
        progress_file,
        options | digests | {"calibrate_images": calibrate_images} | digests_of_pictures(data),
        writes=accelerator.is_main_process,
    )
    measurements = joint_records(accelerator, entry, [*plans.values()], images, validation, reference, measured)
    before = len(measured.figures)
    for done, (shipped, *recalibrated) in enumerate(measurements, start=1):
        records += [shipped, *recalibrated]
        also = "".join(f", recalibrated {figures[accuracy_of(figures)]:.2f} %" for figures in recalibrated)
        now = len(measured.figures) - before
        minutes = (time.monotonic() - began) / max(1, now) * (len(plans) - done) / 60
        left = f"{minutes:.1f} min left" if now else "measured before"
        accelerator.print(
            f"policy {done}/{len(plans)}, {left}: {format_bitops(shipped['bitops'])} BitOps: "
            f"{accuracy_text(shipped)}{also}",
            flush=True,
        )
    if accelerator.is_main_process:
        content = {
            "format": FORMAT,
            "model": last_component(entry.name),
            **digests,
            **search_record(entry.indicators),
            "joint": records,
            **provenance(accelerator, settings.invocation, None if before else time.monotonic() - began),
            "data": data_record(data),
        }
        write_json(settings.output, content)
        measured.path.unlink(missing_ok=True)
        print(f"figures in {settings.output}")
        print(f"next: {publishing_command(settings.model, '--front', settings.output)}")
    finish(accelerator)


if __name__ == "__main__":
    run(main)
