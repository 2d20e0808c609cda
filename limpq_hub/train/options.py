"""Command line options that several scripts share, and how a run remembers them."""

from __future__ import annotations

import argparse
import math
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from limpq_hub.errors import LimpqError
from limpq_hub.plan.constraints import KINDS
from limpq_hub.train.loop.interrupt import stop_at_once
from limpq_hub.train.recipe import add_recipe_option, with_recipe

# Those of timm that a saved state holds entirely; others keep figures where a state does not look.
OPTIMIZERS = ("momentum", "sgd", "adam", "adamw", "nadamw", "radamw", "adamax", "rmsproptf", "lion", "madgrad")
BF16_HELP = (
    "bf16 is faster, but turns the gradients of the step sizes: cosine to float32 0.56 to 0.90 on the bundled "
    "ResNet-18 (tests/benchmarks/step_gradients.py)"
)


def parser_of(description: str) -> argparse.ArgumentParser:
    """Return a parser that shows defaults and takes whole option names only."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )


def parse(parser: argparse.ArgumentParser, script: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a script, those of its `--recipe` among them.

    Args:
        script: name of the script without .py.
        argv: what was typed after the script's name; the process's own if None.
    """
    add_recipe_option(parser)
    return parser.parse_args(with_recipe(parser, script, sys.argv[1:] if argv is None else argv))


def add_network_options(parser: argparse.ArgumentParser, *, distill: float | None = None) -> None:
    """Add which float network to start from; with `distill`, also as a teacher for that share of the loss."""
    group = parser.add_argument_group("network")
    group.add_argument("--model", required=True, help="timm architecture, for example resnet18")
    group.add_argument("--input-size", type=positive(int), default=224, help="height and width in pixels")
    if distill is not None:
        group.add_argument(
            "--weights", default="pretrained", help="safetensors file of the float network, or timm's own"
        )
        _add_teacher_options(group, distill)


def add_entry_options(parser: argparse.ArgumentParser, *, distill: float | None = None, required: bool = True) -> None:
    """Add which entry of the zoo, and the budget or policy; with `distill`, also a float teacher."""
    group = parser.add_argument_group("network and budget")
    group.add_argument("--model", required=required, help="entry: resnet18, local-dir:out/my-joint, hf-hub:owner/name")
    for kind in KINDS:
        group.add_argument(kind.flag, **kind.option)
    group.add_argument("--policy", type=Path, help="policy.json, instead of a budget")
    if distill is not None:
        group.add_argument("--weights", help="safetensors file of the float network; that of the entry if not given")
        _add_teacher_options(group, distill)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the data set and the device."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        required=True,
        help="folder with train/ and val/, or data set name of timm: torch/cifar10, hfds/owner/name, wds/name",
    )
    data.add_argument("--data-root", help="folder of a torch/ or wds/ data set, cache folder of a hfds/ one")
    data.add_argument("--train-split", default="train", help="folder or split of the training images")
    data.add_argument("--val-split", default="val", help="folder or split of the validation images")
    data.add_argument(
        "--cache-images", action="store_true", help="decode the training images once, into at most half the free memory"
    )
    data.add_argument("--batch-size", type=positive(int), default=128, help="images per process and step")
    device = parser.add_argument_group("device")
    device.add_argument(
        "--workers", type=int, default=2, help="processes that decode images; 0 decodes in the main one"
    )
    device.add_argument("--threads", type=positive(int), help="CPU threads; all cores if not given")
    device.add_argument("--mixed-precision", choices=("no", "bf16"), default="no", help=BF16_HELP)
    device.add_argument(
        "--float64",
        action="store_true",
        help="compute in float64: several times slower, and the same result for any number of processes",
    )
    device.add_argument("--channels-last", action="store_true", help="memory format of images and weights")
    device.add_argument("--seed", type=int, default=0, help="of every random choice")


def add_training_options(
    parser: argparse.ArgumentParser, *, epochs: int, lr: float, weight_decay: float, validates: bool = True
) -> None:
    """Add the schedule, the augmentation and the output folder, with this script's defaults.

    Args:
        validates: whether the script can validate between epochs.
    """
    schedule = parser.add_argument_group("schedule")
    schedule.add_argument("--epochs", type=positive(int), default=epochs, help="passes over the training images")
    schedule.add_argument("--max-steps", type=positive(int), help="stop after this many optimizer steps")
    schedule.add_argument(
        "--gradient-accumulation", type=positive(int), default=1, help="batches per process and optimizer step"
    )
    schedule.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="momentum", help="timm's name; momentum is SGD without Nesterov"
    )
    schedule.add_argument("--lr", type=positive(float), default=lr, help="peak learning rate of the cosine")
    schedule.add_argument("--warmup-epochs", type=float, default=0.0, help="epochs of linear warm-up")
    schedule.add_argument("--momentum", type=float, default=0.9, help="SGD momentum")
    schedule.add_argument("--weight-decay", type=float, default=weight_decay, help="not on steps, BatchNorm and biases")
    schedule.add_argument("--smoothing", type=share, default=0.1, help="label smoothing, 0..1")
    schedule.add_argument("--clip-value", type=positive(float), default=1.0, help="largest gradient entry")
    schedule.add_argument("--ema", type=share, help="decay of a moving average of the weights, which is what is kept")
    parser.set_defaults(step_optimizer=None, step_lr=None)
    augment = parser.add_argument_group("augmentation")
    augment.add_argument("--crop-scale", type=float, nargs=2, default=(0.35, 1.0), help="area of the random crop, 0..1")
    augment.add_argument("--color-jitter", type=float, default=0.0, help="strength of the color jitter")
    augment.add_argument("--auto-augment", help="timm's policy string, for example rand-m7-mstd0.5")
    augment.add_argument("--data-fraction", type=share, default=1.0, help="share of the training images used, 0..1")
    run = parser.add_argument_group("run")
    run.add_argument("--output", type=Path, required=True, help="folder for the results")
    run.add_argument("--resume", action="store_true", help="continue the run in --output")
    parser.set_defaults(validate_epochs=None)
    if validates:
        run.add_argument(
            "--validate-epochs", type=positive(int), help="epochs between two validations; only at the end if not given"
        )
    run.add_argument(
        "--save-interval", type=positive(int), default=200, help="optimizer steps between two saved states"
    )


def add_quantizer_options(parser: argparse.ArgumentParser) -> None:
    """Add how the quantizers run and how their step sizes are trained; after `add_training_options`."""
    group = parser.add_argument_group("quantizer")
    group.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compile the quantizer where a compiler works (20 s at the first start), else say so and go on without",
    )
    group.add_argument(
        "--step-optimizer",
        choices=OPTIMIZERS,
        help="timm's name of an optimizer of their own for the step sizes; --optimizer if only --step-lr is given",
    )
    group.add_argument(
        "--step-lr", type=positive(float), help="peak learning rate of the step sizes; --lr if not given"
    )


def positive(number: Callable[[str], float]) -> Callable[[str], float]:
    """Return an argparse type for numbers above 0."""

    def parse(text: str) -> float:
        value = number(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parse.__name__ = number.__name__  # argparse shows it in its messages
    return parse


def at_least_zero(text: str) -> float:
    """Return a finite number of at least 0, as an argparse type."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def share(text: str) -> float:
    """Return a number from 0 to 1, as an argparse type."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def count(text: str) -> int:
    """Return a whole number of at least 0, as an argparse type."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def run(main: Callable[[], None]) -> None:
    """Run a script: an error that was raised on purpose is one line on stderr, and its exit code; so is SIGTERM."""
    signal.signal(signal.SIGTERM, stop_at_once)
    try:
        main()
    except (LimpqError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 3))


def options_record(options: argparse.Namespace) -> dict[str, object]:
    """Return the options as JSON holds them."""

    def plain(value: object) -> object:
        if isinstance(value, Path):
            return str(value)
        return list(value) if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in vars(options).items()}


def command_line(argv: Sequence[str] | None, launcher: str = "accelerate launch") -> str:
    """Return the command that gives this script's result, whether or not it was resumed."""
    arguments = [argument for argument in (sys.argv[1:] if argv is None else argv) if argument != "--resume"]
    return f"{launcher} training/{Path(sys.argv[0]).name} {shlex.join(arguments)}"


def _add_teacher_options(group: argparse._ArgumentGroup, distill: float) -> None:
    group.add_argument("--teacher", help="safetensors file of the network to learn from; --weights if not given")
    group.add_argument("--distill", type=share, default=distill, help="share of the loss that is KL to the teacher")
