"""The tab that classifies a picture with the float network, the chosen policy and a rival; and in integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from _controls import Controls
from _integers import IntegerNetworks
from _limits import Limiter, stop_if_given_up
from _model_cache import Networks
from _photographs import credits_text, photographs
from _picture_actions import classify as classify_picture
from _picture_actions import rival_title, run_in_integers
from _picture_tables import integers_table, networks_table
from _pictures_in import MOST_BYTES, MOST_PIXELS
from _policies import FILLED, RIVALS
from _prediction import Prediction
from _request_fields import ChoiceField
from _requests_in import request_of
from _texts import term
from _upload_fields import PictureField
from _zoo import is_published, searched_plan

_PLACEHOLDER = f"Drop a picture or click: up to {MOST_PIXELS // 10**6} megapixels, {MOST_BYTES // 10**6} MB"
_ASK = "<p class='note'>Upload a picture or take one of the photographs.</p>"
_NO_PREDICTIONS = (_ASK, None, None, None, "")
_ASK_INTEGERS = (
    "<p class='note'>Writes the network as a file of integers, checks it, and lets it take turns with the float "
    "network: some seconds for a policy that nobody has asked for yet.</p>"
)
# JavaScript of the page: classify again 400 ms after the last move of a control, if a picture is in sight.
_LOOK_AGAIN = """() => {
  const look = document.querySelector('#look');
  clearTimeout(look?.dataset.wait);
  const again = () => look.offsetParent && document.querySelector('#picture img') && look.click();
  if (look) look.dataset.wait = setTimeout(again, 400);
}"""


def add_inference_tab(
    controls: Controls, networks: Networks, integers: IntegerNetworks, limiter: Limiter, tab: gr.Tab, many: gr.HTML
) -> None:
    """Add the tab's content to the page that is being built.

    Args:
        many: what was measured over many pictures; it gets its place here.
    """

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
        """Return the values of `outputs` for a picture; without one, the request to choose one."""
        if picture is None:
            return _NO_PREDICTIONS
        request = request_of(model, bitops, size, alpha, pins)
        predictions = classify_picture(picture, request, rival, networks, _reporting(progress))
        classes = [dict(prediction.classes) for prediction in predictions]
        return _agreement(predictions), *classes, networks_table(predictions)

    def compare_in_integers(
        picture: str | None,
        model: str,
        bitops: float,
        size: float | None,
        alpha: float | None,
        pins: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> str:
        """Return the table of the policy in integers beside the float network, exporting the policy if need be."""
        request = request_of(model, bitops, size, alpha, pins)
        return integers_table(run_in_integers(picture, request, integers, _reporting(progress)))

    def compare_in_integers_if_quick(
        picture: str | None, model: str, bitops: float, size: float | None, alpha: float | None, pins: str | None
    ) -> str:
        """Return the same table for a policy that is exported already or fine-tuned; else what the button would do."""
        request = request_of(model, bitops, size, alpha, pins)
        plan = searched_plan(request)
        # Fine-tuned policies are few: each is exported without being asked for, which takes seconds once.
        if picture is None or not (integers.has(model, plan) or is_published(model, plan.policy)):
            return _ASK_INTEGERS
        return integers_table(run_in_integers(picture, request, integers, lambda share, text: stop_if_given_up()))

    with gr.Row(elem_id="look_row"):
        with gr.Column(scale=1, min_width=240, elem_id="look_controls"):
            picture = PictureField(
                str(photographs()[0].path),
                type="filepath",
                sources=["upload", "clipboard"],
                label="Picture",
                height=300,
                placeholder=_PLACEHOLDER,
                buttons=["fullscreen"],
                elem_id="picture",
            )
            gr.Examples(
                [[str(photograph.path)] for photograph in photographs()],
                picture,
                example_labels=[photograph.title for photograph in photographs()],
                label="Photographs",
                elem_id="examples",
                api_visibility="private",
            )
            gr.HTML(credits_text(), elem_id="photograph_credits")
            rival = ChoiceField(
                list(RIVALS),
                value=FILLED,
                label="To contrast with",
                info="A policy of the same budget that was chosen otherwise, with weights trained alike.",
                elem_id="rival",
            )
            again = gr.Button("Look at the picture", variant="primary", elem_id="look")
        with gr.Column(scale=3, min_width=320, elem_id="seen"):
            summary = gr.HTML(_ASK, label="agreement", elem_id="agreement")
            labels = []
            with gr.Row():
                for name, title in (("float", "Float"), ("searched", "Your policy"), ("rival", rival_title(FILLED))):
                    with gr.Column(min_width=200):
                        labels.append(gr.Label(label=title, num_top_classes=5, elem_id=f"seen_{name}"))
            facts = gr.HTML("", label="networks", elem_id="networks")
            gr.Markdown("### In integers, on this machine")
            in_integers = gr.HTML(_ASK_INTEGERS, label="integers", elem_id="integers")
            run = gr.Button("Run it in integers", elem_id="run_integers")
            gr.Markdown("### Over many pictures")
            many.render()
    inputs, outputs = [picture, rival, *controls.inputs], [summary, *labels, facts]
    looking = gr.on(
        [picture.change, rival.change, again.click, tab.select],
        limiter.guarded(classify),
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
    controls.model_changed.then(None, js=_LOOK_AGAIN, api_visibility="private")
    rival.change(
        # What was sent can be anything; `classify` refuses it in words.
        lambda name: gr.Label(label=rival_title(name)) if name in list(RIVALS) else gr.skip(),
        rival,
        labels[2],
        queue=False,
        api_visibility="private",
    )
    # The predictions of an earlier picture must not stand beside one that was refused.
    looking.failure(
        lambda: (*_NO_PREDICTIONS, _ASK_INTEGERS),
        None,
        [*outputs, in_integers],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    to_run, silent = [picture, *controls.inputs], {"show_progress": "hidden", "api_visibility": "private"}
    looking.success(limiter.guarded(compare_in_integers_if_quick), to_run, in_integers, concurrency_limit=1, **silent)
    run.click(
        limiter.guarded(compare_in_integers),
        to_run,
        in_integers,
        trigger_mode="once",
        concurrency_limit=1,
        show_progress="full",
        api_name="integers",
        api_description="The best policy in integers beside the float network: answers and times, as HTML.",
    )


def _reporting(progress: gr.Progress) -> Any:
    """Return the callback of long work: it moves the progress bar, and ends work whose visitor has left."""

    def report(share: float, text: str) -> None:
        """Show the share that is done, 0..1, and what is being done; raises where the visitor has left."""
        stop_if_given_up()
        progress(share, desc=text)

    return report


def _agreement(predictions: Sequence[Prediction]) -> str:
    """Return how far the quantized networks agree with the float one."""
    sentences = []
    reference, *quantized = predictions
    for prediction in quantized:
        same, shared = prediction.agrees(reference)
        answer = "the same first answer as" if same else "<b>another first answer</b> than"
        sentences.append(
            f"<b>{prediction.title}</b> gives {answer} the float network; they share {shared} of the first "
            f"{len(prediction.classes)}."
        )
    return (
        f"<div class='agreement' role='status'>{' '.join(sentences)} <span class='note'>Both policies with the "
        f"{term('joint')} weights.</span></div>"
    )
