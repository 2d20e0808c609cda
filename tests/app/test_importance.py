"""Tests of what chose the bits: each text of the page names the importance that did, and no other."""

import itertools
import json
import re

import pytest
from _actions import compare, find_bits
from _measured import measured_of
from _model_settings import described, start_of
from _policies import choices_of, chosen_plan, searched_choice
from _request import Request
from _zoo import entry_of

from limpq_hub import list_models, search

WORDS = {"learned": "learned steps", "coupled": "coupled steps", "measured": "measured pairs"}


def shown(html: str) -> str:
    """What a visitor reads, without what a pointer has to rest on."""
    return re.sub(r"<[^>]+>", "", html)


def test_entries_of_two_kinds_are_bundled():
    assert {entry_of(model).indicators.objective for model in list_models()} == {"coupled", "measured"}


@pytest.mark.parametrize("model", list_models())
def test_every_text_of_a_search_names_the_importance_that_was_used_and_no_other(model):
    words = WORDS[entry_of(model).indicators.objective]
    others = set(WORDS.values()) - {words}
    request = Request(model, start_of(model))
    found = find_bits(request)
    assert f"scores better by the {words} of the layers" in shown(found.proof)
    figure = json.loads(found.frontier)
    assert f"best by {words}, BitOps alone (frontier)" in [trace["name"] for trace in figure["data"]]
    near = ", weight and activation bits of a layer at most 1 apart" if words == "coupled steps" else ""
    assert f"within this budget{' with' if near else ''}{near.removeprefix(',')} scores better" in shown(found.proof)
    assert described(model).endswith(f"layers to choose bits for, by {words}{near}")
    assert measured_of(model) is not None
    assert f"the bits by {words} answer as float does" in shown(found.headline)
    assert f"As float, %: {words}" in shown(found.many)
    assert f"The bits by {words} beside uniform ones" in shown(found.many)
    for text in map(shown, (found.headline, found.proof, found.many, found.totals, found.frontier)):
        assert not [other for other in others if other in text.lower()]
        assert "learned bits" not in text.lower()
        assert "learned importance" not in text.lower()


@pytest.mark.parametrize("model", list_models())
def test_a_comparison_calls_the_policy_of_the_search_by_its_importance(model):
    words = WORDS[entry_of(model).indicators.objective]
    request = Request(model, start_of(model))
    choice, rival, *_ = choices_of(model)
    assert choice == searched_choice(model) == f"{words}, at this budget"
    compared = compare(request, choice, rival, None)
    assert f"A: {words}, at this budget" in shown(compared.totals)
    assert f"A: {words}, at this budget" in [trace["name"] for trace in json.loads(compared.figure)["data"]]


def test_a_choice_of_the_last_model_is_the_policy_of_the_search_of_this_one_and_called_so():
    for model, last in itertools.permutations(list_models(), 2):
        request = Request(model, start_of(model))
        assert chosen_plan(request, searched_choice(last), None).policy == search(model, **request.budget).policy
        totals = shown(compare(request, searched_choice(last), choices_of(model)[1], None).totals)
        assert f"A: {searched_choice(model)}" in totals
