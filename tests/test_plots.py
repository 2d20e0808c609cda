"""Figures: what is drawn is what the plan says, and what cannot be written leaves no file."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from PIL import Image

from limpq_hub import InfeasibleBudgetError, LayerBits, Plan, Policy, frontier, search
from limpq_hub import plots as limpq_plots
from limpq_hub.errors import OutputError, quoted
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plots import check_figure_path, plot_frontier, plot_policy, save_figure

BITS = {"first": (8, 8), "middle.conv1": (3, 5), "middle.conv2": (6, 2), "last": (8, 8)}
MACS = {"first": 1_000_000, "middle.conv1": 8_000_000, "middle.conv2": 4_000_000, "last": 500_000}


@pytest.fixture
def plan():
    """A plan of four layers: 64 + 120 + 48 + 32 = 264 million BitOps, 32 x 4 / 25 times smaller weights."""
    costs = {name: LayerCost(macs, macs, 100, 64, False, None) for name, macs in MACS.items()}
    policy = Policy("toynet", {name: LayerBits(*bits) for name, bits in BITS.items()}, 32)
    return Plan.of(
        policy, costs, objective=1.0, bound=1.0, optimal=True, excluded=(), alpha=2.0, seconds=0.0, way="enumeration"
    )


@pytest.fixture
def drawn(monkeypatch):
    """A list of the figures that were saved, with the path of each; nothing is written."""
    figures = []
    monkeypatch.setattr(limpq_plots, "save_figure", lambda figure, path: figures.append((figure, path)))
    return figures


def bars(axes):
    """Return (middle, height) of each bar, in the order they were drawn, by the colour that the legend shows."""
    found = {}
    for bar in axes.patches:
        middle = round(bar.get_x() + bar.get_width() / 2, 9)
        found.setdefault(bar.get_facecolor(), []).append((middle, bar.get_height()))
    return found


# The bits of each layer


def test_the_bars_are_the_bits_of_each_layer_and_the_legend_names_them(plan, drawn):
    plot_policy(plan, "bits.png")
    ((figure, path),) = drawn
    assert path == "bits.png"
    of_bits = figure.axes[0]
    legend = of_bits.get_legend()
    by_colour = bars(of_bits)
    by_name = {
        text.get_text(): by_colour[handle.get_facecolor()]
        for text, handle in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert by_name == {
        "weights": [(-0.2, 8), (0.8, 3), (1.8, 6), (2.8, 8)],
        "activations": [(0.2, 8), (1.2, 5), (2.2, 2), (3.2, 8)],
    }
    assert of_bits.get_ylabel() == "bits"
    assert of_bits.get_ylim()[0] == 0
    assert of_bits.get_ylim()[1] > 8


def test_below_them_are_the_macs_of_each_layer_under_its_name(plan, drawn):
    plot_policy(plan, "bits.png")
    of_bits, of_macs = drawn[0][0].axes
    (found,) = bars(of_macs).values()
    assert found == [(0, 1.0), (1, 8.0), (2, 4.0), (3, 0.5)]
    assert of_macs.get_ylabel() == "MACs, millions"
    assert list(of_macs.get_xticks()) == [0, 1, 2, 3]
    assert [label.get_text() for label in of_macs.get_xticklabels()] == list(BITS)
    assert of_macs.get_shared_x_axes().joined(of_bits, of_macs)


def test_the_title_says_what_the_policy_costs(plan, drawn):
    plot_policy(plan, "bits.png")
    assert plan.bitops == 264_000_000
    assert drawn[0][0].axes[0].get_title() == "toynet: 264.00M BitOps, 5.1x smaller weights"


def test_the_figure_grows_with_the_layers_so_that_their_names_do_not_meet(plan, drawn):
    many = {f"layer{index}": bits for index, bits in enumerate([(4, 4)] * 60)}
    costs = {name: LayerCost(1, 1, 1, 1, False, None) for name in many}
    policy = Policy("toynet", {name: LayerBits(*bits) for name, bits in many.items()})
    proof = {"objective": 1.0, "bound": 1.0, "optimal": True, "excluded": (), "alpha": 2.0, "seconds": 0.0}
    plot_policy(plan, "few.png")
    plot_policy(Plan.of(policy, costs, **proof), "many.png")
    few, many = (figure.get_figwidth() for figure, _ in drawn)
    assert few >= 6
    # A name that stands upright in 8 points is as wide as its letters are high.
    assert many / 60 > 8 / 72


def test_the_layers_of_a_real_network_come_in_the_order_of_execution(drawn):
    found = search("resnet18", bitops="3G")
    plot_policy(found, "bits.png")
    of_bits, of_macs = drawn[0][0].axes
    assert [label.get_text() for label in of_macs.get_xticklabels()] == list(found.policy.layers)
    weights, activations = bars(of_bits).values()
    layers = found.policy.layers.values()
    assert [height for _, height in weights] == [bits.weight for bits in layers]
    assert [height for _, height in activations] == [bits.activation for bits in layers]


# The frontier


@pytest.fixture
def plans(tiny):
    return frontier(tiny.indicators, points=6)


def test_the_line_is_the_objective_of_each_plan_over_its_bitops(plans, drawn):
    plot_frontier(plans, "frontier.png")
    ((figure, path),) = drawn
    (axes,) = figure.axes
    (line,) = axes.lines
    assert path == "frontier.png"
    assert list(line.get_xdata()) == [plan.bitops / 1e9 for plan in plans]
    assert list(line.get_ydata()) == [plan.objective for plan in plans]
    assert axes.get_xlabel() == "BitOps per image, G"
    assert axes.get_ylabel() == "objective of the search: learned steps (lower is better)"
    assert axes.get_title() == f"test_resnet: the best policy at each of {len(plans)} budgets"


def test_the_axis_names_the_importance_that_was_measured(drawn):
    plot_frontier(frontier("efficientnet_lite0", points=2), "frontier.png")
    assert drawn[0][0].axes[0].get_ylabel() == "objective of the search: measured pairs (lower is better)"


def test_measured_top1_is_a_second_line_with_its_own_axis_in_the_order_of_bitops(plans, drawn):
    plot_frontier(plans, "frontier.png", [(3_000_000, 60.0, None), (1_000_000, 40.0, None), (2_000_000, 55.5, None)])
    of_objective, of_top1 = drawn[0][0].axes
    (line,) = of_top1.lines
    assert list(line.get_xdata()) == [0.001, 0.002, 0.003]
    assert list(line.get_ydata()) == [40.0, 55.5, 60.0]
    assert of_top1.get_ylabel() == "top-1 of the joint weights, percent"
    assert of_top1.yaxis.get_label_position() == "right"
    assert of_objective.get_shared_x_axes().joined(of_objective, of_top1)
    assert of_objective.yaxis.label.get_color() == of_objective.lines[0].get_color()
    assert of_top1.yaxis.label.get_color() == line.get_color() != of_objective.lines[0].get_color()


def test_measured_top1_has_bars_of_its_standard_error_and_the_axis_says_so(plans, drawn):
    plot_frontier(plans, "frontier.png", [(2_000_000, 55.5, 0.25), (1_000_000, 40.0, 0.5)])
    of_top1 = drawn[0][0].axes[1]
    (bars,) = of_top1.containers[0].lines[2]
    assert [tuple(segment[:, 1]) for segment in bars.get_segments()] == [(39.5, 40.5), (55.25, 55.75)]
    assert of_top1.get_ylabel() == "top-1 of the joint weights, percent, +/- one standard error"


def test_a_frontier_of_one_plan_is_a_point(plans, drawn):
    plot_frontier(plans[:1], "frontier.png")
    (line,) = drawn[0][0].axes[0].lines
    assert (list(line.get_xdata()), line.get_marker()) == ([plans[0].bitops / 1e9], ".")


# Files


@pytest.mark.parametrize("name", ["figure.png", "figure.PNG", "two.dots.png"])
def test_a_png_is_a_picture_of_the_size_of_the_figure(plan, plans, tmp_path, name):
    for write, width, height in (
        (lambda path: plot_policy(plan, path), 7.0, 5.5),
        (lambda path: plot_frontier(plans, path), 8.0, 4.5),
    ):
        path = tmp_path / name
        write(path)
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.size == (width * 120, height * 120)
            assert len(picture.convert("RGB").getcolors(2**20)) > 3
        path.unlink()


@pytest.mark.parametrize(
    ("suffix", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("jpg", b"\xff\xd8"), ("webp", b"RIFF")]
)
def test_the_suffix_tells_the_format(plan, tmp_path, suffix, start):
    path = tmp_path / f"bits.{suffix}"
    plot_policy(plan, str(path))
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("suffix", "inches", "size"),
    [
        ("webp", (136, 1), (16_320, 120)),
        ("webp", (200, 1), (16_200, 81)),
        ("webp", (1, 200), (81, 16_200)),
        ("jpg", (600, 1), (65_400, 109)),
        ("png", (600, 1), (65_400, 109)),
    ],
)
def test_a_figure_of_many_layers_has_no_more_pixels_than_its_format(tmp_path, suffix, inches, size):
    save_figure(Figure(figsize=inches), tmp_path / f"wide.{suffix}")
    with Image.open(tmp_path / f"wide.{suffix}") as picture:
        assert picture.size == size


@pytest.mark.parametrize(
    ("suffix", "inches", "most"),
    [
        ("webp", (274, 1), "16,383"),
        ("WEBP", (1, 274), "16,383"),
        ("jpg", (1_100, 1), "65,500"),
        ("png", (1_100, 1), "65,535"),
    ],
)
def test_a_figure_that_could_not_be_read_in_so_few_pixels_is_refused_for_one_without(tmp_path, suffix, inches, most):
    path = tmp_path / f"wide.{suffix}"
    with pytest.raises(OutputError) as caught:
        save_figure(Figure(figsize=inches), path)
    assert str(caught.value) == (
        f"'{path}': so large a figure cannot be read in the {most} pixels that a .{suffix.lower()} has at most; use "
        ".svg or .pdf"
    )
    assert not path.exists()
    for without in ("svg", "pdf"):
        save_figure(Figure(figsize=inches), tmp_path / f"wide.{without}")
        assert (tmp_path / f"wide.{without}").stat().st_size > 100


def test_a_file_that_is_there_is_replaced(plan, tmp_path):
    (tmp_path / "bits.png").write_text("old")
    plot_policy(plan, tmp_path / "bits.png")
    assert (tmp_path / "bits.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name", ["bits.txt", "bits", "bits.", ".png", "bits.png.gz", "bits.pgf", "new/bits.raw", "bits.p\nng"]
)
def test_a_suffix_of_no_picture_is_refused_with_those_there_are_and_leaves_no_file(plan, plans, tmp_path, name):
    path = tmp_path / name
    for write in (lambda: plot_policy(plan, path), lambda: plot_frontier(plans, str(path), [(1, 2.0, 0.5)])):
        with pytest.raises(
            OutputError, match=r": a figure is written as one of jpg, pdf, png, svg, webp; use for example \.png$"
        ) as caught:
            write()
        assert str(caught.value).startswith(quoted(str(path)))
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []


def test_an_output_error_is_one_of_the_errors_that_a_user_can_mend():
    assert issubclass(OutputError, ValueError)
    assert OutputError.exit_code == InfeasibleBudgetError.exit_code == 2


def test_folders_that_are_not_there_are_made(plan, plans, tmp_path):
    plot_policy(plan, tmp_path / "a" / "b" / "bits.png")
    plot_frontier(plans, tmp_path / "c" / "frontier.png")
    assert (tmp_path / "a" / "b" / "bits.png").stat().st_size > 1000
    assert (tmp_path / "c" / "frontier.png").stat().st_size > 1000


def test_a_folder_that_cannot_be_is_an_error_of_the_system(plan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        plot_policy(plan, tmp_path / "file" / "bits.png")


def test_a_frontier_without_a_plan_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(OutputError, match="^there is no plan to draw; give at least one$"):
        plot_frontier([], tmp_path / "folder" / "frontier.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["pdf", "png", "svg", "jpg", "webp", "SVG"])
def test_a_path_can_be_checked_before_anything_is_drawn(suffix):
    check_figure_path(f"figure.{suffix}")
    with pytest.raises(
        OutputError, match=rf"^'figure\.{suffix}x': a figure is written as one of jpg, pdf, png, svg, webp;"
    ):
        check_figure_path(f"figure.{suffix}x")


def test_drawing_needs_neither_torch_nor_a_screen_and_matplotlib_is_imported_by_it_alone(run_python, tmp_path):
    code = (
        "import sys, limpq_hub\n"
        "from limpq_hub.plots import plot_frontier, plot_policy\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plot_policy(limpq_hub.search('resnet18', bitops='3G'), {str(tmp_path / 'bits.png')!r})\n"
        f"plot_frontier(limpq_hub.frontier('resnet18', points=3), {str(tmp_path / 'frontier.png')!r})\n"
        "print(sorted({'torch', 'timm', 'torchvision', 'matplotlib.pyplot', 'tkinter'} & set(sys.modules)))"
    )
    result = run_python(code, DISPLAY="", MPLBACKEND="TkAgg")
    assert (result.stdout, result.stderr, result.returncode) == ("[]\n", "", 0)
    assert {path.name for path in tmp_path.iterdir()} == {"bits.png", "frontier.png"}
