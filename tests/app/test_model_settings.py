"""Tests of the controls of one model: whatever the entry, its own values lie within its sliders."""

from dataclasses import replace
from types import SimpleNamespace

import _model_settings
import pytest
from _model_settings import (
    described,
    largest_alpha,
    names_on_buttons,
    published_budget,
    published_note,
    start_of,
    start_request,
)
from _zoo import budget_leading_to, entry_of, first_model, slider_range

from limpq_hub import list_models


@pytest.mark.parametrize("model", list_models())
def test_the_page_starts_within_the_sliders_of_every_bundled_entry_at_its_most_accurate_policy(model):
    low, high = slider_range(model)
    published = [policy for policy in entry_of(model).published if policy.top1 is not None]
    assert low <= start_of(model) <= high
    if published:
        best = max(published, key=lambda policy: (policy.top1, policy.bitops))
        assert start_of(model) == budget_leading_to(model, best.name) == published_budget(model, best.name)
    assert entry_of(model).indicators.alpha <= largest_alpha(model)
    assert f"{entry_of(model).indicators.input_size} x " in described(model)
    assert start_request().model in list_models()


def test_a_model_without_fine_tuned_policies_starts_between_and_says_so(monkeypatch):
    model = first_model()
    low, high = slider_range(model)
    monkeypatch.setattr(_model_settings, "entry_of", lambda name: SimpleNamespace(published=()))
    monkeypatch.setattr(_model_settings, "published_names", lambda name: [])
    assert low < start_of(model) < high
    assert "No budget has" in published_note(model)


def test_the_slider_of_alpha_reaches_beyond_what_an_entry_has(monkeypatch):
    model = first_model()
    indicators = replace(entry_of(model).indicators, alpha=128.0)
    monkeypatch.setattr(_model_settings, "entry_of", lambda name: SimpleNamespace(indicators=indicators))
    assert largest_alpha(model) == 256


def test_only_a_budget_that_is_named_after_uniform_bits_is_explained(monkeypatch):
    model = first_model()
    assert "w3a3: as many" in published_note(model)
    monkeypatch.setattr(_model_settings, "published_names", lambda name: ["3G"])
    assert "as many" not in published_note(model)


def test_what_a_page_shows_of_a_model_takes_one_budget_however_many_policies_it_has(monkeypatch):
    model, asked = first_model(), []
    monkeypatch.setattr(_model_settings, "budget_leading_to", lambda *of: asked.append(of) or 1.0)
    names = [policy.name for policy in entry_of(model).published]
    assert names_on_buttons(model)[: len(names)] == names[:6]
    assert (start_of(model), "Budgets with" in published_note(model)) == (1.0, True)
    assert len(asked) == 1
    assert published_budget(model, "none of them") == 1.0
