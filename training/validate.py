"""Top-1 and top-5 of an entry at a budget or policy, on all validation images.

    accelerate launch training/validate.py --model resnet18 --bitops 3G --data ~/tiny-imagenet
    accelerate launch training/validate.py --model resnet18 --bitops 2G --weights joint --data ~/tiny-imagenet

Prints the figures, and with `--output` writes them with command, seed, device and time.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from _data import calibration_batches, data_record, validation_loader
from _loop import budget_of, check_fits, evaluate, new_accelerator, provenance
from _options import add_data_options, add_entry_options, command_line, count, parser_of, run

from limpq_hub.plan.jsonfile import write_json
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.loading import NotFineTunedWarning, load
from limpq_hub.zoo.network import NetworkSpec


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    add_entry_options(parser)
    parser.add_argument(
        "--weights", choices=("auto", "finetuned", "joint"), default="auto", help="which weights to load"
    )
    parser.add_argument("--calibrate-images", type=count, default=0, help="training images to recalibrate BatchNorm on")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    add_data_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Load, evaluate, report."""
    options = parse_options(argv)
    accelerator = new_accelerator(options)
    entry = find_entry(options.model)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    check_fits(options, entry)
    images = calibration_batches(options, spec, options.calibrate_images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotFineTunedWarning)
        model = load(
            options.model, weights=options.weights, calibrate=images, device=accelerator.device, **budget_of(options)
        )
    began = time.monotonic()
    measured = evaluate(accelerator, model, validation_loader(options, spec))
    record = {
        "model": entry.name,
        "weights": model.limpq.weights,
        "calibration_images": options.calibrate_images,
        "policy_sha256": model.limpq.plan.policy.digest(),
        "bitops": model.limpq.plan.bitops,
        **measured,
        **provenance(accelerator, command_line(argv), options, time.monotonic() - began),
        "data": data_record(options),
    }
    if accelerator.is_main_process:
        print(json.dumps(record, indent=1))
        if options.output:
            write_json(options.output, record)


if __name__ == "__main__":
    run(main)
