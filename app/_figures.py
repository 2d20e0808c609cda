"""Figures as plotly's JSON, written as plain data: a drawing takes no longer than the search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from _texts import chosen_or_kept
from _zoo import Accuracy

from limpq_hub.plan.costs import Costs
from limpq_hub.plan.importance import IMPORTANCE_WORDS, Importance
from limpq_hub.plan.policy import Policy

WEIGHTS, ACTIVATIONS, MACS = "#3b7dd8", "#e8893b", "#8a94a6"
CHOSEN, JOINT, FINE_TUNED, FLOAT = "#d6336c", "#2a9d6f", "#8b5cf6", "#8a94a6"
_GRID = "rgba(128,136,150,0.25)"
_MOST_BITS = 8


def bits_figure(policy: Policy, costs: Costs) -> str:
    """Return weight and activation bits of each layer above its MACs, layers in the order of execution."""
    names = list(costs)
    bits = [policy.layers[name] for name in names]
    whose = [chosen_or_kept(costs[name].fixed) for name in names]
    data = [
        _bars(names, [layer.weight for layer in bits], "weight bits", WEIGHTS, whose),
        _bars(names, [layer.activation for layer in bits], "activation bits", ACTIVATIONS, whose),
        _macs(names, costs),
    ]
    layout = _layout(480, barmode="group", bargap=0.25) | {
        "xaxis": _layer_axis() | {"anchor": "y2"},
        "yaxis": _axis("bits per number") | {"range": [0, _MOST_BITS + 0.6], "dtick": 2, "domain": [0.36, 1]},
        "yaxis2": _axis("MACs, millions") | {"domain": [0, 0.26], "rangemode": "tozero", "nticks": 4},
    }
    return _plot(data, layout)


def compare_figure(policies: Mapping[str, Policy], costs: Costs) -> str:
    """Return the weight bits of each layer of two policies above their activation bits."""
    names, data = list(costs), []
    for row, kind in enumerate(("weight", "activation")):
        for color, (label, policy) in zip((WEIGHTS, ACTIVATIONS), policies.items(), strict=True):
            bits = [getattr(policy.layers[name], kind) for name in names]
            bars = _bars(names, bits, label, color, [f"{kind} bits"] * len(names))
            data.append(bars | {"yaxis": "y2" if row else "y", "showlegend": not row, "legendgroup": label})
    layout = _layout(520, barmode="group", bargap=0.25) | {
        "xaxis": _layer_axis() | {"anchor": "y2"},
        "yaxis": _axis("weight bits") | {"range": [0, _MOST_BITS + 0.6], "dtick": 2, "domain": [0.56, 1]},
        "yaxis2": _axis("activation bits") | {"range": [0, _MOST_BITS + 0.6], "dtick": 2, "domain": [0, 0.44]},
    }
    return _plot(data, layout)


def frontier_figure(
    frontier: Sequence[tuple[float, float]],
    chosen: tuple[float, float],
    uniform: tuple[float, float] | None,
    *,
    joint: Sequence[tuple[float, Accuracy]],
    fine_tuned: Mapping[str, tuple[float, Accuracy]],
    accuracy: Accuracy | None,
    reference: Accuracy | None,
    importance: Importance,
) -> str:
    """Return measured top-1 above the objective of the best policies, both over BitOps.

    Args:
        frontier: (1e9 BitOps, objective) of the best policy at each budget.
        chosen: the same of the policy that is shown.
        uniform: the same of a uniform policy, or None.
        joint: (1e9 BitOps, top-1) as measured of the joint weights.
        fine_tuned: the same of published policies, by name.
        accuracy: top-1 of the policy that is shown, if it is known.
        reference: that of the float network, if it was measured.
        importance: what the objective adds up.
    """
    words = IMPORTANCE_WORDS[importance]
    data = [
        _measured_line(sorted(joint, key=lambda point: point[0]), "top-1, joint weights", JOINT)
        | {"mode": "lines+markers"},
        _points(fine_tuned, "top-1, fine-tuned", FINE_TUNED, "diamond"),
        _line(frontier, f"best by {words}, BitOps alone (frontier)", WEIGHTS, "objective %{y:.4f}") | {"yaxis": "y2"},
    ]
    if reference is not None:
        dashed = _measured_line(
            [(frontier[0][0], reference), (frontier[-1][0], reference)], "top-1, float network", FLOAT
        )
        data.append(dashed | {"line": {"color": FLOAT, "dash": "dash", "width": 2}})
    if uniform is not None:
        data.append(_mark(uniform, "uniform, filled up", ACTIVATIONS, "x", "objective %{y:.4f}") | {"yaxis": "y2"})
    data.append(_mark(chosen, "your policy", CHOSEN, "star", "objective %{y:.4f}") | {"yaxis": "y2"})
    if accuracy is not None:
        mark = _measured_line([(chosen[0], accuracy)], "your policy", CHOSEN) | _star(CHOSEN, "star")
        data.append(mark | {"showlegend": False})
    layout = _layout(540) | {
        "xaxis": _axis("BitOps per image, G") | {"anchor": "y2"},
        "yaxis": _axis("top-1, percent") | {"domain": [0.56, 1]},
        "yaxis2": _axis("objective, lower is better") | {"domain": [0, 0.44]},
    }
    return _plot(data, layout)


def _bars(names: Sequence[str], bits: Sequence[int], label: str, color: str, notes: Sequence[str]) -> dict[str, Any]:
    hover = "%{x}: %{y} bits<br>%{customdata}<extra>" + label + "</extra>"
    return {
        "type": "bar",
        "name": label,
        "x": names,
        "y": bits,
        "customdata": notes,
        "hovertemplate": hover,
        "marker": {"color": color},
    }


def _macs(names: Sequence[str], costs: Costs) -> dict[str, Any]:
    millions = [costs[name].macs / 1e6 for name in names]
    hover = "%{x}: %{y:.2f} million MACs<extra></extra>"
    bars = {"type": "bar", "name": "MACs (context)", "x": names, "y": millions, "yaxis": "y2"}
    return bars | {"marker": {"color": MACS}, "hovertemplate": hover}


def _line(points: Sequence[tuple[float, float]], label: str, color: str, value: str) -> dict[str, Any]:
    """Return a line through points; `value` says in plotly's template language what the pointer shows of one."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label,
        "x": [point[0] for point in points],
        "y": [point[1] for point in points],
        "line": {"color": color, "width": 2},
        "marker": {"color": color, "size": 6},
        "hovertemplate": "%{x:.2f} G BitOps, " + value + "<extra>" + label + "</extra>",
    }


def _measured_line(points: Sequence[tuple[float, Accuracy]], label: str, color: str) -> dict[str, Any]:
    """Return a line through measured top-1, with bars of one standard error where it is known."""
    line = _line([(bitops, accuracy.top1) for bitops, accuracy in points], label, color, "top-1 %{customdata}")
    errors = [accuracy.standard_error or 0.0 for _, accuracy in points]
    bars = {"error_y": {"type": "data", "array": errors, "color": color, "thickness": 1}} if any(errors) else {}
    return line | bars | {"customdata": [accuracy.text for _, accuracy in points]}


def _points(named: Mapping[str, tuple[float, Accuracy]], label: str, color: str, symbol: str) -> dict[str, Any]:
    line = _measured_line(list(named.values()), label, color)
    positions = [("top left", "bottom right")[index % 2] for index in range(len(named))]
    names = {"mode": "markers+text", "text": list(named), "textposition": positions}
    return line | names | {"marker": {"color": color, "size": 10, "symbol": symbol}}


def _mark(point: tuple[float, float], label: str, color: str, symbol: str, value: str) -> dict[str, Any]:
    return _line([point], label, color, value) | _star(color, symbol)


def _star(color: str, symbol: str) -> dict[str, Any]:
    """Return what makes a large mark of a line of one point."""
    marker = {"color": color, "size": 14, "symbol": symbol, "line": {"color": "white", "width": 1}}
    return {"mode": "markers", "marker": marker}


def _axis(title: str) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 8}, "gridcolor": _GRID, "zeroline": False, "automargin": True}


def _layer_axis() -> dict[str, Any]:
    return _axis("layer, in the order of execution") | {"tickangle": -90, "tickfont": {"size": 10}, "showgrid": False}


def _layout(height: int, **more: Any) -> dict[str, Any]:
    transparent = "rgba(0,0,0,0)"
    return {
        "height": height,
        "margin": {"l": 44, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": transparent,
        "plot_bgcolor": transparent,
        "font": {"size": 12, "color": "#808894", "family": "system-ui, sans-serif"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "dragmode": False,
        **more,
    }


def _plot(data: Sequence[dict[str, Any]], layout: dict[str, Any]) -> str:
    config = {"displayModeBar": False, "displaylogo": False}
    return json.dumps({"data": data, "layout": layout, "config": config})
