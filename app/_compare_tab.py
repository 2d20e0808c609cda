"""The tab where two policies stand beside each other, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
from _actions import compare
from _controls import UNREADABLE, Controls, answer_events
from _limits import Limiter
from _policies import UPLOADED, choices_of, searched_choice
from _request_fields import ChoiceField
from _requests_in import request_of
from _search_tab import plot
from _tables import refusal_text
from _upload_fields import PolicyField
from gradio.components.plot import PlotData
from gradio.events import Dependency


def refused(sentence: str) -> tuple[PlotData | str | None, ...]:
    """Return what the tab shows where a policy cannot be: the sentence, and nothing of earlier policies."""
    return None, refusal_text(sentence), ""


def add_compare_tab(controls: Controls, limiter: Limiter, tab: gr.Tab, answers: Sequence[Dependency]) -> None:
    """Add the tab's content to the page that is being built; it follows the answers of a search to the controls."""

    def compare_policies(
        one: str,
        other: str,
        upload: str | None,
        model: str,
        bitops: float,
        size: float | None,
        alpha: float | None,
        pins: str | None,
    ) -> tuple[PlotData, str, str]:
        """Return the values of `outputs`: the figure of both policies, their totals and their layers."""
        compared = compare(request_of(model, bitops, size, alpha, pins), one, other, upload)
        return plot(compared.figure), compared.totals, compared.layers

    def choices_of_model(model: str) -> tuple[gr.Dropdown, gr.Dropdown]:
        """Return both fields with the policies of a newly chosen model."""
        names = choices_of(model)
        return gr.Dropdown(names, value=searched_choice(model)), gr.Dropdown(names, value=choices[1])

    choices = choices_of(controls.model.value)
    with gr.Row():
        one = ChoiceField(choices, value=choices[0], label="Policy A", min_width=300, elem_id="policy_one")
        other = ChoiceField(choices, value=choices[1], label="Policy B", min_width=300, elem_id="policy_other")
    upload = PolicyField(
        label=f"policy.json, for the choice “{UPLOADED}”",
        file_types=[".json"],
        type="filepath",
        height=150,
        elem_id="policy_upload",
    )
    start = compare_policies(one.value, other.value, None, *(component.value for component in controls.inputs))
    figure = gr.Plot(start[0], label="bits", show_label=False, elem_id="compare_figure", container=False)
    totals = gr.HTML(start[1], label="totals", elem_id="compare_totals")
    layers = gr.HTML(start[2], label="layers", elem_id="compare_layers")
    inputs, outputs = [one, other, upload, *controls.inputs], [figure, totals, layers]
    answer_events(
        [one.change, other.change, upload.upload, upload.clear, tab.select],
        answers,
        limiter.answered(compare_policies, refused),
        inputs,
        outputs,
        refused(UNREADABLE),
    )
    # For clients alone: they get errors as errors.
    gr.Button(visible=False).click(
        limiter.guarded(compare_policies),
        inputs,
        outputs,
        queue=False,
        api_name="compare",
        api_description="Two policies layer by layer: a figure as plotly JSON, tables as HTML.",
    )
    controls.model.change(
        limiter.answered(choices_of_model, lambda sentence: (gr.skip(), gr.skip())),
        controls.model,
        [one, other],
        queue=False,
        api_visibility="private",
    )
