"""Command lines of the engine's commands: parsed, with those of a recipe, into typed settings."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from limpq_hub.plan.budget import typed_limits
from limpq_hub.plan.constraints import KINDS
from limpq_hub.train.defaults_formatter import DefaultsFormatter
from limpq_hub.train.idle_options import check_idle_options
from limpq_hub.train.launching import command_line, command_of
from limpq_hub.train.option_pairs import settle_options
from limpq_hub.train.option_types import (
    LARGEST_BATCH,
    LARGEST_INPUT,
    LARGEST_SEED,
    LICENSE_HELP,
    MOST_THREADS,
    MOST_WORKERS,
    add_model_arguments,
    seed,
    share,
    share_from_hundredth,
    usual_workers,
    whole_number,
)
from limpq_hub.train.recipe import add_recipe_option, with_recipe
from limpq_hub.train.settings import VALIDATION_BATCH, Invocation
from limpq_hub.train.settings_conversion import Settings, settings_from
from limpq_hub.train.suggesting_parser import SuggestingParser
from limpq_hub.zoo.network import CROP_MODES, INTERPOLATIONS

BF16_HELP = (
    "bf16 is faster, but turns the gradients of the step sizes: cosine to float32 0.56 to 0.90 on a "
    "ResNet-18 (tests/benchmarks/step_gradients.py)"
)

WEIGHTS_HELP = (
    "pretrained (timm's own), safetensors file in timm's names, local-dir:FOLDER or hf-hub:OWNER/NAME with timm's "
    "config.json and model.safetensors, or of an entry, for its float network; a config.json beside a file counts too"
)
FLOAT_HELP = "float network: safetensors file, local-dir:FOLDER or hf-hub:OWNER/NAME; that of the entry if not given"


# What a recipe may say yes to, and the command line no.
SWITCH = argparse.BooleanOptionalAction

_UNLABELLED_HELP = (
    "folders of pictures without labels, nested or flat, in place of the training images of --data; without --data, "
    "5 %% of them (at most 1,000) are held out to measure by"
)


def parser_of(description: str | None, command: str) -> argparse.ArgumentParser:
    """Return a parser that shows defaults and takes whole option names only.

    Args:
        description: docstring of the command; its first line is shown.
        command: "indicators", "finetune", ...
    """
    return SuggestingParser(
        prog=command_of(command),
        description=(description or "").partition("\n")[0],
        formatter_class=DefaultsFormatter,
        allow_abbrev=False,
    )


def parse(parser: argparse.ArgumentParser, command: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command, those of its `--recipe` among them.

    Args:
        command: name of the command, and of its section in a recipe.
        argv: what was typed after the command; the process's own if None.
    """
    add_recipe_option(parser)
    return parser.parse_args(with_recipe(parser, command, sys.argv[1:] if argv is None else argv))


def settings_of(
    kind: type[Settings],
    parser: argparse.ArgumentParser,
    command: str,
    argv: Sequence[str] | None,
    *,
    recipe: bool = False,
    complete: Callable[[argparse.Namespace], None] | None = None,
) -> Settings:
    """Return the settings of a command: its options by name, its budget or policy, and how it was called.

    Args:
        command: name of the command.
        argv: what was typed after the command; the process's own if None.
        recipe: whether the command takes options from a recipe.
        complete: fills in what was not typed and depends on other options.
    """
    typed = tuple(sys.argv[1:] if argv is None else argv)
    for word in typed:
        if word.startswith("--") and word.endswith("=--"):  # argparse takes it for an empty list
            parser.error(f"argument {word.removesuffix('=--')}: expected a value")
    options = parse(parser, command, argv) if recipe else parser.parse_args(argv)
    if complete:
        complete(options)
    settle_options(parser, options)
    check_idle_options(parser, options, typed)
    policy = getattr(options, "policy", None)
    limits = typed_limits(vars(options))
    values = {
        **vars(options),
        "constraints": limits if policy is None else limits | {"policy": policy},
        # As JSON holds the options: paths as text, tuples as lists.
        "invocation": Invocation(
            command_line(command, argv),
            json.loads(json.dumps(vars(options), default=str)),
            typed,
        ),
    }
    return settings_from(kind, values)


def add_network_options(parser: argparse.ArgumentParser, *, teacher: bool = False) -> None:
    """Add which float network to start from; with `teacher`, also to learn from it."""
    group = parser.add_argument_group("network")
    group.add_argument("--model", required=True, help="timm architecture, for example resnet18")
    add_model_arguments(group)
    group.add_argument(
        "--input-size",
        type=whole_number(1, LARGEST_INPUT),
        help="height and width in pixels; what belongs to the weights if not given: their config.json says, or timm",
    )
    group.add_argument("--weights", default="pretrained" if teacher else None, help=WEIGHTS_HELP)
    if teacher:
        _add_teacher_options(group)
    pictures = parser.add_argument_group("how pictures are prepared; what belongs to the weights if not given")
    for name, what, kind in (("--mean", "mean", share), ("--std", "standard deviation", share_from_hundredth)):
        pictures.add_argument(name, type=kind, nargs=3, metavar="X", help=f"{what} of each channel, for pixels in 0..1")
    pictures.add_argument("--crop-pct", type=share_from_hundredth, help="share of the shorter side that the crop keeps")
    pictures.add_argument("--crop-mode", choices=CROP_MODES, help="squash bends pictures square, border pads them")
    pictures.add_argument("--interpolation", choices=INTERPOLATIONS, help="of the scaling")


def add_entry_option(group: argparse.ArgumentParser | argparse._ArgumentGroup, *, required: bool = True) -> None:
    """Add which entry of the zoo."""
    group.add_argument("--model", required=required, help="entry: resnet18, local-dir:out/my-joint, hf-hub:owner/name")


def add_policy_options(parser: argparse.ArgumentParser, *, teacher: bool = False, required: bool = True) -> None:
    """Add which entry of the zoo, and the budget or policy; with `teacher`, also a float network to learn from."""
    group = parser.add_argument_group("network and budget")
    add_entry_option(group, required=required)
    for kind in KINDS:
        group.add_argument(kind.flag, **kind.option)
    group.add_argument("--policy", type=Path, help="policy.json, instead of a budget")
    if teacher:
        group.add_argument("--weights", help=FLOAT_HELP)
        _add_teacher_options(group)


def add_data_options(
    parser: argparse.ArgumentParser, *, labels: bool = False, trains: bool = True, validates: bool = True
) -> None:
    """Add the data set and the device.

    Args:
        labels: whether pictures without labels are of no use: `--unlabelled` is then answered, and not offered.
        trains: False for a command that measures alone, in float32.
        validates: False for a command that reads training pictures only.
    """
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        help="folder with train/ and val/, or data set name of timm: torch/cifar10, hfds/owner/name, wds/name; its "
        "folders may be some of the network's classes",
    )
    data.add_argument(
        "--unlabelled",
        nargs="+",
        default=(),
        metavar="FOLDER",
        help=argparse.SUPPRESS if labels else _UNLABELLED_HELP,
    )
    data.add_argument("--data-root", help="folder of a torch/ or wds/ data set, cache folder of a hfds/ one")
    data.add_argument("--train-split", default="train", help="folder or split of the training images")
    if validates:
        data.add_argument("--val-split", default="val", help="folder or split of the validation images")
        data.add_argument(
            "--batch-size",
            type=whole_number(1, LARGEST_BATCH),
            default=128 if trains else VALIDATION_BATCH,
            help="images per process and step" if trains else "images that are measured together",
        )
    else:
        parser.set_defaults(val_split="val", batch_size=VALIDATION_BATCH)
    device = parser.add_argument_group("device")
    device.add_argument(
        "--workers",
        type=whole_number(0, MOST_WORKERS),
        default=usual_workers(),
        help=f"processes that decode images, at most {MOST_WORKERS}; 0 decodes in the main one",
    )
    device.add_argument(
        "--threads",
        type=whole_number(1, MOST_THREADS),
        help=f"CPU threads, at most {MOST_THREADS}; if not given, the cores that this process may use, "
        "divided among those of one launcher",
    )
    device.add_argument("--seed", type=seed, default=0, help=f"of every random choice, 0 to {LARGEST_SEED}")
    if trains:
        _add_computing_options(data, device)


def _add_computing_options(data: argparse._ArgumentGroup, device: argparse._ArgumentGroup) -> None:
    """Add how training images are kept, and how a training computes."""
    data.add_argument(
        "--cache-images",
        action=SWITCH,
        default=False,
        help="decode the training images once, into at most half the free memory",
    )
    device.add_argument("--mixed-precision", choices=("no", "bf16"), default="no", help=BF16_HELP)
    device.add_argument(
        "--float64",
        action=SWITCH,
        default=False,
        help="compute in float64: several times slower, and the same result for any number of processes",
    )
    device.add_argument("--channels-last", action=SWITCH, default=False, help="memory format of images and weights")


def add_push_options(parser: argparse.ArgumentParser, *, name: str = "--push-to-hub") -> None:
    """Add where the result is published."""
    group = parser.add_argument_group("Hub")
    group.add_argument(name, metavar="OWNER/NAME", help="repository that the result is published in; none if not given")
    group.add_argument(
        "--private", action="store_true", help="create the repository as a private one; one that is public is refused"
    )
    group.add_argument("--license", help=LICENSE_HELP)


def _add_teacher_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--teacher", help="network to learn from, named like --weights; --weights if not given")
    group.add_argument(
        "--distill",
        type=share,
        help="share of the loss that is KL to the teacher, 0..1; 0 if not given, and all of it with --unlabelled",
    )
