"""Tests of requests as clients send them: what a search can take is taken, all else is refused in words."""

import math

import pytest
from _picture_actions import classify
from _policies import chosen_plan, searched_choice
from _request import Request
from _requests_in import request_of
from _zoo import entry_of, searched_plan, slider_range

from limpq_hub import list_models, search
from limpq_hub.errors import BudgetError, InfeasibleBudgetError, LimpqError, PolicyError, UnknownModelError

MODEL = "resnet18.tiny_imagenet"


def test_only_a_size_of_exactly_zero_is_no_limit():
    for size in (0, 0.0, None):
        assert request_of(MODEL, 3, size, None, "").megabytes is None
    with pytest.raises(InfeasibleBudgetError, match='^size="4000B" cannot be met: resnet18 at 64x64 needs at least'):
        searched_plan(request_of(MODEL, 3.0, 0.004, None, ""))
    with pytest.raises(BudgetError, match="it must be above 0"):
        searched_plan(request_of(MODEL, 3.0, 1e-9, None, ""))


def test_a_size_is_met_to_the_byte():
    sizes = {searched_plan(request_of(MODEL, 3.0, size / 1e6, None, "")).size_bytes for size in (3_104_999, 3_105_001)}
    assert sizes == {search(MODEL, bitops="3G", size=f"{size}B").size_bytes for size in (3_104_999, 3_105_001)}
    assert Request(MODEL, 3.0, 3.104999).budget["size"] == "3.104999MB"
    assert Request(MODEL, 3.0, 3.1).budget["size"] == "3.10MB"


@pytest.mark.parametrize("model", list_models())
def test_a_budget_within_the_range_of_any_model_is_taken_and_alpha_is_its_own_where_none_is_sent(model):
    low, high = slider_range(model)
    for bitops in (low, high, 100):
        assert searched_plan(request_of(model, bitops, 0, None, "")).bitops <= bitops * 1e9
    own = entry_of(model).indicators.alpha
    assert request_of(model, high, 0, None, None) == request_of(model, high, 0, own, "") == Request(model, high)
    with pytest.raises(InfeasibleBudgetError, match=f'^bitops=".*" cannot be met: .* at least {low:.2f}G'):
        searched_plan(request_of(model, low - 0.01, 0, None, ""))


NO_NUMBERS = [math.nan, math.inf, -math.inf, 10**400, "3", "", [], {}, [3.0], True]


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, None, 0, -1], ids=lambda value: repr(value)[:9])
def test_a_budget_that_is_none_is_refused_in_words(wrong):
    with pytest.raises(BudgetError, match="^bitops=.* cannot be: use a number above 0, for example 3.0 for 3G$"):
        request_of(MODEL, wrong, 0, 16.0, "")


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -1], ids=lambda value: repr(value)[:9])
def test_a_size_and_an_alpha_that_are_none_are_refused_in_words(wrong):
    with pytest.raises(
        BudgetError, match="^size=.* cannot be: use a number of MB, for example 4.5, or 0 for no limit$"
    ):
        request_of(MODEL, 3.0, wrong, 16.0, "")
    with pytest.raises(BudgetError, match="^alpha=.* cannot be: use a number of at least 0, for example 16$"):
        request_of(MODEL, 3.0, 0, wrong, "")


def test_a_model_and_pins_that_are_no_text_are_refused_in_words():
    for wrong in (None, 3, ["a"], {}):
        with pytest.raises(UnknownModelError, match=f"cannot be: use the name of one, for example {MODEL}$"):
            request_of(wrong, 3.0, 0, 16.0, "")
    with pytest.raises(PolicyError, match=r"^pins=\['a'\] cannot be: use text, for example layer4\.\*=4,4$"):
        request_of(MODEL, 3.0, 0, 16.0, ["a"])


@pytest.mark.parametrize("wrong", [None, 3, [], {}])
def test_a_policy_that_is_no_text_is_refused_in_words(request_3g, wrong):
    with pytest.raises(PolicyError, match=f"^there is no policy of this name; choose one of: {searched_choice(MODEL)}"):
        chosen_plan(request_3g, wrong, None)


@pytest.mark.parametrize("rival", [None, "none"])
def test_a_rival_that_is_none_is_refused_in_words(request_3g, networks, lion, rival):
    with pytest.raises(LimpqError, match="^there is no policy of this name; choose one of: uniform, at this budget"):
        classify(str(lion), request_3g, rival, networks, lambda share, text: None)
