"""What a policy comes to, in one line; under it what uniform bits come to. All figures are the entry's own."""

from __future__ import annotations

import html

from _hub_fetch import PREFIX
from _measured import Budget, Measured
from _request import Request
from _texts import bits_by, term
from _zoo import Accuracy, joint_accuracies

from limpq_hub.plan.importance import Importance
from limpq_hub.plan.plan import Plan

_WEIGHTS = {
    "fine-tuned": "with weights {term} for exactly this policy",
    "joint": "with the {term} weights, which serve every policy",
}


def headline(
    request: Request,
    plan: Plan,
    accuracy: Accuracy | None,
    reference: Accuracy | None,
    measured: Measured | None,
    uniform: Plan | None,
) -> str:
    """Return the headline of a policy as HTML.

    Args:
        request: what the policy answers to.
        accuracy: of the policy, if it is known.
        reference: of the float network, if it is known.
        measured: what bits of a search and uniform bits reach over many pictures, if that was measured.
        uniform: the same budget spent on uniform bits, filled up; None where only uneven bits fit.
    """
    return (
        f"<div class='headline' role='status'><p class='big'><b>{plan.compression:.1f}× smaller</b>, "
        f"<b>{plan.bitops / 1e9:.2f} G</b> {term('BitOps')}, {_accuracy(accuracy, reference)}</p>"
        f"<p class='beside'>{_uniform(uniform, measured, plan, request.model)}</p>"
        f"<p class='note'>{_weights(accuracy) if accuracy else _unmeasured(request)}</p></div>"
    )


def versus(budget: Budget, measured: Measured, importance: Importance) -> str:
    """Return in a sentence how bits of a search and uniform bits did at one budget, as HTML.

    Args:
        importance: what the search added up.
    """
    searched, uniform = budget.searched, budget.uniform
    return (
        f"at {budget.gigabitops:.2f} G the {bits_by(importance)} answer as float does on "
        f"<b>{searched.agreement:.1f} %</b> of {measured.images:,} pictures, "
        f"{term('uniform, filled up', 'uniform bits')} on <b>{uniform.agreement:.1f} %</b>; {term('KL')} "
        f"{searched.kl:.3f} and {uniform.kl:.3f}, both with the {term('joint')} weights"
    )


def _accuracy(accuracy: Accuracy | None, reference: Accuracy | None) -> str:
    """Return the top-1 of the policy beside that of the float network, as HTML."""
    beside = "" if reference is None else f" beside {reference.text} in {term('float')}"
    if accuracy is None:
        return f"{term('top-1')} not measured{beside}"
    return f"{term('top-1')} <b>{accuracy.text}</b>{beside}"


def _unmeasured(request: Request) -> str:
    """Return why there is no top-1, as HTML."""
    if not joint_accuracies(request.model):
        return f"Of the {term('joint')} weights no top-1 was measured."
    if request.bitops_alone:
        return "Top-1 was not measured at this budget, nor at budgets on both sides of it."
    return "Accuracy was measured for budgets of BitOps alone."


def _weights(accuracy: Accuracy) -> str:
    """Return which weights a top-1 is of, whether it was measured, and on which images, as HTML."""
    kind = _WEIGHTS[accuracy.weights].format(term=term(accuracy.weights))
    on = f" ({html.escape(accuracy.where)})" if accuracy.where else ""
    estimated = "" if accuracy.measured else ", on a line between two measured budgets"
    return f"Top-1 {kind}{estimated}{on}."


def _uniform(uniform: Plan | None, measured: Measured | None, plan: Plan, model: str) -> str:
    """Return what uniform bits come to beside those of a plan, as HTML."""
    if uniform is None:
        bits = "No uniform bits fit this budget."
    else:
        bits = (
            f"{term('uniform, filled up', 'Uniform bits')} of the same budget: "
            f"<b>{uniform.compression:.1f}× smaller</b>, {uniform.bitops / 1e9:.2f} G."
        )
    if measured is None and model.startswith(PREFIX):
        return f"{bits} How near they stay to the float network was not measured."
    if measured is None:
        command = f"python app/measure.py --model {html.escape(model)} --data FOLDER"
        return f"{bits} How near they stay to the float network was not measured: <code>{command}</code>."
    return f"{bits} Measured {versus(measured.nearest(plan.bitops / 1e9), measured, plan.importance)}."
