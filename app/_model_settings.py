"""What the controls are for one model: where its sliders start and end, its budgets, and what it is, in words."""

from __future__ import annotations

import re

from _request import Request
from _texts import term
from _zoo import budget_leading_to, entry_of, first_model, published_names, slider_range

from limpq_hub.plan.importance import objective_words

# Share of the way from the fewest to the most BitOps, for a model without fine-tuned policies.
_START_SHARE = 0.3
# The slider of alpha goes so far at least, and to twice what a model has.
_LARGEST_ALPHA = 50
# Buttons for fine-tuned policies; a model with more shows those of the fewest BitOps.
MOST_PUBLISHED = 6


def start_request() -> Request:
    """Return what the page opens with."""
    model = first_model()
    return Request(model, start_of(model))


def start_of(model: str) -> float:
    """Return the budget that the page opens with, in 1e9 BitOps: of the most accurate fine-tuned policy, if any.

    Of equally accurate ones it is that of the most BitOps.
    """
    published = [policy for policy in entry_of(model).published if policy.top1 is not None]
    if published:
        best = max(published, key=lambda policy: (policy.top1 or 0, policy.bitops))
        return budget_leading_to(model, best.name)
    low, high = slider_range(model)
    return round(low + _START_SHARE * (high - low), 2)


def published_budget(model: str, name: str) -> float:
    """Return the budget, in 1e9 BitOps, that leads to a fine-tuned policy; where the page opens if there is none."""
    return budget_leading_to(model, name) if name in published_names(model) else start_of(model)


def largest_alpha(model: str) -> float:
    """Return how far the slider of alpha goes."""
    return max(_LARGEST_ALPHA, 2 * entry_of(model).indicators.alpha)


def names_on_buttons(model: str) -> list[str | None]:
    """Return what stands on the buttons, None on those that are hidden."""
    names = published_names(model)[:MOST_PUBLISHED]
    return [*names, *[None] * (MOST_PUBLISHED - len(names))]


def published_note(model: str) -> str:
    """Return what the buttons of fine-tuned policies are, as HTML."""
    if not published_names(model):
        return (
            f"<p class='note'>No budget has {term('fine-tuned')} weights yet; the {term('joint')} ones serve all.</p>"
        )
    uniform = next((name for name in published_names(model) if re.fullmatch("w[2-8]a[2-8]", name)), None)
    explained = f" {uniform}: as many {term('BitOps')} as these uniform bits." if uniform else ""
    return f"<p class='note'>Budgets with {term('fine-tuned')} weights.{explained}</p>"


def described(model: str) -> str:
    """Return what the network of a model is, in words."""
    summary, indicators = entry_of(model).summary(), entry_of(model).indicators
    return (
        f"{summary['architecture']}, pictures of {summary['input_size']} x {summary['input_size']} pixels, "
        f"{summary['num_classes']} classes, {summary['searched_layers']} layers to choose bits for, by "
        f"{objective_words(indicators.objective, indicators.apart)}"
    )
