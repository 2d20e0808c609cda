"""Top-1, agreement and KL to the float network: of an entry at a budget or policy, of its float network, a checkpoint.

    accelerate launch -m limpq_hub.train.validate --model resnet18 --bitops 3G --data ~/tiny-imagenet
    accelerate launch -m limpq_hub.train.validate --model resnet18 --bitops 2G --weights joint --data ~/tiny-imagenet
    accelerate launch -m limpq_hub.train.validate --model resnet18 --weights float --data ~/tiny-imagenet
    accelerate launch -m limpq_hub.train.validate --model resnet18 --bitops 3G --arithmetic integer --data DATA
    accelerate launch -m limpq_hub.train.validate --checkpoint out/resnet18-3G --data ~/tiny-imagenet
    accelerate launch -m limpq_hub.train.validate --exported out/r18 --data ~/tiny-imagenet

Prints the figures, agreement and KL where the entry holds its float network; with `--output` writes them with command,
seed, device and time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from limpq_hub.errors import TrainingError, quoted
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.quant.batch_norm_calibration import recalibrate_batch_norm_
from limpq_hub.train.data.description import data_record
from limpq_hub.train.data.loaders import calibration_batches, validation_loader
from limpq_hub.train.launching import run
from limpq_hub.train.loop.provenance import provenance
from limpq_hub.train.loop.run import finish, new_accelerator
from limpq_hub.train.measure.evaluate import evaluate
from limpq_hub.train.measure.reference import check_comparable, reference_of
from limpq_hub.train.measure.validated_network import (
    ValidatedNetwork,
    Weights,
    network_of_checkpoint,
    network_of_entry,
    network_of_export,
)
from limpq_hub.train.option_types import MOST_CALIBRATION_IMAGES, output_file, whole_number
from limpq_hub.train.options import add_data_options, add_policy_options, parser_of, settings_of
from limpq_hub.train.plan_notes import print_plan_notes
from limpq_hub.train.settings import DataSettings, DeviceSettings, Invocation
from limpq_hub.zoo.limpq_model import Arithmetic


@dataclass(frozen=True)
class ValidateSettings:
    """What this command is asked for.

    Attributes:
        model: entry, or None where a checkpoint is validated.
        constraints: its budget or policy.
        weights: "auto", "finetuned", "joint" or "float".
        checkpoint: output folder of `finetune`.
        exported: folder that `limpq_hub.export` wrote.
        arithmetic: "simulated", or "integer" on a CPU.
        calibrate_images: training images to recalibrate BatchNorm on.
        output: JSON file for the figures.
    """

    model: str | None
    constraints: Mapping[str, Any]
    weights: Weights
    checkpoint: Path | None
    exported: Path | None
    arithmetic: Arithmetic
    calibrate_images: int
    output: Path | None
    data: DataSettings
    device: DeviceSettings
    invocation: Invocation


def parse_options(argv: Sequence[str] | None) -> ValidateSettings:
    """Return what was typed, as settings."""
    parser = parser_of(__doc__, "validate")
    add_policy_options(parser, required=False)
    parser.add_argument("--checkpoint", type=Path, help="output folder of finetune, instead of --model")
    parser.add_argument("--exported", type=Path, help="folder of limpq export, run by its runtime, instead of --model")
    parser.add_argument(
        "--weights",
        type=_which_weights,
        choices=get_args(Weights),
        default="auto",
        help="which weights to load; float: the network that the entry came from, without a budget",
    )
    parser.add_argument(
        "--arithmetic",
        choices=("simulated", "integer"),
        default="simulated",
        help="integer: convolutions multiply integers, on a CPU",
    )
    parser.add_argument(
        "--calibrate-images",
        type=whole_number(0, MOST_CALIBRATION_IMAGES),
        default=0,
        help="training images to recalibrate BatchNorm on",
    )
    parser.add_argument("--output", type=output_file("validation.json"), help="JSON file for the figures")
    add_data_options(parser, trains=False)
    return settings_of(ValidateSettings, parser, "validate", argv)


def _which_weights(text: str) -> str:
    """Return which weights are meant, as an argparse type; a file is answered with the option that takes it."""
    if Path(text).suffix or os.path.exists(text) or text.startswith(("local-dir:", "hf-hub:")):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is no choice of {', '.join(get_args(Weights))}, which say what to load of --model; give a "
            "policy.json as --policy, the output folder of finetune as --checkpoint, an entry as --model"
        )
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """Load, evaluate, report."""
    settings = parse_options(argv)
    data = settings.data
    accelerator = new_accelerator(settings.device)
    if (settings.arithmetic == "integer" or settings.exported) and accelerator.device.type != "cpu":
        option = "--exported" if settings.exported else "--arithmetic integer"
        raise TrainingError(f"{option} runs on a CPU, not on {accelerator.device}: set ACCELERATE_USE_CPU=true")
    network, spec, description, entry, ids, plan, caution = _network(settings)
    if entry is not None:
        check_comparable(entry, data)
    if plan is not None:
        print_plan_notes(accelerator, plan)
    if caution and accelerator.is_main_process:
        print(f"note: {settings.exported or settings.checkpoint}: {caution}", file=sys.stderr, flush=True)
    images = calibration_batches(data, spec, settings.calibrate_images, accelerator.device)
    calibration_images = recalibrate_batch_norm_(network.to(accelerator.device), images)
    began = time.monotonic()
    validation, reference = validation_loader(data, spec, data.batch_size, classes=ids), None
    if entry is not None:
        reference = reference_of(accelerator, entry, None, validation, needed=data.data is None)
    figures = evaluate(accelerator, network, validation, reference)
    record = {
        **description,
        "calibration_images": calibration_images,
        **figures,
        **provenance(accelerator, settings.invocation, time.monotonic() - began),
        "data": data_record(data),
    }
    if accelerator.is_main_process:
        print(json.dumps(record, indent=1))
        if settings.output:
            write_json(settings.output, record)
    finish(accelerator)


def _network(settings: ValidateSettings) -> ValidatedNetwork:
    folders = {"--checkpoint": settings.checkpoint, "--exported": settings.exported}
    option, *others = [name for name, folder in folders.items() if folder] or [""]
    if others or bool(option) == bool(settings.model):
        raise TrainingError("give --model with a budget or policy, or --checkpoint, or --exported")
    if option:
        given = [f"--{name.replace('_', '-')}" for name in settings.constraints]
        given += [] if settings.weights == "auto" else ["--weights"]
        given += [] if settings.arithmetic == "simulated" else ["--arithmetic"]
        given += ["--calibrate-images"] if settings.exported and settings.calibrate_images else []
        if given:
            raise TrainingError(f"{option} holds its own policy and weights; leave out {', '.join(given)}")
    if settings.exported:
        return network_of_export(settings.exported, settings.data)
    if settings.checkpoint:
        return network_of_checkpoint(settings.checkpoint, settings.data)
    model, weights = cast(str, settings.model), settings.weights
    return network_of_entry(model, weights, settings.constraints, settings.data, settings.arithmetic)


if __name__ == "__main__":
    run(main)
