"""Types of options: what a number or an argument of a network must be on the command line. Loads no torch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

from limpq_hub.zoo.model_args import RefusedArgument, typed_argument


def whole_number(at_least: int = 1) -> Callable[[str], int]:
    """Return an argparse type for whole numbers of at least so many."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < at_least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {at_least}")
        return int(text)

    return parse


def positive(text: str) -> float:
    """Return a number above 0, as an argparse type."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


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


def part(text: str) -> float:
    """Return a number from 0.01 to 1, as an argparse type."""
    value = float(text)
    if not 0.01 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.01 to 1")
    return value


class ModelArguments(argparse.Action):
    """An option whose words are arguments of `timm.create_model`: NAME=VALUE each, kept as a dictionary."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep what was typed; a name that stands twice has its last value."""
        try:
            arguments = dict(map(typed_argument, [values] if isinstance(values, str) else values or ()))
        except RefusedArgument as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, arguments)


def add_model_arguments(group: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add `--model-args`."""
    group.add_argument(
        "--model-args",
        action=ModelArguments,
        nargs="+",
        metavar="NAME=VALUE",
        help="arguments of timm.create_model, of the list in limpq_hub/zoo/model_args.py: pad_type=same",
    )
