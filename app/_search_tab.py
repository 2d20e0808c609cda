"""The tab where moving a slider shows which layers get how many bits, and what that costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import gradio as gr
from _actions import find_bits
from _controls import Controls, request_of
from _limits import Limiter
from gradio.components.plot import PlotData


def plot(figure: str) -> PlotData:
    """Return plotly's JSON as `gr.Plot` hands it to the page, without building objects from it."""
    return PlotData(type="plotly", plot=figure)


def search(
    model: str, bitops: float, size: float | None, alpha: float | None, pins: str | None
) -> tuple[PlotData, PlotData, str, str, str, str, str, str]:
    """Return what the tab shows for the controls as they are."""
    bits, front, *texts = astuple(find_bits(request_of(model, bitops, size, alpha, pins)))
    return (plot(bits), plot(front), *texts)


def add_search_tab(controls: Controls, limiter: Limiter) -> Callable[..., Any]:
    """Add the tab's content to the page that is being built; return the endpoint's function."""
    start = search(*(component.value for component in controls.inputs))
    proof = gr.HTML(start[3], label="proof", elem_id="proof")
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            gr.Markdown("### Bits of each layer")
            bits = gr.Plot(start[0], label="bits", show_label=False, elem_id="bits_figure", container=False)
        with gr.Column(scale=2, min_width=320):
            gr.Markdown("### What it costs")
            totals = gr.HTML(start[2], label="totals", elem_id="totals")
            download = gr.HTML(start[4], label="download", elem_id="download")
    gr.Markdown("### Every budget: the best objective, and what was measured")
    front = gr.Plot(start[1], label="front", show_label=False, elem_id="front_figure", container=False)
    with gr.Accordion("Do the same in Python or in a shell", open=False, elem_id="reproduce"):
        python = gr.Code(
            start[6], language="python", label="Python", wrap_lines=True, interactive=False, elem_id="python"
        )
        shell = gr.Code(start[7], language="shell", label="Shell", wrap_lines=True, interactive=False, elem_id="shell")
        policy = gr.Code(
            start[5], language="json", label="policy.json", max_lines=16, interactive=False, elem_id="policy"
        )
    guarded = limiter.guarded(search)
    gr.on(
        [controls.bitops.change, controls.alpha.change, controls.size.change, controls.pins.submit, controls.pins.blur],
        guarded,
        controls.inputs,
        [bits, front, totals, proof, download, policy, python, shell],
        trigger_mode="always_last",
        queue=False,
        show_progress="hidden",
        api_name="search",
        api_description="The best bits of each layer within a budget: figures as plotly JSON, texts as HTML.",
    )
    return guarded
