"""The two figures of a comparison: policies of equal BitOps side by side, and the objective against KL and top-1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limpq_hub.plots import save_figure
from limpq_hub.train.measure.evaluate import ACCURACY_LABELS, accuracy_of

_STAGES = {
    "calibrated": "without training",
    "joint": "as jointly trained",
    "finetuned": "after the same fine-tuning",
}


def save_comparison(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a PNG with a chart per budget and stage: top-1 of each policy, or agreement, with two standard errors.

    Args:
        rows: the rows of a comparison: "budget", "contender", and figures under "joint", and perhaps
            "calibrated" and "finetuned".
    """
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    stages = [stage for stage in _STAGES if stage in rows[0]]
    figure = Figure(figsize=(5.2 * len(stages) + 1.5, 3.1 * len(budgets) + 0.6), layout="constrained")
    charts = figure.subplots(len(budgets), len(stages), squeeze=False, sharey="row")
    for of_budget, budget in zip(charts, budgets, strict=True):
        chosen = [row for row in rows if row["budget"] == budget]
        for axes, stage in zip(of_budget, stages, strict=True):
            _draw_policies(axes, [(row["contender"], row[stage]) for row in chosen])
            axes.set_title(f"budget {budget}: {_STAGES[stage]}", fontsize=10)
    for axes in charts[-1]:
        axes.set_xlabel(f"{ACCURACY_LABELS[accuracy_of(rows[0][stages[0]])]}, ± 2 standard errors")
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


def _draw_policies(axes: Axes, figures: Sequence[tuple[str, Mapping[str, float]]]) -> None:
    places = range(len(figures))[::-1]
    for place, (contender, of_policy) in zip(places, figures, strict=True):
        color = "tab:red" if contender == "reversed" else "tab:blue" if contender == "learned" else "0.45"
        key = accuracy_of(of_policy)
        error = 2 * of_policy[f"{key}_standard_error"]
        axes.errorbar(of_policy[key], place, xerr=error, fmt="o", color=color, capsize=3)
        axes.annotate(f"{of_policy[key]:.2f}", (of_policy[key], place), (0, 5), textcoords="offset points",
                      ha="center", fontsize=8, color=color)  # fmt: skip
    axes.set_yticks(list(places), [contender for contender, _ in figures])
    axes.margins(y=0.12)
    axes.grid(axis="x", alpha=0.3)
