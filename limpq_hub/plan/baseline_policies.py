"""Policies to compare a search with, within the same budget: uniform, random, and the search on reversed importance."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from limpq_hub.errors import BudgetError, InfeasibleBudgetError, PolicyError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.budget_check import fits_of
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.deadline import deadline_in, seconds_left, with_all_candidates
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import BITS_KINDS, BitsKind, LayerBits
from limpq_hub.plan.learned_values import Steps
from limpq_hub.plan.optimum import search
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.sensitivity import by_weight_errors, weight_errors
from limpq_hub.plan.solver.solution import one_of_several

Fits = Callable[[Policy], bool]
LayerKinds = tuple[str, tuple[BitsKind, ...]]  # name of a layer, and which of its bit-widths are raised together

_NO_EQUAL_BITS_FIT = "no policy of equal bits fits this budget; raise the budget"
_FEWEST_DO_NOT_FIT = "even the fewest bits are above this budget; raise the budget"


@with_all_candidates()
@one_of_several()
def policies_to_compare(
    indicators: Indicators,
    budget: Budget,
    *,
    seed: int = 0,
    alpha: float | None = None,
    counting: Counting = "exact",
    weights: Mapping[str, NDArray[Any]] | None = None,
    time_limit_s: float = 60,
    allow_gap: str | float | None = None,
) -> dict[str, Policy]:
    """Return policies within `budget` by what they are.

    "uniform" is the largest policy of equal bits, "uniform filled" the same with layers raised until the budget is
    full, "random" is drawn by `seed`, "reversed" the search in reversed importance, "sensitivity" the one that lowers
    the relative rounding error of the weights, every activation at the bits of "uniform".

    What does not exist is left out: "uniform" where only uneven bits fit, for instance.

    Args:
        weights: float weights by layer; without them there is no "sensitivity".
        time_limit_s: seconds for all of them together, up to a day.
        allow_gap: for each that is searched for, as in `search`.

    Raises:
        InfeasibleBudgetError: no policy meets `budget`.
        SearchError: they are not found in time.
    """
    deadline = deadline_in(time_limit_s)

    def searched(importances: Indicators, alpha: float | None) -> Plan:
        """Return the best plan by some importances, in the time that is left."""
        left = seconds_left(deadline)
        return search(importances, budget, alpha=alpha, counting=counting, time_limit_s=left, allow_gap=allow_gap)

    # Where nothing fits, it says what would.
    searched(indicators, alpha)
    fits = fits_of(indicators, budget, counting, deadline)
    policies = {}
    try:
        policies["uniform"] = uniform_largest(indicators, fits)
        policies["uniform filled"] = uniform_filled(indicators, fits)
    except PolicyError:  # only uneven bits fit, or layers learned none in common
        pass
    with suppress(PolicyError):  # the fewest bits do not fit: a layer table may say that others take less
        policies["random"] = random_policy(indicators, fits, seed)
    # Other importances have other outliers, so other bits to choose from: maybe none within the budget.
    with suppress(BudgetError, InfeasibleBudgetError):
        reverse = reversed_importance(indicators)
        policies["reversed"] = searched(reverse, alpha).policy
    if weights is not None and "uniform" in policies:
        activation = next(policies["uniform"].layers[name].activation for name in indicators.activation_steps)
        sensitivity = by_weight_errors(indicators, weight_errors(weights, indicators), activation)
        with suppress(BudgetError, InfeasibleBudgetError):
            policies["sensitivity"] = searched(sensitivity, None).policy
    return policies


def uniform_largest(indicators: Indicators, fits: Fits) -> Policy:
    """Return the largest policy of equal bits that fits.

    Args:
        fits: whether a policy is within the budget.

    Raises:
        PolicyError: no policy of equal bits fits, or the layers learned no bit-width in common.
    """
    shared = _shared(indicators.weight_steps, indicators.activation_steps)
    largest = next(filter(fits, (_uniform(indicators, bits, bits) for bits in shared)), None)
    if largest is None:
        raise PolicyError(_NO_EQUAL_BITS_FIT)
    return largest


def uniform_filled(indicators: Indicators, fits: Fits) -> Policy:
    """Return the largest policy of equal bits that fits, then as many layers raised by one step as still fit.

    Layers are raised in the order of execution, weights and activations together.

    Args:
        fits: whether a policy is within the budget.

    Raises:
        PolicyError: no policy of equal bits fits, or the layers learned no bit-width in common.
    """
    largest = uniform_largest(indicators, fits)
    return _raised(indicators, largest, ((name, BITS_KINDS) for name in indicators.weight_steps), fits)


def uniform_splits(indicators: Indicators, fits: Fits) -> list[Policy]:
    """Return the policies of one weight and one activation bit-width that fit while no larger pair does, filled up.

    Activations are raised first, then weights, each in the order of execution.

    Raises:
        PolicyError: no policy of equal bits fits, or the layers learned no bit-width in common.
    """
    pairs = [
        LayerBits(*pair)
        for pair in itertools.product(_shared(indicators.weight_steps), _shared(indicators.activation_steps))
        if fits(_uniform(indicators, *pair))
    ]
    if not pairs:
        raise PolicyError(_NO_EQUAL_BITS_FIT)
    largest = [pair for pair in pairs if not any(_is_larger(other, pair) for other in pairs)]
    layers = list(indicators.weight_steps)
    order = [(name, (kind,)) for kind in reversed(BITS_KINDS) for name in layers]
    return [_raised(indicators, _uniform(indicators, pair.weight, pair.activation), order, fits) for pair in largest]


def random_policy(indicators: Indicators, fits: Fits, seed: int) -> Policy:
    """Return bits drawn at random, lowered at random until they fit, then raised at random until nothing more fits.

    Weight and activation bits of a layer are drawn independently, whatever `apart` says.

    Raises:
        PolicyError: the policy of the fewest bits does not fit.
    """
    any_distance = replace(indicators, apart=None)
    learned, _ = any_distance.without_outliers
    # Of `learned` it would leave out what is an outlier beside the bits that are left.
    if not fits(any_distance.fewest_bits()):
        raise PolicyError(_FEWEST_DO_NOT_FIT)
    draw = random.Random(f"policy {seed}")
    choices: list[LayerKinds] = [(name, (kind,)) for name in learned.weight_steps for kind in BITS_KINDS]
    layers = {
        name: cost.fixed
        or LayerBits(
            draw.choice(sorted(learned.weight_steps[name])), draw.choice(sorted(learned.activation_steps[name]))
        )
        for name, cost in learned.costs.items()
    }
    policy = Policy(learned.model, layers, learned.input_size)
    while not fits(policy):
        policy = _moved(learned, policy, *draw.choice(choices), by=-1) or policy
    policy_before = None
    while policy != policy_before:
        policy_before = policy
        policy = _raised(learned, policy, draw.sample(choices, len(choices)), fits)
    return policy


def reversed_importance(indicators: Indicators) -> Indicators:
    """Return the indicators with the importance of the layers turned round: a search in them should do badly.

    Layers are ranked by the sum of their steps, weights and activations apart; the first takes the steps of the last,
    the second those of the last but one. Layers that learned other bit-widths are ranked apart.

    Source: LIMPQ (ECCV 2022), its ablation with reversed importance.
    """
    by_steps = indicators.using("learned") if indicators.objective == "measured" else indicators
    return replace(
        by_steps,
        weight_steps=_turned_round(indicators.weight_steps),
        activation_steps=_turned_round(indicators.activation_steps),
        divergences={},
    )


def _uniform(indicators: Indicators, weight: int, activation: int) -> Policy:
    return Policy.uniform(indicators.model, indicators.costs, weight, activation, indicators.input_size)


def _shared(*steps: Steps) -> list[int]:
    """Return the bit-widths that every layer learned, most bits first."""
    bit_widths = [set(of_layer) for of_kind in steps for of_layer in of_kind.values()]
    shared = set.intersection(*bit_widths) if bit_widths else set()
    if not shared:
        raise PolicyError(
            "the layers learned no bit-width in common, so no policy has equal bits; compare with a random one"
        )
    return sorted(shared, reverse=True)


def _is_larger(bits: LayerBits, other: LayerBits) -> bool:
    return bits != other and bits.weight >= other.weight and bits.activation >= other.activation


def _raised(indicators: Indicators, policy: Policy, order: Iterable[LayerKinds], fits: Fits) -> Policy:
    """Return `policy` with each of `order` raised by one candidate, one after the other, where the result fits."""
    for name, kinds in order:
        higher = _moved(indicators, policy, name, kinds, by=1)
        if higher and fits(higher):
            policy = higher
    return policy


def _moved(indicators: Indicators, policy: Policy, name: str, kinds: tuple[BitsKind, ...], *, by: int) -> Policy | None:
    """Return `policy` with one layer's bits moved by so many candidates, or None if there is no such candidate."""
    bits = policy.layers[name]
    for kind in kinds:
        steps = indicators.weight_steps if kind == "weight" else indicators.activation_steps
        candidates = sorted(steps[name])
        place = candidates.index(getattr(bits, kind)) + by
        if not 0 <= place < len(candidates):
            return None
        bits = replace(bits, **{kind: candidates[place]})
    return replace(policy, layers=dict(policy.layers) | {name: bits})


def _turned_round(steps: Steps) -> Steps:
    """Return for each layer the steps of the one at the other end of the ranking."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, of_layer in steps.items():
        groups.setdefault(tuple(sorted(of_layer)), []).append(name)
    opposite: dict[str, str] = {}
    for names in groups.values():
        ranked = sorted(names, key=lambda name: sum(steps[name].values()))
        opposite |= dict(zip(ranked, reversed(ranked), strict=True))
    return {name: steps[opposite[name]] for name in steps}
