"""What the buttons do, as plain functions without gradio: find the bits, compare two policies."""

from __future__ import annotations

import json
from dataclasses import dataclass

from _figures import bits_figure, compare_figure, frontier_figure
from _headline import headline
from _measured import measured_of
from _picture_tables import many_pictures_table
from _policies import chosen_plan, is_searched, title_of
from _request import Request
from _tables import Column, download_link, layers_table, proof_text, totals_table
from _texts import term
from _zoo import (
    accuracy_of,
    entry_of,
    fine_tuned_accuracies,
    fine_tuned_accuracy,
    float_accuracy,
    frontier_of,
    joint_accuracies,
    joint_accuracy,
    plan_of,
    rival_policies,
    searched_plan,
)

from limpq_hub.plan.plan import Plan


@dataclass(frozen=True)
class SearchResult:
    """What the page shows of a search.

    Attributes:
        headline: HTML.
        bits, frontier: figures, as plotly's JSON.
        totals, proof, download: HTML.
        policy: content of the `policy.json`.
        python, shell: what finds the same policy.
        many: HTML, what was measured over many pictures.
    """

    headline: str
    bits: str
    frontier: str
    totals: str
    proof: str
    download: str
    policy: str
    python: str
    shell: str
    many: str


@dataclass(frozen=True)
class Comparison:
    """Two policies layer by layer: a figure as plotly's JSON, tables as HTML."""

    figure: str
    totals: str
    layers: str


def find_bits(request: Request) -> SearchResult:
    """Return the best policy of a request and all that is shown of it.

    Raises:
        LimpqError: the request cannot be met; says what can.
    """
    plan = searched_plan(request)
    rivals = {name: plan_of(request, policy) for name, policy in rival_policies(request).items()}
    accuracy = accuracy_of(request, plan.policy, searched=True)
    measured = measured_of(request.model)
    columns = {"<b>This " + term("policy") + "</b>": _column(request, plan, searched=True)}
    for name, heading in (("uniform", "Uniform"), ("uniform filled", "Filled up")):
        if name in rivals:
            explained = term("uniform, filled up" if name == "uniform filled" else name, heading)
            columns[explained] = _column(request, rivals[name], searched=False)
    reference, filled = float_accuracy(request.model), rivals.get("uniform filled")
    figure = frontier_figure(
        [(point.bitops / 1e9, point.objective) for point in frontier_of(request.model, request.alpha)],
        (plan.bitops / 1e9, plan.objective),
        None if filled is None else (filled.bitops / 1e9, filled.objective),
        joint=[(bitops / 1e9, top1) for bitops, top1 in joint_accuracies(request.model)],
        fine_tuned={
            name: (bitops / 1e9, top1) for name, (bitops, top1) in fine_tuned_accuracies(request.model).items()
        },
        accuracy=accuracy,
        reference=reference,
        importance=plan.importance,
    )
    return SearchResult(
        headline=headline(request, plan, accuracy, reference, measured, filled),
        bits=bits_figure(plan.policy, plan.costs),
        frontier=figure,
        totals=totals_table(columns, reference),
        proof=proof_text(plan),
        download=download_link(plan.policy),
        policy=json.dumps(plan.policy.to_json(), indent=1),
        python=request.python(),
        shell=request.shell(),
        many="" if measured is None else many_pictures_table(measured, plan.bitops / 1e9, plan.importance),
    )


def compare(request: Request, first: str, second: str, upload: str | None) -> Comparison:
    """Return two policies layer by layer.

    Args:
        first, second: names of policies, of `choices_of`.
        upload: path of a `policy.json`, for the choice `UPLOADED`.

    Raises:
        LimpqError: the request cannot be met, or the file is not a policy of this model.
    """
    plans = [chosen_plan(request, choice, upload) for choice in (first, second)]
    names = [f"{place}: {title_of(request.model, choice)}" for place, choice in (("A", first), ("B", second))]
    policies = {name: plan.policy for name, plan in zip(names, plans, strict=True)}
    columns = {
        name: _column(request, plan, searched=is_searched(choice))
        for name, plan, choice in zip(names, plans, (first, second), strict=True)
    }
    costs = entry_of(request.model).indicators.costs
    return Comparison(
        figure=compare_figure(policies, costs),
        totals=totals_table(columns, float_accuracy(request.model)),
        layers=layers_table({"A": plans[0].policy, "B": plans[1].policy}, costs),
    )


def _column(request: Request, plan: Plan, *, searched: bool) -> Column:
    joint = joint_accuracy(request, plan.policy, searched=searched)
    return Column(plan, joint, fine_tuned_accuracy(request.model, plan.policy))
