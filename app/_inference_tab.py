"""The tab where a picture is looked at by the float network, the chosen policy, and a rival."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from _actions import Prediction, agreement
from _actions import classify as classify_picture
from _controls import Controls, request_of
from _limits import Limiter, stop_if_given_up
from _model_cache import Networks
from _pictures_in import MOST_BYTES, MOST_PIXELS
from _policies import RIVALS
from _tables import NONE, accuracy_text, facts_list
from _texts import term
from _upload_fields import PictureField

from limpq_hub.plan.quantities import format_size

_IMAGES = Path(gr.__file__).parent / "media_assets" / "images"
# Photographs that come with gradio. Not all of what they show is a class of the model.
_EXAMPLES = {"Lion": "lion.jpg", "Cheetah, not one of the classes": "cheetah1.jpg", "Tower at night": "tower.jpg"}
_PLACEHOLDER = f"Drop a picture or click: up to {MOST_PIXELS // 10**6} megapixels, {MOST_BYTES // 10**6} MB"
_ASK = "<p class='note'>Upload a picture or take an example.</p>"
_NO_PREDICTIONS = (_ASK, None, None, None, "", "", "")
# JavaScript of the page: classify again 400 ms after the last move of a control, if a picture is in sight.
_LOOK_AGAIN = """() => {
  const look = document.querySelector('#look');
  clearTimeout(look?.dataset.wait);
  const again = () => look.offsetParent && document.querySelector('#picture img') && look.click();
  if (look) look.dataset.wait = setTimeout(again, 400);
}"""


def add_inference_tab(controls: Controls, networks: Networks, limiter: Limiter, tab: gr.Tab) -> None:
    """Add the tab's content to the page that is being built."""

    def classify(
        picture: str | None,
        rival: str,
        model: str,
        bitops: float,
        size: float | None,
        alpha: float | None,
        pins: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        if picture is None:
            return _NO_PREDICTIONS
        request = request_of(model, bitops, size, alpha, pins)

        def report(share: float, text: str) -> None:
            stop_if_given_up()
            progress(share, desc=text)

        predictions = classify_picture(picture, request, rival, networks, report)
        classes = [dict(prediction.classes) for prediction in predictions]
        return _agreement(predictions), *classes, *[facts_list(_facts(prediction)) for prediction in predictions]

    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            picture = PictureField(
                type="filepath",
                sources=["upload", "clipboard"],
                label="Picture",
                height=340,
                placeholder=_PLACEHOLDER,
                buttons=["fullscreen"],
                elem_id="picture",
            )
            gr.Examples(
                [[str(_IMAGES / file)] for file in _EXAMPLES.values()],
                picture,
                example_labels=list(_EXAMPLES),
                label="Or an example",
                elem_id="examples",
                api_visibility="private",
            )
            rival = gr.Radio(
                list(RIVALS),
                value=next(iter(RIVALS)),
                label="To contrast with",
                info="A policy of the same budget that was not learned.",
                elem_id="rival",
            )
            again = gr.Button("Look at the picture", variant="primary", elem_id="look")
        with gr.Column(scale=3, min_width=320):
            summary = gr.HTML(_ASK, label="agreement", elem_id="agreement")
            labels, facts = [], []
            with gr.Row():
                for name, title in (("float", "Float"), ("learned", "Your policy"), ("rival", "To contrast")):
                    with gr.Column(min_width=200):
                        labels.append(gr.Label(label=title, num_top_classes=5, elem_id=f"seen_{name}"))
                        facts.append(gr.HTML("", label=f"facts {name}", elem_id=f"facts_{name}"))
    guarded, inputs, outputs = limiter.guarded(classify), [picture, rival, *controls.inputs], [summary, *labels, *facts]
    looking = gr.on(
        [picture.change, rival.change, again.click, tab.select],
        guarded,
        inputs,
        outputs,
        trigger_mode="always_last",
        concurrency_limit=2,
        show_progress="full",
        show_progress_on=[summary],
        api_name="classify",
        api_description="What the float network, the best policy and a rival see in a picture.",
    )
    gr.on(controls.events, None, js=_LOOK_AGAIN, api_visibility="private")
    # The predictions of an earlier picture must not stand beside one that was refused.
    looking.failure(
        lambda: _NO_PREDICTIONS, None, outputs, queue=False, show_progress="hidden", api_visibility="private"
    )


def _agreement(predictions: Sequence[Prediction]) -> str:
    """Return how far the quantized networks agree with the float one."""
    sentences = []
    reference, *quantized = predictions
    for prediction in quantized:
        same, shared = agreement(reference, prediction)
        answer = "the same first answer as" if same else "<b>another first answer</b> than"
        sentences.append(
            f"<b>{prediction.title}</b> gives {answer} the float network; they share {shared} of the first "
            f"{len(prediction.classes)}."
        )
    return f"<div class='agreement' role='status'>{' '.join(sentences)}</div>"


def _facts(prediction: Prediction) -> dict[str, str]:
    file = {} if prediction.file_bytes is None else {"Files on disk": format_size(prediction.file_bytes)}
    return {
        term("policy", "Policy"): prediction.title,
        term("size", "Size"): format_size(prediction.size_bytes),
        **file,
        term("BitOps"): NONE if prediction.bitops is None else f"{prediction.bitops / 1e9:.2f} G",
        "Weights": term(prediction.weights),
        term("top-1", "Top-1") + ", %": accuracy_text(prediction.accuracy),
    }
