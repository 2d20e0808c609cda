"""Tests of the controls that all tabs share: what they look up is bounded, and what cannot be is told on the page."""

import asyncio
import time
from collections.abc import Callable

import _controls
import gradio as gr
import pytest
from _controls import add_controls
from _limits import Limiter
from _model_settings import MOST_PUBLISHED, published_note
from _zoo import budget_leading_to, first_model

GONE = "hf-hub:you/gone@" + 40 * "a"


def caller(page: gr.Blocks) -> Callable[..., tuple[object, ...]]:
    """A function that calls what a page calls, by its name."""

    def call(name: str, *arguments: object) -> tuple[object, ...]:
        function = next(event.fn for event in page.fns.values() if event.name == name)
        return asyncio.run(function(*arguments))

    return call


@pytest.fixture
def controls() -> Callable[[float], Callable[..., tuple[object, ...]]]:
    """A function that returns the `caller` of the controls, with searches of so many seconds."""

    # Where none runs, gradio makes an event loop for each of its locks, and closes none.
    async def built(limit_s: float) -> gr.Blocks:
        with gr.Blocks() as page:
            add_controls(Limiter(5, workers=1, most_waiting=1), Limiter(limit_s, workers=2, most_waiting=2))
        return page

    return lambda limit_s: caller(asyncio.run(built(limit_s)))


def test_a_button_sets_the_budget_that_leads_to_its_policy(controls):
    model = first_model()
    budget, note = controls(5)("_of_published", model, "w3a3")
    assert (budget, note.value) == (budget_leading_to(model, "w3a3"), published_note(model))


@pytest.mark.parametrize(
    ("limit_s", "model", "told"),
    [
        (5, GONE, "There is no model 'hf-hub:you/gone@"),
        (0.1, first_model(), "This took more than 0.1 s and was given up; try again later"),
    ],
    ids=["gone", "slow"],
)
def test_a_model_whose_controls_cannot_be_shown_is_told_in_the_place_of_its_note(
    controls, monkeypatch, limit_s, model, told
):
    call = controls(limit_s)
    if model != GONE:
        monkeypatch.setattr(_controls, "published_note", lambda model: time.sleep(0.5))
    *kept, note = call("_of_model", model)[:4]
    assert kept == [gr.skip()] * 3
    assert told in note.value
    assert [button.visible for button in call("_of_model", model)[4:]] == [False] * MOST_PUBLISHED
    budget, note = call("_of_published", model, "w3a3")
    assert budget == gr.skip()
    assert "Not possible." in note.value


def test_the_policies_of_a_model_that_is_gone_leave_the_comparison_as_it_is(demo):
    assert caller(demo)("choices_of_model", GONE) == (gr.skip(), gr.skip())
