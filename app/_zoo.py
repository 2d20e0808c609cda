"""The bundled models, read once: the entry of each, its frontier, and named policies of it."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from _hub_models import fetched_folder
from _request import Request

from limpq_hub import baselines, frontier, list_models, search
from limpq_hub.errors import InfeasibleBudgetError, SearchError, UnknownModelError, quoted
from limpq_hub.plan.deadline import deadline_in, seconds_left
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.quantities import enough_bitops
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.measurement import (
    Measurement,
    float_measurement,
    joint_measurement,
    policy_measurement,
    top1_measurement,
    top1_text,
)

SEARCH_LIMIT_S = 5
FRONTIER_POINTS = 100
MOST_FRONTIERS, MOST_BUDGETS = 16, 128
# The page opens with it where it is bundled.
_PREFERRED = "resnet18.tiny_imagenet"


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of a policy.

    Attributes:
        top1: percent on the validation images of the entry.
        weights: "fine-tuned", "joint" or "float".
        measured: False where it lies on a line between measured budgets.
        measurement: on which images, that of the measured budgets for one between them; None where the entry does not
            say, or where these were measured in different ways.
    """

    top1: float
    weights: str
    measured: bool = True
    measurement: Measurement | None = None

    @property
    def text(self) -> str:
        """The figure in percent, with its standard error where it is known; "about" where it was not measured."""
        if not self.measured:
            return f"about {self.top1:.1f} %"
        return top1_text(self.top1, self.measurement).replace("+/-", "±")

    @property
    def where(self) -> str:
        """On which images it was measured, in words; empty if the entry does not say how many."""
        return self.measurement.images_text if self.measurement else ""

    @property
    def standard_error(self) -> float | None:
        """In percent; None where it is not known."""
        return self.measurement.standard_error(self.top1) if self.measured and self.measurement else None


def first_model() -> str:
    """Return the model that the page opens with."""
    models = list_models()
    return _PREFERRED if _PREFERRED in models else models[0]


def entry_of(model: str) -> Entry:
    """Return the entry of a model; its files are verified when they are read.

    Args:
        model: name of a bundled entry, or of one that `_hub_models` has fetched.

    Raises:
        UnknownModelError: it is neither, or no more; nothing is fetched here.
    """
    # Looked up at every call: an open entry whose folder is gone would be fetched again, by this process.
    return _opened(model, fetched_folder(model))


@lru_cache(maxsize=16)
def _opened(model: str, folder: str | None) -> Entry:
    if folder is None and model not in list_models():
        raise UnknownModelError(f"there is no model {quoted(model)} here; take {first_model()}")
    return find_entry(model, cache_dir=folder, token=False)


def slider_range(model: str) -> tuple[float, float]:
    """Return the fewest and the most BitOps that make a difference, in 1e9, rounded up to two decimals."""
    minimum, maximum = entry_of(model).indicators.bitops_range()
    return _hundredths(minimum), _hundredths(maximum)


def published_names(model: str) -> list[str]:
    """Return the names of the fine-tuned policies, fewest BitOps first."""
    return [published.name for published in entry_of(model).published]


def budget_leading_to(model: str, name: str) -> float:
    """Return the BitOps, in 1e9, at which a search finds a fine-tuned policy, of two decimals or as few more as needed.

    Those of the policy itself, with two, where no search by the entry's own importance finds it, or none in time.

    Args:
        name: of `published_names`.
    """
    try:
        return _budget_leading_to(model, name)
    except SearchError:  # not kept: the server may have less to do the next time
        return next(_hundredths(policy.bitops) for policy in entry_of(model).published if policy.name == name)


@lru_cache(maxsize=MOST_BUDGETS)
def _budget_leading_to(model: str, name: str) -> float:
    """Return what `budget_leading_to` does; raise `SearchError` where the time is over."""
    indicators = entry_of(model).indicators
    published = next(policy for policy in entry_of(model).published if policy.name == name)
    deadline = deadline_in(SEARCH_LIMIT_S)
    # What was found otherwise can lie below what this search allows.
    with suppress(InfeasibleBudgetError):
        for decimals in range(2, 10):
            budget = math.ceil(Fraction(published.bitops, 10 ** (9 - decimals))) / 10**decimals
            found = search(indicators, bitops=f"{budget}G", time_limit_s=seconds_left(deadline))
            if found.policy.digest() == published.policy_sha256:
                return budget
    return _hundredths(published.bitops)


@lru_cache(maxsize=MOST_FRONTIERS)
def frontier_of(model: str, alpha: float | None) -> tuple[Plan, ...]:
    """Return the best policy at each of many budgets."""
    return tuple(frontier(entry_of(model).indicators, points=FRONTIER_POINTS, alpha=alpha, time_limit_s=SEARCH_LIMIT_S))


def searched_plan(request: Request) -> Plan:
    """Return the best policy that meets a request.

    Raises:
        InfeasibleBudgetError: none does; says what would.
        PolicyError: a pin fits no layer or no bits that were learned.
    """
    return search(entry_of(request.model).indicators, time_limit_s=SEARCH_LIMIT_S, **request.arguments)


def rival_policies(request: Request) -> dict[str, Policy]:
    """Return "uniform", "uniform filled", "random" and "reversed" within the same budget."""
    indicators = entry_of(request.model).indicators
    return baselines(indicators, alpha=request.alpha, time_limit_s=SEARCH_LIMIT_S, **request.budget)


def plan_of(request: Request, policy: Policy) -> Plan:
    """Return costs and objective of a policy that no search has found."""
    return Plan.of_policy(entry_of(request.model).indicators, policy, alpha=request.alpha)


def published_policy(model: str, name: str) -> Policy:
    """Return a fine-tuned policy of the entry."""
    return Policy.from_json(entry_of(model).checkpoint(name).read_json("policy.json"))


def is_published(model: str, policy: Policy) -> bool:
    """Return whether the entry has weights that were fine-tuned for exactly this policy."""
    return policy.digest() in {published.policy_sha256 for published in entry_of(model).published}


def accuracy_of(request: Request, policy: Policy, *, searched: bool) -> Accuracy | None:
    """Return the top-1 of the weights that `limpq_hub.load` hands out for a policy, or None; `searched` as below."""
    return fine_tuned_accuracy(request.model, policy) or joint_accuracy(request, policy, searched=searched)


def fine_tuned_accuracy(model: str, policy: Policy) -> Accuracy | None:
    """Return the top-1 of the weights that were fine-tuned for exactly a policy; None where it was not measured."""
    entry = entry_of(model)
    measured = entry.measured_top1(policy)
    if measured is None or measured[1] != "fine-tuned":
        return None
    return Accuracy(*measured, measurement=top1_measurement(entry, policy.digest(), "fine-tuned"))


def fine_tuned_accuracies(model: str) -> dict[str, tuple[int, Accuracy]]:
    """Return BitOps and top-1 of each fine-tuned policy that was measured, by its name."""
    entry = entry_of(model)
    return {
        published.name: (
            published.bitops,
            Accuracy(published.top1, "fine-tuned", measurement=policy_measurement(entry, published.name)),
        )
        for published in entry.published
        if published.top1 is not None
    }


def joint_accuracies(model: str) -> list[tuple[int, Accuracy]]:
    """Return BitOps and top-1 of the joint weights at each budget that was measured."""
    entry = entry_of(model)
    return [
        (record["bitops"], Accuracy(record["top1"], "joint", measurement=joint_measurement(entry, record)))
        for record in entry.front(calibrated=False)
    ]


def joint_accuracy(request: Request, policy: Policy, *, searched: bool) -> Accuracy | None:
    """Return the top-1 of the joint weights at a policy; None where it was not measured, nor budgets on both sides.

    Args:
        searched: whether the policy is what the search answers to `request`.
    """
    entry = entry_of(request.model)
    measured = entry.joint_top1(policy.digest())
    if measured is not None:
        return Accuracy(measured, "joint", measurement=top1_measurement(entry, policy.digest(), "joint"))
    if searched and request.bitops_alone:
        expected = entry.expected_top1(plan_of(request, policy).bitops)
        # Of several, measured in different ways, none is named.
        ways = {accuracy.measurement for _, accuracy in joint_accuracies(request.model)}
        way = next(iter(ways)) if len(ways) == 1 else None
        return None if expected is None else Accuracy(expected, "joint", measured=False, measurement=way)
    return None


def float_accuracy(model: str) -> Accuracy | None:
    """Return the measured top-1 of the float network, or None."""
    entry = entry_of(model)
    top1 = entry.metrics.get("float", {}).get("top1")
    return None if top1 is None else Accuracy(top1, "float", measurement=float_measurement(entry))


def _hundredths(bitops: int) -> float:
    """Return 1e9 BitOps with two decimals, rounded up; the same number as `enough_bitops` writes where it writes G."""
    return float(enough_bitops(bitops).removesuffix("G")) if bitops >= 10**9 else -(-bitops // 10**7) / 100
