"""What the buttons do, as plain functions without gradio: find the bits, look at a picture, compare two policies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from _figures import bits_figure, compare_figure, front_figure
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
    front_of,
    learned_plan,
    plan_of,
    rival_policies,
)

from limpq_hub.plan.plan import Plan

TOP = 5

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Found:
    """What a search shows: figures as plotly's JSON, texts as HTML, and what reproduces it."""

    bits: str
    front: str
    totals: str
    proof: str
    download: str
    policy: str
    python: str
    shell: str


@dataclass(frozen=True)
class Seen:
    """What one network sees in a picture, and what the network is.

    Attributes:
        classes: probability by name of the class, most likely first.
        size_bytes: of the weights, four bytes each for the float network.
        file_bytes: of the files on disk, where a policy is published.
        bitops: of one image, None for the float network.
    """

    title: str
    classes: Mapping[str, float]
    size_bytes: int
    file_bytes: int | None
    bitops: int | None
    accuracy: Accuracy | None
    weights: str


@dataclass(frozen=True)
class Compared:
    """Two policies layer by layer: a figure as plotly's JSON, tables as HTML."""

    figure: str
    totals: str
    layers: str


def find_bits(request: Request) -> Found:
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
    figure = front_figure(
        [(one.bitops / 1e9, one.objective) for one in front_of(request.model, request.alpha)],
        (plan.bitops / 1e9, plan.objective),
        filled and (filled.bitops / 1e9, filled.objective),
        joint=[(record["bitops"] / 1e9, record["top1"]) for record in entry.front(calibrated=False)],
        fine_tuned={one.name: (one.bitops / 1e9, one.top1) for one in entry.published if one.top1 is not None},
        chosen_top1=accuracy and accuracy.top1,
        float_top1=reference and reference.top1,
    )
    return Found(
        bits=bits_figure(plan.policy, plan.costs),
        front=figure,
        totals=totals_table(columns, reference),
        proof=proof_text(plan),
        download=download_link(plan.policy),
        policy=json.dumps(plan.policy.to_json(), indent=1),
        python=request.python(),
        shell=request.shell(),
    )


def look(picture: str | None, request: Request, rival: str, networks: Networks, report: Report) -> list[Seen]:
    """Return what the float network, the best policy of the request and a rival see in a picture.

    Args:
        picture: path of an upload.
        rival: one of `RIVALS`.
        report: is told how far it is, 0..1, and what comes next.

    Raises:
        LimpqError: the picture is none, or the request cannot be met.
    """
    report(0.02, "Starting torch, for the first picture only")
    # Here, so that the page is up before it is needed.
    from limpq_hub.pictures import most_likely
    from limpq_hub.zoo.network import NetworkSpec

    report(0.1, "Reading the picture")
    read = picture_from(picture)
    plan = learned_plan(request)
    other = rival_plan(request, rival)
    entry = entry_of(request.model)
    names, spec, seen = short_names(entry.classes), NetworkSpec.from_config(entry.folder.config, entry.name), []
    for place, (title, shown) in enumerate((("Float", None), ("Your policy", plan), (_short(rival), other))):
        policy = shown and shown.policy
        kept = networks.has(request.model, policy)
        report(0.25 + 0.25 * place, f"{title}: {'looking' if kept else 'loading the network'}")
        network = networks.get(request.model, policy)
        guesses = most_likely(network, read, spec, entry.classes, TOP)
        seen.append(_seen(request, title, shown, {names[guess.id]: guess.probability for guess in guesses}))
    return seen


def compare(request: Request, one: str, other: str, upload: str | None) -> Compared:
    """Return two policies layer by layer.

    Args:
        one, other: of `choices_of`.
        upload: path of a `policy.json`, for the choice `UPLOADED`.

    Raises:
        LimpqError: the request cannot be met, or the file is not a policy of this model.
    """
    plans = [chosen_plan(request, choice, upload) for choice in (one, other)]
    names = (f"A: {one}", f"B: {other}")
    policies = {name: plan.policy for name, plan in zip(names, plans, strict=True)}
    columns = {
        name: (plan, accuracy_of(request, plan.policy, searched=choice == LEARNED))
        for name, plan, choice in zip(names, plans, (one, other), strict=True)
    }
    costs = entry_of(request.model).indicators.costs
    return Compared(
        figure=compare_figure(policies, costs),
        totals=totals_table(columns, float_accuracy(request.model)),
        layers=layers_table({"A": plans[0].policy, "B": plans[1].policy}, costs),
    )


def short_names(classes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return by id the first of the names of each class, or all of them where two classes share the first."""
    first = {one["id"]: one["name"].partition(",")[0] for one in classes}
    often = Counter(first.values())
    return {one["id"]: first[one["id"]] if often[first[one["id"]]] == 1 else one["name"] for one in classes}


def agreement(float_seen: Seen, other: Seen) -> tuple[bool, int]:
    """Return whether the first answers agree, and how many of the first five both networks name."""
    first = next(iter(float_seen.classes)) == next(iter(other.classes))
    return first, len(set(float_seen.classes) & set(other.classes))


def _short(rival: str) -> str:
    return rival.partition(",")[0].capitalize()


def _seen(request: Request, title: str, plan: Plan | None, classes: Mapping[str, float]) -> Seen:
    if plan is None:
        known = entry_of(request.model).summary()
        return Seen(title, classes, known["float_bytes"], None, None, float_accuracy(request.model), "float")
    searched = title == "Your policy"
    digest = plan.policy.digest()
    files = {one.policy_sha256: one.disk_bytes for one in entry_of(request.model).published}
    return Seen(
        title,
        classes,
        plan.size_bytes,
        files.get(digest),
        plan.bitops,
        accuracy_of(request, plan.policy, searched=searched),
        "fine-tuned" if digest in files else "joint",
    )
