"""Top-1 without training: the jointly trained weights at budgets over the whole range.

    accelerate launch training/front.py --model local-dir:out/joint --data ~/tiny-imagenet --output out/front.json

Each budget is measured twice: with the BatchNorm statistics that the entry ships, and after recalibration on unlabelled
training images. `training/publish.py --front out/front.json` puts the figures into the entry.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.quant.calibrate import recalibrate_batch_norm_
from limpq_hub.train.data.loaders import calibration_batches, data_record, validation_loader
from limpq_hub.train.loop.run import finish, new_accelerator, provenance
from limpq_hub.train.measure.evaluate import evaluate
from limpq_hub.train.method.networks import check_fits
from limpq_hub.train.options import add_data_options, command_line, parser_of, positive, run
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import SUPERNET
from limpq_hub.zoo.loading import NotFineTunedWarning, load
from limpq_hub.zoo.network import NetworkSpec

FORMAT = 1


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="entry: resnet18, local-dir:out/my-joint, hf-hub:owner/name")
    parser.add_argument(
        "--bitops",
        nargs="+",
        help="budgets; if not given, --points of them over the whole range, evenly apart as logarithms",
    )
    parser.add_argument("--points", type=positive(int), default=14, help="how many budgets")
    parser.add_argument(
        "--calibrate-images", type=positive(int), default=1000, help="unlabelled images of the second measurement"
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the figures")
    add_data_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every budget, twice."""
    options = parse_options(argv)
    accelerator = new_accelerator(options)
    entry = find_entry(options.model)
    check_fits(options, entry)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    images = [batch.to(accelerator.device) for batch in calibration_batches(options, spec, options.calibrate_images)]
    validation = validation_loader(options, spec)
    began, records = time.monotonic(), []
    for bitops in options.bitops or budgets(entry.summary(), options.points):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotFineTunedWarning)
            model = load(options.model, bitops=bitops, weights="joint", device=accelerator.device)
        plan = model.limpq.plan
        known: dict[str, Any] = {"policy_sha256": plan.policy.digest(), "bitops": plan.bitops}
        shipped = evaluate(accelerator, model, validation)
        seen = recalibrate_batch_norm_(model, images)
        adapted = evaluate(accelerator, model, validation)
        records.append(known | {"calibration_images": 0} | shipped)
        records.append(known | {"calibration_images": seen} | adapted)
        if accelerator.is_main_process:
            print(
                f"{format_bitops(plan.bitops)} BitOps: top-1 {shipped['top1']:.2f} %, recalibrated "
                f"{adapted['top1']:.2f} %",
                flush=True,
            )
    supernet = entry.folder.config["files"][SUPERNET]["sha256"]
    record = provenance(accelerator, command_line(argv), options, time.monotonic() - began)
    if accelerator.is_main_process:
        content = {
            "format": FORMAT,
            "model": entry.name,
            "supernet_sha256": supernet,
            "joint": records,
            **record,
            "data": data_record(options),
        }
        write_json(options.output, content)
        local = options.model.startswith("local-dir:")
        joint = options.model.removeprefix("local-dir:") if local else "FOLDER_OF_INDICATORS"
        print(f"figures in {options.output}")
        print(f"next: python training/publish.py --joint {joint} --front {options.output} --output out/my-entry")
    finish(accelerator)


def budgets(summary: dict[str, Any], points: int) -> list[int]:
    """Return budgets from the least to the most BitOps, evenly apart on a logarithmic scale."""
    least, most = summary["minimum_bitops"], summary["maximum_bitops"]
    if points == 1:
        return [most]
    between = [round(least * (most / least) ** (place / (points - 1))) for place in range(points)]
    return [least, *between[1:-1], most]


if __name__ == "__main__":
    run(main)
