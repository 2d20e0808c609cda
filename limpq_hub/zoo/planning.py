"""search() and frontier(), and what they need to know of a model: the torch-free half of the pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from limpq_hub.errors import UnknownModelError, shown
from limpq_hub.plan import optimum
from limpq_hub.plan.budget import Budget, LatencyTable
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.pareto import pareto_front
from limpq_hub.plan.result import Plan
from limpq_hub.zoo.catalog import find_entry


class SearchOptions(TypedDict, total=False):
    """The keyword arguments of `search`, for functions that pass them on."""

    bitops: str | float | None
    size: str | int | None
    compression: str | float | None
    activation_memory: str | int | None
    latency: tuple[LatencyTable, float] | None
    alpha: float | None
    candidates: Sequence[int] | None
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
    latency: tuple[LatencyTable, float] | None = None,
    alpha: float | None = None,
    candidates: Sequence[int] | None = None,
    pin: Mapping[str, tuple[int, int]] | None = None,
    exclude: Iterable[str] | None = None,
    tie: Iterable[Iterable[str]] | None = None,
    counting: Counting = "exact",
    time_limit_s: float = 10,
) -> Plan:
    """Return the best policy within a budget, proven; in milliseconds, without torch and without images.

    Args:
        model: name of an entry ("resnet18"), path to an `indicators.json`, or `Indicators`.
        bitops: BitOps per image, first and last layer included: "3G", 2.5e9, or "w3a4" for that uniform policy's.
        size: bytes of all quantized weights: "4.5MB", "4.5MiB".
        compression: 32-bit size of the weights divided by their size, at least: 12.2 or "12.2x".
        activation_memory: bytes of the largest layer input.
        latency: (table, limit): table[layer][weight bits, activation bits] is a time.
        alpha: factor of the weight importance in the objective; the entry's own if None.
        candidates: bit-widths that may be used; all that were learned if None.
        pin: (weight bits, activation bits) by shell pattern over layer names.
        exclude: shell patterns of layers that keep their most bits.
        tie: groups of shell patterns; the layers of a group get the same bits.
        counting: "exact", or "limpq" to compare with published budgets.
        time_limit_s: seconds after which the search gives up.

    Raises:
        BudgetError: no budget, or one that is malformed.
        InfeasibleBudgetError: no policy meets it; `.minimum` does.
        UnknownModelError: no model has this name.
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
    alpha: float | None = None,
    counting: Counting = "exact",
) -> list[Plan]:
    """Return the best plans over the whole range of budgets, BitOps ascending and objectives falling.

    Args:
        model: as in `search`.
        points: how many budgets, evenly apart from the least to the most BitOps; plans that another one beats in BitOps
            without a worse objective are left out.
        alpha: factor of the weight importance in the objective; the entry's own if None.
        counting: "exact", or "limpq" to compare with published budgets.

    Raises:
        BudgetError: `points` is not a whole number of at least 2.
        UnknownModelError: no model has this name.
    """
    return pareto_front(indicators_of(model), points, alpha=alpha, counting=counting)


def indicators_of(model: str | os.PathLike[str] | Indicators) -> Indicators:
    """Return the indicators of a name, of an `indicators.json` file, or as they are."""
    if isinstance(model, Indicators):
        return model
    if str(model).endswith(".json"):
        if not Path(model).is_file():
            raise UnknownModelError(f"there is no file {shown(str(model))}; give the path of an indicators.json")
        return Indicators.load(model)
    return find_entry(model).indicators
