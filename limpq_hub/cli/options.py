"""Options that several commands share: the arguments of `search`."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from limpq_hub.errors import PolicyError, quoted
from limpq_hub.plan.budget import limit_words, split_limits, typed_limits
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.deadline import LONGEST_TIME_LIMIT_S
from limpq_hub.plan.first_budget import first_budget
from limpq_hub.plan.importance import APART, Importance
from limpq_hub.plan.quantities import decimal_number
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.option_types import whole_number

if TYPE_CHECKING:
    from limpq_hub.plan.indicators import Indicators
    from limpq_hub.plan.plan import Plan
    from limpq_hub.zoo.entry import Entry

# Pixels, classes, or lines to show.
count = whole_number(1, 1_000_000)
MODEL = "resnet18, hf-hub:owner/name, or local-dir:path"
MODEL_OR_FILE = f"{MODEL}; or an indicators.json"
WORDS = "what objective, joint, alpha and other words mean: python -m pydoc limpq_hub"

_OF_SOLVING = ("time_limit_s", "allow_gap")
_CHOICES = ("alpha", "counting", "importance", "apart", "candidates", "pin", "exclude", "tie", *_OF_SOLVING)


def add_budget_options(parser: argparse.ArgumentParser, *, bitops: bool = True) -> None:
    """Add the constraints of a search, BitOps among them or not."""
    group = parser.add_argument_group("budget, one or more" if bitops else "what every policy must meet as well")
    for kind in KINDS:
        if bitops or kind.name != "bitops":
            group.add_argument(kind.flag, **kind.option)


def add_objective_options(parser: argparse.ArgumentParser) -> None:
    """Add what changes objective and counting."""
    parser.add_argument(
        "--alpha",
        type=_number,
        help="factor of the weight importance in the objective, at least 0, where learned steps are added up; the "
        "entry's own if not given",
    )
    parser.add_argument("--counting", choices=("exact", "limpq"), help="how MACs are counted; exact if not given")


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add every argument of `load` that says which network is meant: a search or a policy, and whose weights."""
    add_search_options(parser)
    parser.add_argument("--policy", type=Path, help="policy.json, instead of a budget")
    parser.add_argument(
        "--weights", choices=("auto", "finetuned", "joint"), default="auto", help="which weights to load"
    )


def add_search_options(parser: argparse.ArgumentParser, *, bitops: bool = True) -> None:
    """Add every argument of `search`, BitOps among them or not."""
    add_budget_options(parser, bitops=bitops)
    add_objective_options(parser)
    choice = parser.add_argument_group("search")
    choice.add_argument(
        "--importance",
        choices=get_args(Importance),
        help="what the objective adds up: learned step sizes, the root of the sum of squares of both of a layer, or "
        "what `limpq measure` found; else the entry's own",
    )
    choice.add_argument(
        "--apart",
        type=whole_number(0, max(APART)),
        metavar="BITS",
        help="how far apart the weight and the activation bits of a layer may be: 0 for equal bits; the entry's own "
        "with its own importance, else any",
    )
    choice.add_argument(
        "--candidates",
        type=_candidates,
        action="extend",
        nargs="+",
        metavar="BITS",
        help="bit-widths that may be used: 2 4 6; or by layers, 'layer4.*=4,6'; all that were learned if not given",
    )
    choice.add_argument(
        "--pin",
        type=_pin,
        action="append",
        metavar="PATTERN=W,A",
        help="fix layers: 'layer4.*=4,4'; of two patterns that match a layer the later one wins",
    )
    choice.add_argument(
        "--exclude", action="append", metavar="PATTERN", help="layers that keep their most bits, unless pinned"
    )
    choice.add_argument("--tie", action="append", nargs="+", metavar="PATTERN", help="layers that get the same bits")
    add_effort_options(choice)


def add_effort_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add how long a command may search, and what is near enough."""
    parser.add_argument(
        "--allow-gap",
        metavar="SHARE",
        help="where a proof takes long, take a policy this near to the bound: 0.01 or 1%%; it is told as unproven",
    )
    parser.add_argument(
        "--time-limit",
        dest="time_limit_s",
        type=_number,
        metavar="SECONDS",
        help=f"seconds until it gives up, above 0 and up to {LONGEST_TIME_LIMIT_S}; 10 for a search, 60 for several",
    )


def search_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was typed, as keyword arguments of `search`."""
    choices = {name: value for name in _CHOICES if (value := getattr(options, name, None)) is not None}
    if "pin" in choices:
        choices["pin"] = _pins(choices["pin"])
    if "candidates" in choices:
        choices["candidates"] = _by_pattern(choices["candidates"])
    return typed_limits(vars(options)) | choices


def found_request(options: argparse.Namespace) -> tuple[Entry, Plan]:
    """Return entry and plan for `load_entry`: what is wrong is told before torch is imported, which takes seconds.

    Looked up once, for on the Hub a name may mean another commit a moment later.
    """
    from limpq_hub.zoo.catalog import find_entry
    from limpq_hub.zoo.policy_request import plan_for

    entry = find_entry(options.model)
    return entry, plan_for(entry, options.policy, **search_arguments(options))


def typed_arguments(arguments: Mapping[str, Any]) -> list[str]:
    """Return the options that `search_arguments` reads as these arguments, word by word."""
    limits, choices = split_limits(arguments)
    return (limit_words(limits) or []) + [
        word for name, value in choices.items() for word in _typed_choice(name, value)
    ]


def next_command(
    model: str,
    arguments: Mapping[str, Any],
    policy: str | os.PathLike[str] | None = None,
    *,
    without_effect: Collection[str] = (),
    indicators: Indicators | None = None,
) -> str:
    """Return what to type after bits were chosen: why they are as they are; of a policy in a file, what runs it.

    Args:
        model: as it was typed.
        arguments: of `search`, that chose the bits.
        policy: file that holds them, instead.
        without_effect: keywords of limits that chose nothing; where there are no others, one that does is advised.
        indicators: those of the model, if they were read already.
    """
    if policy is None:
        nothing_chosen = without_effect and not split_limits(_in_effect(arguments, without_effect))[0]
        words = arguments_in_effect(model, arguments, without_effect, indicators)
        return shell_command("limpq", "search" if nothing_chosen else "explain", Path(model), *words)
    # An entry of the same name may lie in "out".
    folder = Path("out", f"{Path(model.rpartition(':')[2].partition('@')[0]).name}-exported")
    return shell_command("limpq", "export", Path(model), "--policy", Path(policy), "--output", folder)


def arguments_in_effect(
    model: str, arguments: Mapping[str, Any], without_effect: Collection[str], indicators: Indicators | None = None
) -> list[str]:
    """Return how a search is typed without the limits that chose nothing; with one that does, where none is left.

    Args:
        model: as it was typed.
        arguments: of `search`.
        without_effect: keywords of these limits.
        indicators: those of the model, if they were read already.
    """
    from limpq_hub.zoo.planning import indicators_of

    limits, choices = split_limits(_in_effect(arguments, without_effect))
    if limits or not without_effect:
        return typed_arguments(limits | choices)
    asked = {name: value for name, value in choices.items() if name not in _OF_SOLVING}
    return ["--bitops", first_budget(indicators or indicators_of(model), **asked), *typed_arguments(choices)]


def _in_effect(arguments: Mapping[str, Any], without_effect: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in without_effect}


def _typed_choice(name: str, value: Any) -> Iterator[str]:
    flag = {"time_limit_s": "--time-limit", "allow_gap": "--allow-gap"}.get(name, f"--{name}")
    if name == "pin":
        for pattern, bits in value.items():
            yield from (flag, f"{pattern}={bits[0]},{bits[1]}")
    elif name == "candidates":
        yield from (flag, *(f"{pattern}={','.join(map(str, widths))}" for pattern, widths in value.items()))
    elif name in ("exclude", "tie"):
        for patterns in value:
            yield from (flag, *([patterns] if name == "exclude" else patterns))
    else:
        yield from (flag, str(value))


def _number(text: str) -> float:
    """Return a number, as an argparse type; what it may be is told by what takes it."""
    try:
        return decimal_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _pin(text: str) -> tuple[str, tuple[int, int]]:
    pattern, _, bits = text.rpartition("=")
    weight, comma, activation = bits.partition(",")
    if not pattern or not comma or not re.fullmatch("[0-9]{1,2},[0-9]{1,2}", bits):
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN=W,A, for example 'layer4.*=4,4'")
    return pattern, (int(weight), int(activation))


def _pins(typed: list[tuple[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    """Return the bits of each pattern; of two patterns that match a layer the later one wins."""
    pins: dict[str, tuple[int, int]] = {}
    for pattern, bits in typed:
        before = pins.pop(pattern, bits)
        if before != bits:
            both = " and ".join(f"{weight},{activation}" for weight, activation in (before, bits))
            raise PolicyError(f"--pin {quoted(pattern)} is given twice, with {both}; leave one out")
        pins[pattern] = bits  # in the place where it was typed last
    return pins


def _candidates(text: str) -> tuple[str, tuple[int, ...]]:
    pattern, _, widths = text.rpartition("=")
    if not all(width.isascii() and width.isdecimal() and len(width) <= 2 for width in widths.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a bit-width nor PATTERN=BITS,BITS: 'layer4.*=4,6'")
    return pattern or "*", tuple(map(int, widths.split(",")))


def _by_pattern(typed: list[tuple[str, tuple[int, ...]]]) -> dict[str, list[int]]:
    """Return the bit-widths of each pattern, however often it was typed, in the place where it was typed last."""
    widths_of: dict[str, list[int]] = {}
    for pattern, widths in typed:
        widths_of[pattern] = [*widths_of.pop(pattern, []), *widths]
    # Of two patterns that match a layer, the later one wins: those of all layers come first.
    return dict(sorted(widths_of.items(), key=lambda item: item[0] != "*"))
