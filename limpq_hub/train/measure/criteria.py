"""Criteria that give each pair of bits of each layer a cost, ours and those of others; a search minimizes the sum."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from limpq_hub.errors import TrainingError, quoted
from limpq_hub.plan.importance import Importance, asked_distance
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import near_pairs
from limpq_hub.plan.outliers import in_order
from limpq_hub.train.measure.gradient_scores import gradient_scores
from limpq_hub.train.measure.hessian_traces import hessian_importance
from limpq_hub.train.measure.pair_costs import PairCosts
from limpq_hub.train.measure.pair_importance import MeasuredWeights, Measuring, measured_layers
from limpq_hub.train.measure.rounding_errors import relative_errors
from limpq_hub.zoo.entry import Entry

# How far apart the bits of the weights and of the activations of a layer may be; None for any.
APART_OF = {"": None, ":near": 1, ":equal": 0}
_WRITTEN = re.compile(r"(?P<sum>[^:]+)(?P<apart>:near|:equal)?")
_MEASURED = re.compile(r"kl-(?P<weights>float|joint)(@(?P<others>[2-8]))?")
_OF_STEPS: Mapping[str, Importance] = {"learned": "learned", "coupled": "coupled"}
_OF_FLOAT_NETWORK: Mapping[str, Callable[..., PairCosts]] = {
    "hessian": hessian_importance,
    "gradient": gradient_scores,
    "error": relative_errors,
}
HELP = (
    "other ways to choose bits, compared as well: learned (step sizes), coupled (the root of the sum of their squares, "
    "weights and activations of a layer), kl-float and kl-joint (KL divergence with one layer alone at each pair of "
    "bits, in the float or in the jointly trained network, all others in float; kl-joint@3: at 3 bits), hessian "
    "(HAWQ-V2: curvature x error), gradient (Model Optimizer: gradient^2 x change^2), error (relative squared error). "
    "A sum such as learned+kl-float adds both on one scale; :near and :equal behind it keep the bits of weights and "
    "activations of a layer at most 1 apart, or equal"
)


def criterion(text: str) -> str:
    """Return a criterion as it was typed.

    Raises:
        TrainingError: there is no such criterion.
    """
    match = _WRITTEN.fullmatch(text)
    for part in match["sum"].split("+") if match else [text]:
        if part not in (*_OF_STEPS, *_OF_FLOAT_NETWORK) and not _MEASURED.fullmatch(part):
            known = ", ".join((*_OF_STEPS, "kl-float", "kl-joint", *_OF_FLOAT_NETWORK))
            raise TrainingError(
                f"criterion {quoted(part)} is not known: use {known}, kl-joint@3 for all other layers at 3 bits, sums "
                "such as learned+kl-float, and :near or :equal behind them"
            )
    return text


def is_divergence(text: str) -> bool:
    """Return whether a criterion is the measured divergence of each pair of bits, in nats, and nothing added to it."""
    return bool(_MEASURED.fullmatch(text.partition(":")[0]))


def needs_images(name: str) -> bool:
    """Return whether a single criterion is measured on images; others are what steps and alpha of the entry say."""
    return name not in _OF_STEPS


def indicators_by(text: str, entry: Entry, table_of: Callable[[str], PairCosts]) -> Indicators:
    """Return the indicators of an entry, measured by a criterion: a search in them adds up what the criterion says.

    Args:
        text: as `criterion` takes it.
        table_of: what a criterion that is no sum gives, such as `table` on some images.

    Raises:
        TrainingError: there is no such criterion.
    """
    added, colon, word = criterion(text).partition(":")
    tables = [table_of(part) for part in added.split("+")]
    summed = tables[0] if len(tables) == 1 else _sum_on_one_scale(tables)
    apart = APART_OF[colon + word]
    others = replace(entry.indicators, divergences=summed, objective="learned")
    return others.using("measured", asked_distance(apart))


def table(name: str, entry: Entry, images: Sequence[Tensor], float_network: nn.Module | None = None) -> PairCosts:
    """Return the cost of each pair of bits of each searched layer by a single criterion, no sum; all at least 0.

    Args:
        images: unlabelled, [batch, 3, height, width] each, normalized.
        float_network: in eval mode, in place of the one that the entry holds; None for that one.

    Raises:
        TrainingError: what was measured is no number.
        UnknownModelError: there is no float network, and one is needed.
    """
    if name in _OF_STEPS:
        return _of_steps(entry.indicators, _OF_STEPS[name])
    if name in _OF_FLOAT_NETWORK:
        supernet, _ = Measuring(entry, images, "float", None, float_network).network()
        return _of_numbers(name, _OF_FLOAT_NETWORK[name](supernet, images))
    match = _MEASURED.fullmatch(name)
    weights: MeasuredWeights = "joint" if match and match["weights"] == "joint" else "float"
    others = int(match["others"]) if match and match["others"] else None
    measuring = Measuring(entry, images, weights, others, float_network)
    return dict(measured_layers(measuring, list(entry.indicators.weight_steps)))


def _of_numbers(name: str, costs: PairCosts) -> PairCosts:
    """Return what a criterion measured; raise `TrainingError` where that is no number."""
    for layer, pairs in costs.items():
        for pair, cost in pairs.items():
            if not math.isfinite(cost):
                raise TrainingError(f"criterion {name} of {layer} at {pair.text} is {cost}: leave out the criterion")
    return costs


def _of_steps(indicators: Indicators, importance: Importance) -> PairCosts:
    """Return the cost of each pair by its learned steps; an outlier counts as the largest step of more bits."""
    raised = replace(
        indicators,
        weight_steps={name: in_order(steps) for name, steps in indicators.weight_steps.items()},
        activation_steps={name: in_order(steps) for name, steps in indicators.activation_steps.items()},
        objective=importance,
    )
    costs = {}
    for name, weight_steps in raised.weight_steps.items():
        pairs = near_pairs(tuple(weight_steps), tuple(raised.activation_steps[name]), None)
        costs[name] = dict(zip(pairs, raised.importances(name, pairs, raised.alpha), strict=True))
    return costs


def _sum_on_one_scale(tables: Sequence[PairCosts]) -> PairCosts:
    """Return the sum of tables, each divided by what it gives on average, over all layers, above each layer's least."""

    def scale(one: PairCosts) -> float:
        """Return the mean of a layer's pairs above its least, summed over the layers; 1 where that is 0."""
        return math.fsum(math.fsum(pairs.values()) / len(pairs) - min(pairs.values()) for pairs in one.values()) or 1.0

    scales = [scale(one) for one in tables]
    return {
        name: {
            pair: math.fsum(one[name][pair] / of_one for one, of_one in zip(tables, scales, strict=True))
            for pair in pairs
        }
        for name, pairs in tables[0].items()
    }
