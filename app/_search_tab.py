"""The tab where moving a slider shows which layers get how many bits, and what that costs."""

from __future__ import annotations

from dataclasses import astuple

import gradio as gr
from _actions import SearchResult, find_bits
from _controls import UNREADABLE, Controls, answer_events
from _limits import Limiter
from _requests_in import request_of
from _tables import refusal_text
from gradio.components.plot import PlotData
from gradio.events import Dependency


def plot(figure: str) -> PlotData:
    """Return plotly's JSON as `gr.Plot` hands it to the page, without building objects from it."""
    return PlotData(type="plotly", plot=figure)


def search(
    model: str, bitops: float, size: float | None, alpha: float | None, pins: str | None
) -> tuple[str | PlotData, ...]:
    """Return what the tab shows for the controls as they are, in the order of the fields of `SearchResult`."""
    headline, bits, frontier, *texts = astuple(find_bits(request_of(model, bitops, size, alpha, pins)))
    return (headline, plot(bits), plot(frontier), *texts)


def refused(sentence: str) -> tuple[PlotData | str | None, ...]:
    """Return what the tab shows where a search has no answer: the sentence, and nothing of an earlier one."""
    return refusal_text(sentence), None, None, "", "", "", "", "", "", ""


def add_search_tab(
    controls: Controls, limiter: Limiter, start: SearchResult, headline: gr.HTML, many: gr.HTML
) -> list[Dependency]:
    """Add the tab's content to the page that is being built; return its answers to the controls.

    Args:
        start: what the page opens with.
        headline, many: of the page and of another tab; they follow the controls too.
    """
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            gr.Markdown("### Bits of each layer", elem_classes="of_answer")
            bits = gr.Plot(plot(start.bits), label="bits", show_label=False, elem_id="bits_figure", container=False)
        with gr.Column(scale=2, min_width=320):
            gr.Markdown("### What it costs", elem_classes="of_answer")
            totals = gr.HTML(start.totals, label="totals", elem_id="totals")
            download = gr.HTML(start.download, label="download", elem_id="download")
    proof = gr.HTML(start.proof, label="proof", elem_id="proof")
    gr.Markdown("### Every budget: the best objective, and what was measured", elem_classes="of_answer")
    frontier = gr.Plot(
        plot(start.frontier), label="frontier", show_label=False, elem_id="frontier_figure", container=False
    )
    with gr.Accordion("Do the same in Python or in a shell", open=False, elem_id="reproduce"):
        python = gr.Code(
            start.python, language="python", label="Python", wrap_lines=True, interactive=False, elem_id="python"
        )
        shell = gr.Code(
            start.shell, language="shell", label="Shell", wrap_lines=True, interactive=False, elem_id="shell"
        )
        policy = gr.Code(
            start.policy, language="json", label="policy.json", max_lines=16, interactive=False, elem_id="policy"
        )
    # In the order of the fields of `SearchResult`.
    outputs = [headline, bits, frontier, totals, proof, download, policy, python, shell, many]
    # For clients alone: they get errors as errors. First, as the name goes to the first endpoint of this function.
    gr.Button(visible=False).click(
        limiter.guarded(search),
        controls.inputs,
        outputs,
        queue=False,
        api_name="search",
        api_description="The best bits of each layer within a budget: figures as plotly JSON, texts as HTML.",
    )
    return answer_events(
        controls.events,
        [controls.model_changed],
        limiter.answered(search, refused),
        controls.inputs,
        outputs,
        refused(UNREADABLE),
    )
