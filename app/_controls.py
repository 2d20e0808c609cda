"""The controls that all tabs share: model, budget, and more limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from _hub_fetch import MOST_BYTES
from _hub_models import FETCH_LIMIT_S, fetch_entry, short_name
from _limits import Limiter
from _model_settings import (
    MOST_PUBLISHED,
    described,
    largest_alpha,
    names_on_buttons,
    published_budget,
    published_note,
    start_of,
)
from _request import LONGEST_PINS
from _request_fields import ChoiceField, NumberField, RangeField
from _tables import refusal_text
from _texts import TERMS
from _zoo import entry_of, first_model, slider_range
from gradio.events import Dependency

from limpq_hub import list_models

UNREADABLE = "What was sent could not be read: reload the page, and upload a file itself, not an address."


@dataclass(frozen=True)
class Controls:
    """The components of the controls, in the order in which they are handed to `_requests_in.request_of`.

    Attributes:
        model_changed: is done once the other controls are those of a newly chosen model.
    """

    model: gr.Dropdown
    bitops: gr.Slider
    size: gr.Number
    alpha: gr.Slider
    pins: gr.Textbox
    model_changed: Dependency

    @property
    def inputs(self) -> list[gr.components.Component]:
        """All of them."""
        return [self.model, self.bitops, self.size, self.alpha, self.pins]

    @property
    def events(self) -> list[Callable[..., Any]]:
        """The events of a visitor changing the request; a newly chosen model is told by `model_changed`.

        None of these need follow it: the values of the new model may be those of the last one.
        """
        return [self.bitops.change, self.alpha.change, self.size.change, self.pins.submit, self.pins.blur]


def add_controls(fetches: Limiter, searches: Limiter) -> Controls:
    """Add the controls to the page that is being built.

    Args:
        fetches: what an entry of the Hub is fetched in.
        searches: what the budgets of its policies are found in.
    """
    models = list_models()
    model = first_model()
    low, high = slider_range(model)
    with gr.Group():
        model_field = ChoiceField(models, value=model, label="Model", elem_id="model", info=described(model))
        bitops = RangeField(
            low,
            high,
            value=start_of(model),
            step=0.01,
            label="Budget: BitOps per image, G (1e9)",
            info="Multiplications times their weight and activation bits",
            elem_id="bitops",
        )
    with gr.Accordion("A model of the Hugging Face Hub", open=False, elem_id="hub"):
        repository = gr.Textbox(
            "",
            label="Repository",
            info=f"An entry of limpq-hub: at most {MOST_BYTES // 10**6} MB, fetched within {FETCH_LIMIT_S} s.",
            placeholder="hf-hub:owner/name",
            max_length=300,
            elem_id="repository",
        )
        fetch = gr.Button("Fetch it", size="sm", elem_id="fetch", interactive=False)
    note = gr.HTML(published_note(model), elem_id="published_note")
    with gr.Row(elem_id="published"):
        buttons = [
            gr.Button(name or "", visible=name is not None, size="sm", min_width=60) for name in names_on_buttons(model)
        ]
        for button in buttons:
            button.click(
                searches.answered(_of_published, _without_budget),
                [model_field, button],
                [bitops, note],
                queue=False,
                api_visibility="private",
            )
    with gr.Accordion("More limits and choices", open=False, elem_id="more"):
        size = NumberField(
            # 0 for no limit: the page turns an empty number into 0 when it is first shown.
            0,
            minimum=0,
            label="Size limit of the weights, MB (0: none)",
            info=TERMS["size"],
            elem_id="size",
        )
        alpha = RangeField(
            0,
            largest_alpha(model),
            value=entry_of(model).indicators.alpha,
            step=0.1,
            label="Alpha: steps of weights",
            info=TERMS["alpha"],
            elem_id="alpha",
        )
        pins = gr.Textbox(
            "",
            label="Pins: layers = weight bits, activation bits",
            info=TERMS["pins"] + " Layer names may have a star. Press Enter.",
            placeholder="layer4.*=4,4  layer1.0.conv1=6,6",
            max_length=LONGEST_PINS,
            elem_id="pins",
        )
    changed = model_field.change(
        searches.answered(_of_model, _without_model),
        model_field,
        [model_field, bitops, alpha, note, *buttons],
        queue=False,
        api_visibility="private",
    )
    repository.change(
        lambda text: gr.Button(interactive=bool(text.strip())),
        repository,
        fetch,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    gr.on(
        [fetch.click, repository.submit],
        fetches.guarded(lambda text: _fetched(models, text)),
        repository,
        model_field,
        concurrency_limit=1,
        show_progress="full",
        show_progress_on=[repository],
        api_visibility="private",
    )
    return Controls(model_field, bitops, size, alpha, pins, changed)


def answer_events(
    events: Sequence[Callable[..., Any]],
    after: Sequence[Dependency],
    work: Callable[..., Any],
    inputs: Sequence[gr.components.Component],
    outputs: Sequence[gr.components.Component],
    unreadable: Any,
) -> list[Dependency]:
    """Show the answer of `work` after each of `events`, without gradio's queue, which takes longer than a search.

    Args:
        events: of nothing else that keeps the last of several: where two such answers wait for one event, gradio 6
            gives it to both again after each of them, without end.
        after: what it follows as well, once that is done.
        unreadable: what to show where what was sent is refused before `work` is called.

    Returns:
        The answers, for others to follow.
    """
    silent: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    last: dict[str, Any] = silent | {"trigger_mode": "always_last"}
    answers = [
        gr.on(events, work, inputs, outputs, **last),
        *(before.then(work, inputs, outputs, **last) for before in after),
    ]
    for answer in answers:
        answer.failure(lambda: unreadable, None, outputs, **silent)
    return answers


def _fetched(models: Sequence[str], text: str) -> gr.Dropdown:
    """Return the field of the models with an entry of the Hub, once it was fetched."""
    name = fetch_entry(text)
    return gr.Dropdown([*models, (short_name(name), name)], value=name)


def _of_model(model: str) -> tuple[gr.components.Component, ...]:
    """Return the controls as they are for a model: their ranges, their values and its fine-tuned policies."""
    low, high = slider_range(model)
    return (
        gr.Dropdown(info=described(model)),
        gr.Slider(low, high, value=start_of(model)),
        gr.Slider(0, largest_alpha(model), value=entry_of(model).indicators.alpha),
        gr.HTML(published_note(model)),
        *(gr.Button(name or "", visible=name is not None) for name in names_on_buttons(model)),
    )


def _without_model(sentence: str) -> tuple[Any, ...]:
    """Return the controls where those of a model cannot be shown: as they are, with the sentence and no policies."""
    buttons = [gr.Button(visible=False) for _ in range(MOST_PUBLISHED)]
    return gr.skip(), gr.skip(), gr.skip(), gr.HTML(refusal_text(sentence)), *buttons


def _of_published(model: str, name: str) -> tuple[Any, ...]:
    """Return the budget that leads to a fine-tuned policy, and the note as it is without an error."""
    return published_budget(model, name), gr.HTML(published_note(model))


def _without_budget(sentence: str) -> tuple[Any, ...]:
    """Return the budget as it is, and the sentence in the place of the note."""
    return gr.skip(), gr.HTML(refusal_text(sentence))
