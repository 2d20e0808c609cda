"""The controls that all tabs share: model, budget, and more limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from _request import LONGEST_PINS, Request
from _texts import TERMS, term
from _zoo import entry_of, published_budgets, slider_range

from limpq_hub import list_models

_START_G = 3.0
_LARGEST_ALPHA = 50
OUT_OF_RANGE = "A number is outside its range: use the sliders for BitOps and alpha, and a size of at least 0."


@dataclass(frozen=True)
class Controls:
    """The components of the controls, in the order in which they are handed to `request_of`."""

    model: gr.Dropdown
    bitops: gr.Slider
    size: gr.Number
    alpha: gr.Slider
    pins: gr.Textbox

    @property
    def inputs(self) -> list[gr.components.Component]:
        """All of them."""
        return [self.model, self.bitops, self.size, self.alpha, self.pins]

    @property
    def events(self) -> list[Callable[..., Any]]:
        """The events of a visitor changing the request."""
        return [self.bitops.change, self.alpha.change, self.size.change, self.pins.submit, self.pins.blur]


def add_controls() -> Controls:
    """Add the controls to the page that is being built."""
    models = list_models()
    model = models[0]
    low, high = slider_range(model)
    with gr.Group():
        model_field = gr.Dropdown(models, value=model, label="Model", elem_id="model", info=_described(model))
        bitops = gr.Slider(
            low,
            high,
            value=start_of(model),
            step=0.01,
            label="Budget: BitOps per image, G (1e9)",
            info="Multiplications times their weight and activation bits",
            elem_id="bitops",
        )
    gr.HTML(
        f"<p class='note'>Budgets with {term('fine-tuned')} weights. w3a3: the {term('BitOps')} of 3 bits in every "
        "layer but the first and the last.</p>",
        elem_id="published_note",
    )
    with gr.Row(elem_id="published"):
        for name, budget in published_budgets(model).items():
            button = gr.Button(f"{name}", size="sm", min_width=60, elem_id=f"budget_{name.replace('.', '_')}")
            button.click(lambda budget=budget: budget, None, bitops, queue=False, api_visibility="private")
    with gr.Accordion("More limits and choices", open=False, elem_id="more"):
        size = gr.Number(
            # 0 for no limit: the page turns an empty number into 0 when it is first shown.
            0,
            minimum=0,
            precision=2,
            label="Size limit of the weights, MB (0: none)",
            info=TERMS["size"],
            elem_id="size",
        )
        alpha = gr.Slider(
            0,
            _LARGEST_ALPHA,
            value=entry_of(model).indicators.alpha,
            step=0.5,
            label="Alpha: importance of weights",
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
    model_field.change(_of_model, model_field, [model_field, bitops, alpha], queue=False, api_visibility="private")
    return Controls(model_field, bitops, size, alpha, pins)


def answer_events(
    events: Sequence[Callable[..., Any]],
    work: Callable[..., Any],
    inputs: Sequence[gr.components.Component],
    outputs: Sequence[gr.components.Component],
    out_of_range: Any,
) -> None:
    """Show the answer of `work` after each of `events`, without gradio's queue, which takes longer than a search.

    Args:
        out_of_range: what to show where gradio itself refuses a number, before `work` is called.
    """
    silent: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    answer = gr.on(events, work, inputs, outputs, trigger_mode="always_last", **silent)
    answer.failure(lambda: out_of_range, None, outputs, **silent)


def request_of(model: str, bitops: float, size: float | None, alpha: float | None, pins: str | None) -> Request:
    """Return what the controls ask for."""
    default_alpha = entry_of(model).indicators.alpha
    return Request(model, bitops, size or None, None if alpha == default_alpha else alpha, pins or "")


def start_of(model: str) -> float:
    """Return the budget that the page opens with, in 1e9 BitOps."""
    low, high = slider_range(model)
    return min(max(_START_G, low), high)


def _of_model(model: str) -> tuple[gr.Dropdown, gr.Slider, gr.Slider]:
    low, high = slider_range(model)
    return (
        gr.Dropdown(info=_described(model)),
        gr.Slider(low, high, value=start_of(model)),
        gr.Slider(value=entry_of(model).indicators.alpha),
    )


def _described(model: str) -> str:
    summary = entry_of(model).summary()
    return (
        f"{summary['architecture']}, pictures of {summary['input_size']} x {summary['input_size']} pixels, "
        f"{summary['num_classes']} classes, {summary['searched_layers']} layers to choose bits for"
    )
