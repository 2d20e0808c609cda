"""Options of the commands that train: schedule, augmentation, run folder, quantizers, joint steps, export."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from limpq_hub.quant.convert import DEFAULT_CANDIDATES
from limpq_hub.train.measure.usual_pairs import USUAL_IMAGES
from limpq_hub.train.option_types import (
    MOST_CALIBRATION_IMAGES,
    AscendingShares,
    at_least_zero,
    augmentation_policy,
    below_one,
    positive,
    share,
    share_above_zero,
    up_to,
    whole_number,
)
from limpq_hub.train.training_settings import CONSTANT, COSINE, FIRST_SPARING_EPOCH

# Those of timm that a saved state holds entirely; others keep figures where a state does not look.
OPTIMIZERS = ("momentum", "sgd", "adam", "adamw", "nadamw", "radamw", "adamax", "rmsproptf", "lion", "madgrad")
# As timm knows them.
WITH_MOMENTUM = {"madgrad", "momentum", "rmsproptf", "sgd"}


def add_training_options(
    parser: argparse.ArgumentParser,
    *,
    epochs: int | None,
    lr: float | None,
    weight_decay: float,
    warmup_epochs: float | None = 0.0,
    validates: bool = True,
    where_not_given: Mapping[str, str] | None = None,
) -> None:
    """Add the schedule, the augmentation and the output folder, with the defaults of this command.

    Args:
        epochs, lr, warmup_epochs: None where the command sets them once it knows the other options.
        validates: whether the command can validate between epochs.
        where_not_given: what an option is that the command sets, in words, by the name of the setting.
    """
    left_open = {name: f"; {words}" for name, words in (where_not_given or {}).items()}
    schedule = parser.add_argument_group("schedule")
    schedule.add_argument(
        "--epochs",
        type=whole_number(),
        default=epochs,
        help=f"passes over the training images{left_open.get('epochs', '')}",
    )
    schedule.add_argument("--max-steps", type=whole_number(), help="stop after this many optimizer steps")
    schedule.add_argument(
        "--gradient-accumulation", type=whole_number(), default=1, help="batches per process and optimizer step"
    )
    schedule.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="momentum", help="timm's name; momentum is SGD without Nesterov"
    )
    schedule.add_argument("--lr", type=positive, default=lr, help=f"peak learning rate{left_open.get('lr', '')}")
    schedule.add_argument(
        "--lr-schedule",
        choices=(COSINE, CONSTANT),
        default=COSINE,
        help="how the rate goes on after the warm-up; of a constant one --resume can make the run longer",
    )
    schedule.add_argument(
        "--warmup-epochs",
        type=at_least_zero,
        default=warmup_epochs,
        help=f"epochs of linear warm-up{left_open.get('warmup_epochs', '')}",
    )
    schedule.add_argument("--momentum", type=below_one, default=0.9, help="SGD momentum, from 0 to below 1")
    schedule.add_argument(
        "--weight-decay", type=up_to(10), default=weight_decay, help="0..10; not on steps, BatchNorm and biases"
    )
    schedule.add_argument("--smoothing", type=below_one, default=0.1, help="label smoothing, from 0 to below 1")
    schedule.add_argument("--clip-value", type=positive, default=1.0, help="largest gradient entry")
    schedule.add_argument(
        "--ema",
        type=below_one,
        help="decay of a moving average of the weights, which is what is kept; from 0 to below 1",
    )
    parser.set_defaults(step_optimizer=None, step_lr=None, freeze_batch_norm=False)
    augment = parser.add_argument_group("augmentation")
    augment.add_argument(
        "--crop-scale",
        type=share,
        nargs=2,
        action=AscendingShares,
        default=(0.35, 1.0),
        help="area of the random crop, 0..1",
    )
    augment.add_argument("--color-jitter", type=up_to(10), default=0.0, help="strength of the color jitter, 0..10")
    augment.add_argument(
        "--auto-augment",
        type=augmentation_policy,
        help="timm's policy string, for example rand-m7-mstd0.5; none for none",
    )
    augment.add_argument(
        "--data-fraction",
        type=share_above_zero,
        default=1.0,
        help="share of the training images used, above 0 and up to 1",
    )
    run = parser.add_argument_group("run")
    run.add_argument("--output", type=Path, required=True, help="folder for the results")
    run.add_argument("--resume", action="store_true", help="continue the run in --output")
    parser.set_defaults(validate_epochs=None)
    if validates:
        run.add_argument(
            "--validate-epochs",
            type=whole_number(),
            help="epochs between two validations; only at the end if not given",
        )
    run.add_argument(
        "--save-interval", type=whole_number(), default=200, help="optimizer steps between two saved states"
    )


def add_quantizer_options(parser: argparse.ArgumentParser) -> None:
    """Add how the step sizes of the quantizers are trained; after `add_training_options`."""
    group = parser.add_argument_group("quantizer")
    group.add_argument(
        "--step-optimizer",
        choices=OPTIMIZERS,
        help="timm's name of an optimizer of their own for the step sizes; --optimizer if only --step-lr is given",
    )
    group.add_argument("--step-lr", type=positive, help="peak learning rate of the step sizes; --lr if not given")
    group.add_argument(
        "--step-start",
        choices=("lsq", "least-error"),
        default="least-error",
        help="where new step sizes start: at the published one-shot rules, or at the least squared rounding error",
    )
    group.add_argument(
        "--freeze-batch-norm",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="keep the statistics of the float network, corrected for what quantization changes: for few pictures, or "
        "others than it was trained on",
    )


def add_quantization_options(parser: argparse.ArgumentParser) -> None:
    """Add what of a network is quantized."""
    group = parser.add_argument_group("quantization")
    group.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="layers, products (*.qk, *.av) and modules that stay in float; `limpq check` lists the names",
    )
    group.add_argument(
        "--fix",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="those that are fixed at 8/8 bits, as first and last are",
    )
    group.add_argument(
        "--per-channel",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="give every output channel of a layer a weight step of its own",
    )


def add_joint_options(parser: argparse.ArgumentParser) -> None:
    """Add the passes of a joint step."""
    joint = parser.add_argument_group("joint training")
    joint.add_argument(
        "--candidates",
        type=whole_number(2, 8),
        nargs="+",
        default=list(DEFAULT_CANDIDATES),
        help="bit-widths, each in 2..8",
    )
    joint.add_argument(
        "--uniform", choices=("all", "highest"), default="all", help="uniform passes: each candidate, or the most bits"
    )
    joint.add_argument(
        "--mixtures", type=whole_number(0, 100), default=1, help="passes at random bits per step, at most 100"
    )
    joint.add_argument(
        "--in-place-distill", type=share, default=0.0, help="share of the loss that is KL to the pass at the most bits"
    )
    joint.add_argument(
        "--output-distance",
        type=at_least_zero,
        default=0.0,
        help="factor on the squared difference of each layer's output to that of the pass at the most bits",
    )
    joint.add_argument(
        "--spare-oscillating",
        type=share,
        default=0.0,
        help="share of layers, those whose weights flip most, kept from their fewest bits at times from epoch "
        f"{FIRST_SPARING_EPOCH} on",
    )
    joint.add_argument(
        "--share-stem",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run what comes before the first searched layer once per step; the gradients stay the same",
    )


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add what is made of the trained supernet."""
    result = parser.add_argument_group("result")
    result.add_argument(
        "--alpha",
        type=at_least_zero,
        help="default factor of the weight importance in a search; if not given, the one of least KL at some budgets",
    )
    add_anchor_options(result, images_for="steps and BatchNorm statistics")
    result.add_argument(
        "--measure-images",
        type=whole_number(0, MOST_CALIBRATION_IMAGES),
        default=USUAL_IMAGES,
        help="how many of the --calibrate-images each pair of bits of each layer is measured on, for searches by "
        "--importance measured; 0 measures none",
    )
    result.add_argument(
        "--class-names",
        type=Path,
        help="JSON file of {class folder: name in words}; or a list of the class folders in the order of the outputs, "
        "where the network has more classes than --data",
    )


def add_anchor_options(
    group: argparse.ArgumentParser | argparse._ArgumentGroup, *, images_for: str = "BatchNorm statistics"
) -> None:
    """Add which policies the BatchNorm statistics are kept of, and how many images they are measured on."""
    group.add_argument(
        "--calibrate-images",
        type=whole_number(1, MOST_CALIBRATION_IMAGES),
        default=2048,
        help=f"training images for {images_for}",
    )
    group.add_argument(
        "--anchor-gap",
        type=whole_number(),
        default=8,
        help="bits by which a policy whose BatchNorm statistics are kept differs from the next along the frontier",
    )
