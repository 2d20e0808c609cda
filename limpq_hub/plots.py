"""Figures: the bits of every layer, and the best policy at each budget. matplotlib, no torch."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from limpq_hub.errors import OutputError, quoted
from limpq_hub.plan.importance import IMPORTANCE_WORDS
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.quantities import format_bitops

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIXES = ("jpg", "pdf", "png", "svg", "webp")
_DOTS_PER_INCH = 120
# Of fewer dots per inch the names of the layers cannot be read.
_FEWEST_DOTS_PER_INCH = 60
# How wide or high a picture of a format can be, and for PNG what is drawn; the others have no pixels.
_MOST_PIXELS = {"jpg": 65_500, "png": 65_535, "webp": 16_383}
_WEIGHTS, _ACTIVATIONS, _MEASURED = "#3366aa", "#e08a3c", "#2a8f5c"


def plot_policy(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a figure of the weight and activation bits of each layer above its MACs; the suffix tells the format.

    Raises:
        OutputError: no figure can be written in the format of this suffix, or none of so many layers.
        OSError: the file cannot be written.
    """
    check_figure_path(path)
    names, costs = list(plan.policy.layers), plan.costs
    figure = _figure(max(7.0, 0.32 * len(names) + 2), 5.5)
    bits, macs = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    positions = range(len(names))
    layers = plan.policy.layers.values()
    bits.bar([index - 0.2 for index in positions], [layer.weight for layer in layers], 0.4, color=_WEIGHTS)
    bits.bar([index + 0.2 for index in positions], [layer.activation for layer in layers], 0.4, color=_ACTIVATIONS)
    bits.legend(["weights", "activations"], ncols=2, loc="upper center")
    bits.set_ylabel("bits")
    bits.set_ylim(0, 9.5)
    bits.set_title(f"{plan.policy.model}: {format_bitops(plan.bitops)} BitOps, {plan.compression:.1f}x smaller weights")
    macs.bar(positions, [costs[name].macs / 1e6 for name in names], 0.6, color="0.6")
    macs.set_ylabel("MACs, millions")
    macs.set_xticks(list(positions), names, rotation=90, fontsize=8)
    macs.set_xlabel("layer, in the order of execution")
    macs.margins(x=0.01)
    for axes in (bits, macs):
        axes.grid(axis="y", alpha=0.3)
    save_figure(figure, path)


def plot_frontier(
    plans: Sequence[Plan], path: str | os.PathLike[str], measured: Sequence[tuple[int, float, float | None]] = ()
) -> None:
    """Write a figure of the objective over BitOps, and of top-1 where it was measured.

    Args:
        plans: BitOps ascending.
        path: the suffix tells the format.
        measured: (BitOps, top-1 in percent, its standard error or None) of the joint weights.

    Raises:
        OutputError: there is no plan, or no figure can be written in the format of this suffix.
        OSError: the file cannot be written.
    """
    check_figure_path(path)
    if not plans:
        raise OutputError("there is no plan to draw; give at least one")
    figure = _figure(8.0, 4.5)
    axes = figure.subplots()
    axes.plot([plan.bitops / 1e9 for plan in plans], [plan.objective for plan in plans], ".-", color=_WEIGHTS)
    axes.set_xlabel("BitOps per image, G")
    words = IMPORTANCE_WORDS[plans[0].importance]
    axes.set_ylabel(f"objective of the search: {words} (lower is better)", color=_WEIGHTS)
    axes.grid(alpha=0.3)
    axes.set_title(f"{plans[0].policy.model}: the best policy at each of {len(plans)} budgets")
    if measured:
        top1_axes = axes.twinx()
        bitops, top1, errors = zip(*sorted(measured, key=lambda point: point[:2]), strict=True)
        gigabitops = [value / 1e9 for value in bitops]
        top1_axes.plot(gigabitops, top1, "s--", color=_MEASURED, markersize=4)
        label = "top-1 of the joint weights, percent"
        if any(error is not None for error in errors):
            bars = [error or 0.0 for error in errors]
            top1_axes.errorbar(gigabitops, top1, yerr=bars, fmt="none", color=_MEASURED, capsize=3)
            label += ", +/- one standard error"
        top1_axes.set_ylabel(label, color=_MEASURED)
    save_figure(figure, path)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def check_figure_path(path: str | os.PathLike[str]) -> None:
    """Raise `OutputError` unless a figure can be written in the format that the suffix of `path` names."""
    if Path(path).suffix.lower().removeprefix(".") not in _SUFFIXES:
        raise OutputError(
            f"{quoted(str(path))}: a figure is written as one of {', '.join(_SUFFIXES)}; use for example .png"
        )


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure whole or not at all, as `write_bytes` does; the suffix tells the format.

    Raises:
        OutputError: the figure is larger than a picture of this format can be.
        OSError: the file cannot be written.
    """
    content = io.BytesIO()
    suffix = Path(path).suffix.lower().removeprefix(".")
    most_pixels = _MOST_PIXELS.get(suffix, sys.maxsize)
    dots_per_inch = min(_DOTS_PER_INCH, int(most_pixels / max(figure.get_size_inches())))
    if dots_per_inch < _FEWEST_DOTS_PER_INCH:
        raise OutputError(
            f"{quoted(str(path))}: so large a figure cannot be read in the {most_pixels:,} pixels that a .{suffix} has "
            "at most; use .svg or .pdf"
        )
    figure.savefig(content, format=suffix, dpi=dots_per_inch)
    write_bytes(path, content.getvalue())
