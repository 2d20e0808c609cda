"""The picture of the indicators: learned step sizes of every layer at every bit-width."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limpq_hub.plan.indicators import Indicators
from limpq_hub.plots import save_figure


def save_curves(path: Path, indicators: Indicators) -> None:
    """Write a PNG with two charts, weights above and activations below: a curve per bit-width over the layers.

    Source: LIMPQ, the figures of the learned importance indicators.
    """
    layers = list(indicators.weight_steps)
    figure = Figure(figsize=(max(8.0, 0.28 * len(layers) + 3), 8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _draw(above, indicators.weight_steps, "step size of the weights")
    _draw(below, indicators.activation_steps, "step size of the activations")
    below.set_xticks(range(len(layers)), layers, rotation=90, fontsize=8)
    below.set_xlabel("layer, in the order of execution")
    size = indicators.input_size
    above.set_title(
        f"Learned step sizes of {indicators.model} at {size}x{size}: large at few bits = a layer that suffers"
    )
    figure.legend(*above.get_legend_handles_labels(), title="bits", loc="outside right upper")
    save_figure(figure, path)


def _draw(axes: Axes, steps: Mapping[str, Mapping[int, float]], label: str) -> None:
    candidates = sorted({bits for of_layer in steps.values() for bits in of_layer}, reverse=True)
    colors = colormaps["viridis"].resampled(len(candidates))
    for number, bits in enumerate(candidates):
        layers = [place for place, of_layer in enumerate(steps.values()) if bits in of_layer]
        sizes = [of_layer[bits] for of_layer in steps.values() if bits in of_layer]
        axes.plot(layers, sizes, marker="o", markersize=3, linewidth=1.2, color=colors(number), label=str(bits))
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.margins(x=0.01)
