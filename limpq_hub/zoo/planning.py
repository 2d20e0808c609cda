"""search(), frontier() and baselines(), and what they need to know of a model: the torch-free half of the pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from limpq_hub.errors import UnknownModelError, shown
from limpq_hub.plan import optimum
from limpq_hub.plan.baseline_policies import policies_to_compare
from limpq_hub.plan.budget import Budget, Latency
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.frontier_search import ANY_BITOPS, search_frontier
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_groups import Candidates
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.float_file import FLOAT, float_weights


class SearchOptions(TypedDict, total=False):
    """The keyword arguments of `search`, for functions that pass them on."""

    bitops: str | float | None
    size: str | int | None
    compression: str | float | None
    activation_memory: str | int | None
    latency: Latency | None
    alpha: float | None
    candidates: Candidates | None
    pin: Mapping[str, tuple[int, int]] | None
    exclude: Iterable[str] | None
    tie: Iterable[Iterable[str]] | None
    counting: Counting
    time_limit_s: float


def search(
    model: str | os.PathLike[str] | Indicators,
    *,
    bitops: str | float | None = None,
    size: str | int | None = None,
    compression: str | float | None = None,
    activation_memory: str | int | None = None,
    latency: Latency | None = None,
    alpha: float | None = None,
    candidates: Candidates | None = None,
    pin: Mapping[str, tuple[int, int]] | None = None,
    exclude: Iterable[str] | None = None,
    tie: Iterable[Iterable[str]] | None = None,
    counting: Counting = "exact",
    time_limit_s: float = 10,
) -> Plan:
    """Return the best policy within a budget, proven; in milliseconds, without torch and without images.

    Args:
        model: name of an entry ("resnet18", "local-dir:path", "hf-hub:owner/name", "hf-hub:owner/name@revision"; the
            token and the cache are those of HF_TOKEN and HF_HUB_CACHE), path to an `indicators.json`, or `Indicators`.
        bitops: BitOps per image, first and last layer included: "3G", 2.5e9, or "w3a4" for that uniform policy's.
        size: bytes of all quantized weights: "4.5MB", "4.5MiB".
        compression: 32-bit size of the weights divided by their size, at least: 12.2 or "12.2x".
        activation_memory: bytes of the largest layer input.
        latency: (table, limit): table[layer][weight bits, activation bits] is a time; or the path of a CSV file of
            layer, weight_bits, activation_bits, time.
        alpha: factor of the weight importance in the objective; the entry's own if None.
        candidates: bit-widths that may be used, or by shell pattern {"layer4.*": [4, 6]}; all learned ones if None.
        pin: (weight bits, activation bits) by shell pattern over layer names.
        exclude: shell patterns of layers that keep their most bits.
        tie: groups of shell patterns; the layers of a group get the same bits.
        counting: "exact", or "limpq" to compare with published budgets.
        time_limit_s: seconds after which the search gives up.

    Raises:
        BudgetError: no budget, or one that is malformed.
        InfeasibleBudgetError: no policy meets it; `.minimum` does.
        PolicyError: a pattern matches nothing, or bits that were not learned are asked for.
        SearchError: no proven optimum within `time_limit_s`.
        UnknownModelError: no model has this name.
        ArtifactError: a file of it is damaged.
        HubError: the Hub does not give it.
    """
    budget = Budget(bitops, size, compression, activation_memory, latency)
    return optimum.search(
        indicators_of(model),
        budget,
        alpha=alpha,
        candidates=candidates,
        pin=pin,
        exclude=exclude,
        tie=tie,
        counting=counting,
        time_limit_s=time_limit_s,
    )


def frontier(
    model: str | os.PathLike[str] | Indicators,
    *,
    points: int = 100,
    size: str | int | None = None,
    compression: str | float | None = None,
    activation_memory: str | int | None = None,
    latency: Latency | None = None,
    alpha: float | None = None,
    candidates: Candidates | None = None,
    pin: Mapping[str, tuple[int, int]] | None = None,
    exclude: Iterable[str] | None = None,
    tie: Iterable[Iterable[str]] | None = None,
    counting: Counting = "exact",
    time_limit_s: float = 10,
) -> list[Plan]:
    """Return the best plans over the whole range of BitOps, ascending, their objectives falling.

    Args:
        model: as in `search`.
        points: how many budgets, evenly apart from the least to the most BitOps; plans that another one beats in BitOps
            without a worse objective are left out.
        size, compression, activation_memory, latency: what every plan must meet as well.
        alpha, candidates, pin, exclude, tie, counting: as in `search`.
        time_limit_s: for each plan.

    Raises:
        BudgetError: `points` is not a whole number of at least 2, or a budget is malformed.
        InfeasibleBudgetError: no policy meets the other constraints.
        UnknownModelError: no model has this name.
    """
    budget = Budget(ANY_BITOPS, size, compression, activation_memory, latency)
    return search_frontier(
        indicators_of(model),
        points,
        budget=budget,
        alpha=alpha,
        candidates=candidates,
        pin=pin,
        exclude=exclude,
        tie=tie,
        counting=counting,
        time_limit_s=time_limit_s,
    )


def baselines(
    model: str | os.PathLike[str] | Indicators,
    *,
    bitops: str | float | None = None,
    size: str | int | None = None,
    compression: str | float | None = None,
    activation_memory: str | int | None = None,
    latency: Latency | None = None,
    seed: int = 0,
    alpha: float | None = None,
    counting: Counting = "exact",
) -> dict[str, Policy]:
    """Return policies within the same budget that a search should beat.

    Keys: "uniform" (the largest policy of equal bits), "uniform filled" (layers raised until the budget is full),
    "random", "reversed" (the search in reversed importance), and, where the entry holds its float network,
    "sensitivity" (the search that lowers the relative rounding error of the weights).

    Args:
        model, bitops, size, compression, activation_memory, latency, alpha, counting: as in `search`.
        seed: of the random policy.

    Raises:
        BudgetError: no budget, or one that is malformed.
        InfeasibleBudgetError: no policy meets it.
        UnknownModelError: no model has this name.
    """
    budget = Budget(bitops, size, compression, activation_memory, latency)
    indicators, weights = indicators_of(model), None
    if not isinstance(model, Indicators) and not str(model).endswith(".json"):
        folder = find_entry(model).folder
        weights = float_weights(folder, indicators.costs) if FLOAT in folder.files else None
    return policies_to_compare(indicators, budget, seed=seed, alpha=alpha, counting=counting, weights=weights)


def indicators_of(model: str | os.PathLike[str] | Indicators) -> Indicators:
    """Return the indicators of a name, of an `indicators.json` file, or as they are.

    Raises:
        UnknownModelError: no model has this name, or there is no such file.
        ArtifactError: the entry or the file is damaged or malformed.
        HubError: the Hub does not give the entry.
    """
    if isinstance(model, Indicators):
        return model
    if str(model).endswith(".json"):
        if not Path(model).is_file():
            raise UnknownModelError(f"there is no file {shown(str(model))}; give the path of an indicators.json")
        return Indicators.load(model)
    return find_entry(model).indicators
