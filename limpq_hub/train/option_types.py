"""Types of options: what a number or a file on the command line must be. Loads no torch."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limpq_hub.errors import quoted
from limpq_hub.plan.input_file import kind_of
from limpq_hub.plan.output_file import check_names, is_replaced
from limpq_hub.plan.quantities import decimal_number
from limpq_hub.train.usable_cores import usable_cores
from limpq_hub.zoo.model_args import RefusedArgument, typed_argument

# More than any machine has: what is mistyped shall not start thousands of processes.
MOST_THREADS, MOST_WORKERS = 1024, 256
LARGEST_BATCH, LARGEST_INPUT = 65_536, 4096
# Every source of random numbers takes it.
LARGEST_SEED = 2**32 - 1
# Calibration pictures are held in memory.
MOST_CALIBRATION_IMAGES = 65_536
LICENSE_HELP = (
    "identifier of the licence of the weights; what the card states that is there already, or beside the entry, if not "
    "given"
)
_USUAL_WORKERS = 2
_MOST = 10**9
_LARGEST_NUMBER = 1e6
_NUMBER = r"\d{1,3}(\.\d{1,6})?"
# timm's grammar, without what it skips in silence.
_AUGMENTATION = re.compile(
    rf"(originalr?|v0r?|3a)(-mstd{_NUMBER})?"
    rf"|rand(-(m\d\d?|n[1-9]|p(0(\.\d{{1,6}})?|1)|mstd{_NUMBER}|mmax[1-9]\d?|inc[01]|t(weights|3aw?)))*"
    rf"|augmix(-(m\d\d?|w[1-9]|d[1-9]|a[1-9]|b[01]|mstd{_NUMBER}))*",
    re.ASCII,
)


def whole_number(at_least: int = 1, at_most: int = _MOST) -> Callable[[str], int]:
    """Return an argparse type for whole numbers from `at_least` to `at_most`."""

    def parse(text: str) -> int:
        written = text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST * 10))
        if not written or not at_least <= int(text) <= at_most:
            limits = f"at least {at_least} and at most {at_most}"
            raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number of {limits}")
        return int(text)

    return parse


seed = whole_number(0, LARGEST_SEED)


def usual_workers() -> int:
    """Return how many processes decode pictures if nothing is said: no more than the cores that this one may use."""
    return min(_USUAL_WORKERS, usable_cores())


def number_type(allowed: Callable[[float], bool], told: str) -> Callable[[str], float]:
    """Return an argparse type for numbers, named as argparse prints it: invalid number value.

    Args:
        allowed: whether a number may be given.
        told: which numbers may, as it stands behind "is not".
    """

    def number(text: str) -> float:
        value = decimal_number(text)
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"{text} is not {told}")
        return value

    return number


def up_to(most: float) -> Callable[[str], float]:
    """Return an argparse type for numbers from 0 to `most`."""
    return number_type(lambda value: 0 <= value <= most, f"a number of at least 0 and at most {most:g}")


at_least_zero = up_to(_LARGEST_NUMBER)
positive = number_type(lambda value: 0 < value <= _LARGEST_NUMBER, f"above 0 and at most {_LARGEST_NUMBER:g}")
share = number_type(lambda value: 0 <= value <= 1, "from 0 to 1")
share_above_zero = number_type(lambda value: 0 < value <= 1, "above 0 and at most 1")
# Of which a network still sees something: a crop, or a standard deviation.
share_from_hundredth = number_type(lambda value: 0.01 <= value <= 1, "from 0.01 to 1")
# At 1 nothing would be learned.
below_one = number_type(lambda value: 0 <= value < 1, "at least 0 and below 1")


def output_file(example: str, *, ending: str = "") -> Callable[[str], Path]:
    """Return an argparse type for a file to write: what cannot be one is refused before any work.

    Args:
        example: the name of such a file, which is advised.
        ending: of the name of a file, where what reads it goes by that.
    """

    def parse(text: str) -> Path:
        """Return the path, where a file, a pipe or a device can be written."""
        path = Path(text)
        try:
            replaced = is_replaced(path)
            check_names(path)
        except (OSError, ValueError) as error:  # a name that no file can have, or a folder that is closed to us
            why = getattr(error, "strerror", None) or error
            raise argparse.ArgumentTypeError(f"{quoted(text)} cannot be written ({why}); name another file") from None
        mode = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            advised = shlex.quote(str(path / example)) if stat.S_ISDIR(mode) else example
            raise argparse.ArgumentTypeError(
                f"{str(path)!r} is {kind_of(mode)}, and a file is to be written; name one, for example {advised}"
            )
        if replaced and not path.name.endswith(ending):
            raise argparse.ArgumentTypeError(
                f"{str(path)!r} does not end in {ending}, and the commands that take it go by that; "
                f"for example {shlex.quote(str(path.with_name(example)))}"
            )
        return path

    return parse


def augmentation_policy(text: str) -> str | None:
    """Return a policy of timm's automatic augmentations, or None for "none", as an argparse type."""
    if text == "none":
        return None
    if not _AUGMENTATION.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is no policy of timm's: write for example rand-m7-mstd0.5, augmix-m3-w3, original or none"
        )
    return text


class AscendingShares(argparse.Action):
    """An option of two shares, the first above 0 and not above the second."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep the two shares."""
        least, most = (float(value) for value in values or (0, 0))
        if not 0 < least <= most:
            raise argparse.ArgumentError(self, f"{least} {most}: the first must be above 0, and not above the second")
        setattr(namespace, self.dest, [least, most])


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
