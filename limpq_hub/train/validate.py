"""Top-1 and top-5 of an entry at a budget or policy, of its float network, or of a checkpoint.

    accelerate launch training/validate.py --model resnet18 --bitops 3G --data ~/tiny-imagenet
    accelerate launch training/validate.py --model resnet18 --bitops 2G --weights joint --data ~/tiny-imagenet
    accelerate launch training/validate.py --model resnet18 --weights float --data ~/tiny-imagenet
    accelerate launch training/validate.py --checkpoint out/resnet18-3G --data ~/tiny-imagenet

Prints the figures, and with `--output` writes them with command, seed, device and time.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.quant.calibrate import recalibrate_batch_norm_
from limpq_hub.train.data.loaders import calibration_batches, data_record, validation_loader
from limpq_hub.train.loop.run import finish, new_accelerator, provenance
from limpq_hub.train.measure.evaluate import evaluate
from limpq_hub.train.method.networks import budget_of, check_fits
from limpq_hub.train.options import add_data_options, add_entry_options, command_line, count, parser_of, run
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry_folder import load_float_network
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.loading import NotFineTunedWarning, load
from limpq_hub.zoo.network import NetworkSpec


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of this script."""
    parser = parser_of(__doc__.splitlines()[0])
    add_entry_options(parser, required=False)
    parser.add_argument("--checkpoint", type=Path, help="output folder of finetune.py, instead of --model")
    parser.add_argument(
        "--weights",
        choices=("auto", "finetuned", "joint", "float"),
        default="auto",
        help="which weights to load; float: the network that the entry came from, without a budget",
    )
    parser.add_argument("--calibrate-images", type=count, default=0, help="training images to recalibrate BatchNorm on")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    add_data_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Load, evaluate, report."""
    options = parse_options(argv)
    accelerator = new_accelerator(options)
    model, spec, described = network_of(options)
    images = calibration_batches(options, spec, options.calibrate_images)
    recalibrate_batch_norm_(model.to(accelerator.device), [batch.to(accelerator.device) for batch in images])
    began = time.monotonic()
    measured = evaluate(accelerator, model, validation_loader(options, spec))
    record = {
        **described,
        "calibration_images": options.calibrate_images,
        **measured,
        **provenance(accelerator, command_line(argv), options, time.monotonic() - began),
        "data": data_record(options),
    }
    if accelerator.is_main_process:
        print(json.dumps(record, indent=1))
        if options.output:
            write_json(options.output, record)
    finish(accelerator)


def network_of(options: argparse.Namespace) -> tuple[nn.Module, NetworkSpec, dict[str, object]]:
    """Return the network that the options name, how it takes pictures, and what it is.

    Raises:
        TrainingError: both or neither of --model and --checkpoint are given, or a budget for the float network.
        DataError: the data has other classes.
    """
    if (options.model is None) == (options.checkpoint is None):
        raise TrainingError("give --model with a budget or policy, or --checkpoint")
    if options.checkpoint:
        folder = open_local_folder(options.checkpoint, "checkpoint")
        model, policy = load_checkpoint(folder)
        name, weights, bitops = folder.name, "finetuned", folder.config["bitops"]
        spec = NetworkSpec.from_config(folder.config, folder.name)
    else:
        entry = find_entry(options.model)
        check_fits(options, entry)
        if options.weights == "float":
            if given := ", ".join(f"--{name}" for name in budget_of(options)):
                raise TrainingError(f"--weights float has no bits to choose; leave out {given}")
            network, spec = load_float_network(entry.folder), NetworkSpec.from_config(entry.folder.config, entry.name)
            return network, spec, {"model": entry.name, "weights": "float", "policy_sha256": None, "bitops": None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotFineTunedWarning)
            model = load(options.model, weights=options.weights, **budget_of(options))
        name, weights, spec = entry.name, model.limpq.weights, model.limpq.network
        policy, bitops = model.limpq.plan.policy, model.limpq.plan.bitops
    return model, spec, {"model": name, "weights": weights, "policy_sha256": policy.digest(), "bitops": bitops}


if __name__ == "__main__":
    run(main)
