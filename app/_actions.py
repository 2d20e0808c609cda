"""What the buttons do, as plain functions without gradio: find the bits, classify a picture, compare two policies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from _figures import bits_figure, compare_figure, frontier_figure
from _model_cache import Networks
from _pictures_in import picture_from
from _policies import LEARNED, chosen_plan, rival_plan
from _request import Request
from _tables import download_link, layers_table, proof_text, totals_table
from _texts import term
from _zoo import (
    Accuracy,
    accuracy_of,
    entry_of,
    float_accuracy,
    frontier_of,
    learned_plan,
    plan_of,
    rival_policies,
)

from limpq_hub.plan.plan import Plan

TOP = 5
_LEARNED_TITLE = "Your policy"

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class SearchResult:
    """What the page shows of a search.

    Attributes:
        bits, frontier: figures, as plotly's JSON.
        totals, proof, download: HTML.
        policy: content of the `policy.json`.
        python, shell: what finds the same policy.
    """

    bits: str
    frontier: str
    totals: str
    proof: str
    download: str
    policy: str
    python: str
    shell: str


@dataclass(frozen=True)
class Prediction:
    """What one network makes of a picture, and what the network is.

    Attributes:
        title: what the page calls the network.
        classes: probability, 0..1, by name of the class, most likely first.
        size_bytes: of the weights, four bytes each for the float network.
        file_bytes: of the files on disk, where a policy is published.
        bitops: of one image, None for the float network.
        accuracy: top-1 of the network, None where it is not known.
        weights: "float", "joint" or "fine-tuned".
    """

    title: str
    classes: Mapping[str, float]
    size_bytes: int
    file_bytes: int | None
    bitops: int | None
    accuracy: Accuracy | None
    weights: str


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
    columns = {"<b>This " + term("policy") + "</b>": (plan, accuracy)}
    for name, heading in (("uniform", "Uniform"), ("uniform filled", "Filled up")):
        if name in rivals:
            explained = term("uniform, filled up" if name == "uniform filled" else name, heading)
            columns[explained] = (rivals[name], accuracy_of(request, rivals[name].policy, searched=False))
    reference = float_accuracy(request.model)
    filled = rivals.get("uniform filled")
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
        bits=bits_figure(plan.policy, plan.costs),
        frontier=figure,
        totals=totals_table(columns, reference),
        proof=proof_text(plan),
        download=download_link(plan.policy),
        policy=json.dumps(plan.policy.to_json(), indent=1),
        python=request.python(),
        shell=request.shell(),
    )


def classify(picture: str | None, request: Request, rival: str, networks: Networks, report: Report) -> list[Prediction]:
    """Return what the float network, the best policy of the request and a rival make of a picture.

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
    plans = {"Float": None, _LEARNED_TITLE: plan, _short(rival): rival_plan(request, rival)}
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
        name: (plan, accuracy_of(request, plan.policy, searched=choice == LEARNED))
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


def agreement(reference: Prediction, quantized: Prediction) -> tuple[bool, int]:
    """Return whether the most likely classes agree, and how many of the first five both networks name."""
    same = next(iter(reference.classes)) == next(iter(quantized.classes))
    return same, len(set(reference.classes) & set(quantized.classes))


def _short(rival: str) -> str:
    return rival.partition(",")[0].capitalize()


def _prediction(request: Request, title: str, plan: Plan | None, classes: Mapping[str, float]) -> Prediction:
    if plan is None:
        float_bytes = entry_of(request.model).summary()["float_bytes"]
        return Prediction(title, classes, float_bytes, None, None, float_accuracy(request.model), "float")
    searched = title == _LEARNED_TITLE
    digest = plan.policy.digest()
    file_bytes = {published.policy_sha256: published.disk_bytes for published in entry_of(request.model).published}
    return Prediction(
        title,
        classes,
        plan.size_bytes,
        file_bytes.get(digest),
        plan.bitops,
        accuracy_of(request, plan.policy, searched=searched),
        "fine-tuned" if digest in file_bytes else "joint",
    )
