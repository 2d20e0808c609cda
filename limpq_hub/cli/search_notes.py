"""What the commands that search tell beside their answer: what was no choice, and what could have been asked."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from limpq_hub.cli.output import note, print_notes
from limpq_hub.plan.importance import IMPORTANCE_WORDS

if TYPE_CHECKING:
    from limpq_hub.plan.indicators import Indicators
    from limpq_hub.plan.plan import Plan

# How many outliers a note names.
_OUTLIERS_SHOWN = 3


def print_search_notes(plan: Plan, options: argparse.Namespace, indicators: Indicators) -> None:
    """Print to stderr what the user should know about a plan, and about the file that it was searched in."""
    _print_outliers(plan)
    _print_measured_pairs(options, indicators)
    print_notes(plan)


def _print_outliers(plan: Plan) -> None:
    """Say in one line which bits were no choice, however many they are."""
    if len(plan.excluded) > 1:
        listed = ", ".join(f"{one.bits}-bit {one.kind}s of {one.layer}" for one in plan.excluded[:_OUTLIERS_SHOWN])
        more = len(plan.excluded) - _OUTLIERS_SHOWN
        listed += f", and {more} more (--json names them)" if more > 0 else ""
        note(f"note: bits whose step is smaller than that of more bits are left out: {listed}")
    for outlier in plan.excluded if len(plan.excluded) == 1 else ():
        what = f"the step of {outlier.bits}-bit {outlier.kind}s is smaller than that of more bits"
        note(f"note: {outlier.layer}: {what}, so {outlier.bits} bits are left out")


def _print_measured_pairs(options: argparse.Namespace, indicators: Indicators) -> None:
    """Say where a file, such as that of a joint training, holds pairs that its search does not add up by itself."""
    from limpq_hub.zoo.planning import is_indicator_file

    could_ask = "importance" in options and options.importance is None
    if could_ask and indicators.divergences and indicators.objective != "measured" and is_indicator_file(options.model):
        added_up = IMPORTANCE_WORDS[indicators.objective]
        holds = f"{options.model} holds measured pairs too; the search added up its {added_up}"
        note(f"note: {holds}: --importance measured adds up the pairs")
