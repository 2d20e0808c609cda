"""What the buttons do, as plain functions without gradio: find the bits, classify a picture, compare two policies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from _figures import bits_figure, compare_figure, frontier_figure
from _headline import headline
from _integers import IntegerNetworks, IntegerRun
from _measured import measured_of
from _model_cache import Networks
from _photographs import photographs
from _picture_tables import many_pictures_table
from _pictures_in import picture_from
from _policies import LEARNED, chosen_plan, rival_plan
from _prediction import Prediction
from _request import Request
from _tables import Column, download_link, layers_table, proof_text, totals_table
from _texts import term
from _zoo import (
    accuracy_data,
    accuracy_of,
    entry_of,
    fine_tuned_accuracy,
    float_accuracy,
    frontier_of,
    joint_accuracy,
    learned_plan,
    plan_of,
    rival_policies,
)

from limpq_hub.errors import LimpqError
from limpq_hub.plan.plan import Plan

TOP = 5
_LEARNED_TITLE = "Your policy"

Report = Callable[[float, str], None]


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
    plan, entry = learned_plan(request), entry_of(request.model)
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
        joint=[(record["bitops"] / 1e9, record["top1"]) for record in entry.front(calibrated=False)],
        fine_tuned={
            published.name: (published.bitops / 1e9, published.top1)
            for published in entry.published
            if published.top1 is not None
        },
        chosen_top1=None if accuracy is None else accuracy.top1,
        float_top1=None if reference is None else reference.top1,
    )
    return SearchResult(
        headline=headline(plan, accuracy, reference, accuracy_data(request.model), request.model, measured, filled),
        bits=bits_figure(plan.policy, plan.costs),
        frontier=figure,
        totals=totals_table(columns, reference),
        proof=proof_text(plan),
        download=download_link(plan.policy),
        policy=json.dumps(plan.policy.to_json(), indent=1),
        python=request.python(),
        shell=request.shell(),
        many="" if measured is None else many_pictures_table(measured, plan.bitops / 1e9),
    )


def classify(picture: str | None, request: Request, rival: str, networks: Networks, report: Report) -> list[Prediction]:
    """Return what the float network, the best policy of the request and a rival make of a picture.

    Both policies have the joint weights, whether or not the first was fine-tuned as well: a contrast of bits alone.

    Args:
        picture: path of an upload.
        rival: one of `RIVALS`.
        report: called with the share that is done, 0..1, and what comes next; what it raises ends the work.

    Raises:
        LimpqError: the picture is none, or the request cannot be met.
    """
    report(0.02, "Starting torch, for the first picture only")
    # Here, so that the page is up before it is needed.
    from limpq_hub.pictures import most_likely
    from limpq_hub.zoo.network import NetworkSpec

    report(0.1, "Reading the picture")
    image = picture_from(picture)
    plan = learned_plan(request)
    entry = entry_of(request.model)
    plans = {"Float": None, _LEARNED_TITLE: plan, rival_title(rival): rival_plan(request, rival)}
    names, spec = short_names(entry.classes), NetworkSpec.from_config(entry.folder.config, entry.name)
    predictions = []
    for index, (title, network_plan) in enumerate(plans.items()):
        policy = None if network_plan is None else network_plan.policy
        cached = networks.has(request.model, policy)
        report(0.25 + 0.25 * index, f"{title}: {'looking' if cached else 'loading the network'}")
        network = networks.get(request.model, policy)
        guesses = most_likely(network, image, spec, entry.classes, TOP)
        classes = {names[guess.id]: guess.probability for guess in guesses}
        predictions.append(_prediction(request, title, network_plan, classes))
    return predictions


def run_in_integers(picture: str | None, request: Request, integers: IntegerNetworks, report: Report) -> IntegerRun:
    """Return what the best policy of the request sees in a picture in integers, beside the float network, timed.

    Args:
        picture: path of an upload.
        report: as `classify` takes it.

    Raises:
        LimpqError: the picture is none, or the request cannot be met.
    """
    return integers.look(picture_from(picture), request.model, learned_plan(request), report)


def preload(request: Request, rival: str, networks: Networks, integers: IntegerNetworks) -> None:
    """Load what the first visitor will ask for: the networks of a request and its rival, and the integers.

    What cannot be is told to the visitor who asks for it.
    """
    picture = str(photographs()[0].path)
    with suppress(LimpqError):
        classify(picture, request, rival, networks, lambda share, text: None)
        run_in_integers(picture, request, integers, lambda share, text: None)


def compare(request: Request, first: str, second: str, upload: str | None) -> Comparison:
    """Return two policies layer by layer.

    Args:
        first, second: names of policies, of `choices_of`.
        upload: path of a `policy.json`, for the choice `UPLOADED`.

    Raises:
        LimpqError: the request cannot be met, or the file is not a policy of this model.
    """
    plans = [chosen_plan(request, choice, upload) for choice in (first, second)]
    names = (f"A: {first}", f"B: {second}")
    policies = {name: plan.policy for name, plan in zip(names, plans, strict=True)}
    columns = {
        name: _column(request, plan, searched=choice == LEARNED)
        for name, plan, choice in zip(names, plans, (first, second), strict=True)
    }
    costs = entry_of(request.model).indicators.costs
    return Comparison(
        figure=compare_figure(policies, costs),
        totals=totals_table(columns, float_accuracy(request.model)),
        layers=layers_table({"A": plans[0].policy, "B": plans[1].policy}, costs),
    )


def short_names(classes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return by id the first of the names of each class, or all of them where two classes share the first."""
    first_names = {label["id"]: label["name"].partition(",")[0] for label in classes}
    counts = Counter(first_names.values())
    return {
        label["id"]: first_names[label["id"]] if counts[first_names[label["id"]]] == 1 else label["name"]
        for label in classes
    }


def rival_title(rival: str) -> str:
    """Return what the page calls a policy of `RIVALS`."""
    return rival.removesuffix(", at this budget").removesuffix(" to this budget").capitalize()


def _column(request: Request, plan: Plan, *, searched: bool) -> Column:
    joint = joint_accuracy(request, plan.policy, searched=searched)
    return Column(plan, joint, fine_tuned_accuracy(request.model, plan.policy))


def _prediction(request: Request, title: str, plan: Plan | None, classes: Mapping[str, float]) -> Prediction:
    if plan is None:
        float_bytes = entry_of(request.model).summary()["float_bytes"]
        return Prediction(title, classes, float_bytes, None, float_accuracy(request.model), "float", None)
    accuracy = joint_accuracy(request, plan.policy, searched=title == _LEARNED_TITLE)
    measured = measured_of(request.model)
    figures = None if measured is None else measured.of_policy(plan.policy)
    agreement = None if figures is None else figures.agreement
    return Prediction(title, classes, plan.size_bytes, plan.bitops, accuracy, "joint", agreement)
