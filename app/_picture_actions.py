"""What the buttons beside a picture do, without gradio: three networks look at it, and the policy in integers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from _class_names import short_names
from _integers import IntegerNetworks, IntegerRun, Report
from _measured import measured_of
from _model_cache import Networks
from _photographs import photographs
from _pictures_in import picture_from
from _policies import rival_plan
from _prediction import Prediction
from _request import Request
from _zoo import entry_of, float_accuracy, joint_accuracy, searched_plan

from limpq_hub.errors import LimpqError
from limpq_hub.plan.plan import Plan

TOP = 5
_SEARCHED_TITLE = "Your policy"


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
    plan, contrast = searched_plan(request), rival_plan(request, rival)
    entry = entry_of(request.model)
    plans = {"Float": None, _SEARCHED_TITLE: plan, rival_title(rival): contrast}
    names, spec = short_names(entry.classes), NetworkSpec.from_config(entry.folder.config, entry.name)
    predictions = []
    for index, (title, network_plan) in enumerate(plans.items()):
        policy = None if network_plan is None else network_plan.policy
        cached = networks.has(request.model, policy)
        report(0.25 + 0.25 * index, f"{title}: {'looking' if cached else 'loading the network'}")
        network = networks.get(request.model, policy)
        guesses = most_likely(network, image, spec, entry.classes, TOP)
        classes = {guess.id: guess.probability for guess in guesses}
        predictions.append(_prediction(request, title, network_plan, classes, names))
    return predictions


def run_in_integers(picture: str | None, request: Request, integers: IntegerNetworks, report: Report) -> IntegerRun:
    """Return what the best policy of the request sees in a picture in integers, beside the float network, timed.

    Args:
        picture: path of an upload.
        report: as `classify` takes it.

    Raises:
        LimpqError: the picture is none, or the request cannot be met.
    """
    return integers.look(picture_from(picture), request.model, searched_plan(request), report)


def preload(request: Request, rival: str, networks: Networks, integers: IntegerNetworks) -> None:
    """Load what the first visitor will ask for: the networks of a request and its rival, and the integers.

    What cannot be is told to the visitor who asks for it.
    """
    picture = str(photographs()[0].path)
    with suppress(LimpqError):
        classify(picture, request, rival, networks, lambda share, text: None)
        run_in_integers(picture, request, integers, lambda share, text: None)


def rival_title(rival: str) -> str:
    """Return what the page calls a policy of `RIVALS`."""
    return rival.removesuffix(", at this budget").removesuffix(" to this budget").capitalize()


def _prediction(
    request: Request, title: str, plan: Plan | None, probabilities: Mapping[str, float], names: Mapping[str, str]
) -> Prediction:
    """Return a prediction with the costs and the accuracy of its network; the float network has no plan.

    Args:
        probabilities: by id of the class, most likely first.
        names: of the classes, by id.
    """
    classes, ids = {names[key]: probability for key, probability in probabilities.items()}, tuple(probabilities)
    if plan is None:
        float_bytes = entry_of(request.model).summary()["float_bytes"]
        return Prediction(title, classes, ids, float_bytes, None, float_accuracy(request.model), "float", None)
    accuracy = joint_accuracy(request, plan.policy, searched=title == _SEARCHED_TITLE)
    measured = measured_of(request.model)
    figures = None if measured is None else measured.of_policy(plan.policy)
    agreement = None if figures is None else figures.agreement
    return Prediction(title, classes, ids, plan.size_bytes, plan.bitops, accuracy, "joint", agreement)
