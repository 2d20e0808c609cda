"""Command line options that several scripts share, and how a run remembers them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def parser_of(description: str, *, epochs: int, learning_rate: float) -> argparse.ArgumentParser:
    """Return a parser with the options that every training script takes.

    Args:
        epochs, learning_rate: defaults of this script.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    add_model_options(parser)
    schedule = parser.add_argument_group("schedule")
    schedule.add_argument("--epochs", type=positive(int), default=epochs, help="passes over the training images")
    schedule.add_argument("--max-steps", type=positive(int), help="stop after this many optimizer steps")
    schedule.add_argument("--lr", type=positive(float), default=learning_rate, help="peak learning rate")
    schedule.add_argument("--warmup-epochs", type=float, default=0.0, help="epochs of linear warm-up")
    schedule.add_argument("--momentum", type=float, default=0.9, help="SGD momentum")
    schedule.add_argument("--weight-decay", type=float, default=2.5e-5, help="not on step sizes, BatchNorm and biases")
    schedule.add_argument("--smoothing", type=float, default=0.1, help="label smoothing, 0..1")
    schedule.add_argument("--clip-value", type=positive(float), default=1.0, help="largest gradient entry")
    augment = parser.add_argument_group("augmentation")
    augment.add_argument("--crop-scale", type=float, nargs=2, default=(0.35, 1.0), help="area of the random crop, 0..1")
    augment.add_argument("--color-jitter", type=float, default=0.0, help="strength of the color jitter")
    augment.add_argument("--auto-augment", help="timm's policy string, for example rand-m7-mstd0.5")
    augment.add_argument("--data-fraction", type=float, default=1.0, help="share of the training images used, 0..1")
    run = parser.add_argument_group("run")
    run.add_argument("--output", type=Path, required=True, help="folder for the results")
    run.add_argument("--resume", action="store_true", help="continue the run in --output")
    run.add_argument("--save-interval", type=positive(int), default=200, help="optimizer steps between two saved states")
    return parser


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the network, the data and the device."""
    model = parser.add_argument_group("network and data")
    model.add_argument("--model", required=True, help="timm architecture, for example resnet18")
    model.add_argument("--data", required=True, help="folder with train/ and val/, or timm data set name (torch/cifar10)")
    model.add_argument("--data-root", help="where a named data set lies or is downloaded to")
    model.add_argument("--input-size", type=positive(int), default=224, help="height and width in pixels")
    model.add_argument("--batch-size", type=positive(int), default=128, help="images per process and step")
    model.add_argument("--class-names", type=Path, help="JSON file of {class folder: name}")
    device = parser.add_argument_group("device")
    device.add_argument("--workers", type=int, default=2, help="processes that decode images; 0 decodes in the main one")
    device.add_argument("--threads", type=positive(int), help="CPU threads; all cores by default")
    device.add_argument("--mixed-precision", choices=("no", "bf16", "fp16"), default="no", help="bf16 blurs step gradients")
    device.add_argument("--channels-last", action="store_true", help="memory format of images and weights")
    device.add_argument("--seed", type=int, default=0, help="of every random choice")


def add_float_options(parser: argparse.ArgumentParser, *, distill: float) -> None:
    """Add where the float network comes from and how much is learned from it."""
    group = parser.add_argument_group("float network")
    group.add_argument("--weights", default="pretrained", help="safetensors file, or `pretrained` for timm's own")
    group.add_argument("--distill", type=float, default=distill, help="share of the loss that is KL to the float network, 0..1")


def positive(number: type) -> type:
    """Return an argparse type for numbers above 0."""

    def parse(text: str):
        value = number(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parse.__name__ = number.__name__
    return parse


def options_record(options: argparse.Namespace) -> dict[str, object]:
    """Return the options as JSON can hold them."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}


def command_line(argv: Sequence[str] | None) -> str:
    """Return the command that started this script."""
    return " ".join(["accelerate launch", f"training/{Path(sys.argv[0]).name}", *(sys.argv[1:] if argv is None else argv)])
