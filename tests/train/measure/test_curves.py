"""The picture of the indicators: a file, with a curve per bit-width through the values of each layer."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.train.measure import curves
from limpq_hub.train.measure.curves import save_curves

# Execution order is neither alphabetical nor the order in which the steps are given below.
ORDER = ["stem", "layer.10", "layer.9", "a.conv", "head"]
WEIGHTS = {
    "a.conv": {4: 0.03, 3: 0.05, 2: 0.09},
    "layer.9": {4: 0.02, 3: 0.04, 2: 0.08},
    "layer.10": {4: 0.01, 2: 0.07},  # not a candidate at 3 bits
}
ACTIVATIONS = {name: {bits: 10 * step for bits, step in steps.items()} for name, steps in WEIGHTS.items()}


@pytest.fixture
def indicators() -> Indicators:
    costs = {
        name: LayerCost(1, 1, 1, 1, False, LayerBits(8, 8) if name in ("stem", "head") else None) for name in ORDER
    }
    return Indicators("tiny_net", 48, 10, costs, WEIGHTS, ACTIVATIONS)


@pytest.fixture
def figure(indicators, tmp_path, monkeypatch) -> Figure:
    figures = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: figures.append((figure, path)))
    save_curves(tmp_path / "curves.png", indicators)
    ((figure, path),) = figures
    assert path == tmp_path / "curves.png"
    return figure


def curves_of(axes) -> dict[str, list[tuple[float, float]]]:
    return {
        line.get_label(): [(int(x), float(y)) for x, y in zip(*line.get_data(), strict=True)]
        for line in axes.get_lines()
    }


def test_weights_are_above_and_activations_below_with_one_curve_per_bit_width_in_execution_order(figure):
    above, below = figure.axes
    weights = {
        "4": [(0, 0.01), (1, 0.02), (2, 0.03)],
        "3": [(1, 0.04), (2, 0.05)],
        "2": [(0, 0.07), (1, 0.08), (2, 0.09)],
    }
    assert curves_of(above) == weights
    found = curves_of(below)
    assert list(found) == list(weights)
    for bits, points in weights.items():
        assert [place for place, _ in found[bits]] == [place for place, _ in points]
        assert [step for _, step in found[bits]] == pytest.approx([10 * step for _, step in points])


def test_axes_and_legend_name_what_is_drawn(figure):
    above, below = figure.axes
    assert [label.get_text() for label in below.get_xticklabels()] == ["layer.10", "layer.9", "a.conv"]
    assert [axes.get_ylabel() for axes in (above, below)] == [
        "step size of the weights",
        "step size of the activations",
    ]
    assert [axes.get_yscale() for axes in (above, below)] == ["log", "log"]
    assert below.get_xlabel() == "layer, in the order of execution"
    (legend,) = (found for found in (*figure.legends, above.get_legend(), below.get_legend()) if found)
    assert [text.get_text() for text in legend.get_texts()] == ["4", "3", "2"]
    assert legend.get_title().get_text() == "bits"
    assert "tiny_net at 48x48" in figure.get_suptitle() + above.get_title()


def test_the_file_is_a_png_that_is_wide_enough_for_its_layers(indicators, tmp_path: Path):
    path = tmp_path / "curves.png"
    save_curves(path, indicators)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (960, 960)
        assert len(picture.convert("RGB").getcolors(maxcolors=10**6)) > 3


def test_many_layers_make_the_picture_wider(tmp_path: Path):
    names = [f"layer{number}" for number in range(60)]
    steps = {name: {3: 0.1, 2: 0.2} for name in names}
    costs = {name: LayerCost(1, 1, 1, 1, False) for name in names}
    save_curves(tmp_path / "curves.png", Indicators("net", 32, 10, costs, steps, steps))
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 2000
