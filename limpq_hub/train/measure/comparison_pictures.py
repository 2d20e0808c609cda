"""The two figures of a comparison: policies of equal BitOps side by side, and the objective against KL and top-1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from limpq_hub.plots import save_figure
from limpq_hub.train.measure.evaluate import ACCURACY_LABELS, accuracy_of
from limpq_hub.train.measure.paired import Paired

_STAGES = {
    "calibrated": "without training",
    "joint": "as jointly trained",
    "finetuned": "after the same fine-tuning",
}
_VERDICTS = {"ahead": "tab:green", "level": "0.4", "behind": "tab:red"}
_FIRST = "tab:blue"


def save_comparison(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a PNG with a chart per budget and stage: the KL of each policy above that of the first one of its budget.

    The bars are two standard errors of the differences on the same images, the colours the verdicts; beside them stands
    the top-1 of each policy, or its agreement.

    Args:
        rows: the rows of a comparison: "budget", "contender", figures under "joint", and perhaps "calibrated" and
            "finetuned", and of all but the first of a budget the differences under "paired".
    """
    of_budgets: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        of_budgets.setdefault(row["budget"], []).append(row)
    stages = [stage for stage in _STAGES if stage in rows[0]]
    heights = [max(0.25 * len(chosen), 1.2) for chosen in of_budgets.values()]
    size = (5.2 * len(stages) + 1.5, sum(heights) + 0.8 * len(heights) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    charts = figure.subplots(
        len(of_budgets), len(stages), squeeze=False, sharey="row", gridspec_kw={"height_ratios": heights}
    )
    for of_budget, (budget, chosen) in zip(charts, of_budgets.items(), strict=True):
        for axes, stage in zip(of_budget, stages, strict=True):
            _draw_policies(axes, chosen, stage)
            axes.set_title(f"budget {budget}: {_STAGES[stage]}", fontsize=10)
    for axes in charts[-1]:
        axes.set_xlabel(f"KL above that of {rows[0]['contender']}, nats, ± 2 standard errors")
    verdicts = [Line2D([], [], color=color, marker="o", markersize=4) for color in _VERDICTS.values()]
    figure.legend(verdicts, _VERDICTS, loc="outside upper right", ncols=len(verdicts), fontsize=9, frameon=False)
    save_figure(figure, path)


def save_correlation(path: Path, correlations: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a PNG with a chart per set of random policies and figure: the objective against KL and top-1.

    Args:
        correlations: {name: {"kl", "top1" or "agreement": Spearman's coefficients, "points": a record per policy}}.
    """
    figure = Figure(figsize=(10.5, 3.8 * len(correlations)), layout="constrained")
    charts = figure.subplots(len(correlations), 2, squeeze=False)
    for of_name, (name, correlation) in zip(charts, correlations.items(), strict=True):
        accuracy = accuracy_of(correlation)
        labels = {"kl": "KL to the float network, nats", accuracy: ACCURACY_LABELS[accuracy]}
        for axes, (key, label) in zip(of_name, labels.items(), strict=True):
            points = correlation["points"]
            drawn = axes.scatter(
                [point["objective"] for point in points],
                [point[key] for point in points],
                c=[point["bitops"] / 1e9 for point in points],
                cmap=colormaps["viridis"],
                s=22,
            )
            axes.set_title(f"{len(points)} random policies {name}: Spearman {correlation[key]:.2f}", fontsize=10)
            axes.set_xlabel("objective of the search (lower is better)")
            axes.set_ylabel(label)
            axes.grid(alpha=0.3)
        figure.colorbar(drawn, ax=list(of_name), label="BitOps, G")
    save_figure(figure, path)


def _draw_policies(axes: Axes, rows: Sequence[Mapping[str, Any]], stage: str) -> None:
    places = range(len(rows))[::-1]
    key = accuracy_of(rows[0][stage])
    axes.axvline(0, color=_FIRST, linewidth=1)
    axes.text(1.02, 1, ACCURACY_LABELS[key], transform=axes.transAxes, fontsize=8, va="bottom")
    for place, row in zip(places, rows, strict=True):
        axes.text(1.02, place, f"{row[stage][key]:.2f}", transform=axes.get_yaxis_transform(), fontsize=8, va="center")
        if "paired" not in row:
            axes.plot(0, place, "o", markersize=4, color=_FIRST)
            continue
        difference: Paired = row["paired"][stage]
        axes.errorbar(
            difference["kl"],
            place,
            xerr=2 * difference["kl_standard_error"],
            fmt="o",
            markersize=4,
            color=_VERDICTS[difference["verdict"]],
            capsize=3,
        )
    axes.set_yticks(list(places), [row["contender"] for row in rows], fontsize=9)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(axis="x", alpha=0.3)
