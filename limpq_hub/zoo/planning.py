"""search(), frontier() and baselines(), and what they need to know of a model: the torch-free half of the pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from limpq_hub.errors import UnknownModelError, quoted
from limpq_hub.plan import optimum
from limpq_hub.plan.baseline_policies import policies_to_compare
from limpq_hub.plan.budget import Budget, Limits, LimitsBesideBitops, split_limits
from limpq_hub.plan.costs import Counting
from limpq_hub.plan.frontier_search import search_frontier
from limpq_hub.plan.importance import Importance, asked_distance
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_groups import Candidates, Pins
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.searched_weights import searched_weights

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Objective(TypedDict, total=False):
    """What the objective and the BitOps of a policy are counted by."""

    alpha: float | None
    counting: Counting


class Choices(Objective, total=False):
    """What a search chooses from, and how long it may take."""

    importance: Importance | None
    apart: int | None
    candidates: Candidates | None
    pin: Pins | None
    exclude: Iterable[str] | None
    tie: Iterable[Iterable[str]] | None
    time_limit_s: float
    allow_gap: str | float | None


class SearchOptions(Limits, Choices, total=False):
    """The keyword arguments of `search`, and of `load` after its own."""


class FrontierOptions(LimitsBesideBitops, Choices, total=False):
    """The keyword arguments of `frontier` after its own."""


class BaselineOptions(Limits, Objective, total=False):
    """The keyword arguments of `baselines` after its own."""

    time_limit_s: float
    allow_gap: str | float | None


def search(model: str | os.PathLike[str] | Indicators, **options: Unpack[SearchOptions]) -> Plan:
    """Return the policy with the least sum of importance within a budget, proven optimal.

    It takes milliseconds, and neither torch nor images. The guide to constraints and counting: `limpq_hub.plan`.

    Args:
        model: name of an entry ("resnet18", "local-dir:path", "hf-hub:owner/name", "hf-hub:owner/name@revision"; the
            token and the cache are those of HF_TOKEN and HF_HUB_CACHE), path to an `indicators.json`, or `Indicators`.
        options: by keyword; at least one of the limits, which come first here.

    Keyword Args:
        bitops: BitOps per image, first and last layer included: "3G", 2.5e9, or "w3a4" for that uniform policy's.
        size: bytes of all quantized weights: "4.5MB", "4.5MiB".
        compression: 32-bit size of the weights divided by their size, at least: 12.2 or "12.2x".
        activation_memory: bytes of the largest layer input.
        latency: (table, limit): table[layer][weight bits, activation bits] is a time; or the path of a CSV file of
            layer, weight_bits, activation_bits, time; of `limpq measure-latency`, in milliseconds: "2ms". Or that
            of a numpy file of layers x 8 weight bits x 8 activation bits, in the order of execution.
        energy: (table, limit), as `latency`; the column of its CSV file is energy.
        alpha: factor of the weight importance in the objective, where learned steps are added up; the entry's own if
            None.
        importance: "learned" adds up learned step sizes, "coupled" the root of the sum of squares of both of a layer,
            that of the weights times alpha, "measured" what `limpq measure` found of each pair of bits; the entry's own
            if None.
        apart: how far apart the weight and the activation bits of a layer may be: 0 for equal bits, as most hardware
            has them, 6 for any. If None, what the entry says for its own importance, and any for another.
        candidates: bit-widths that may be used, or by shell pattern {"layer4.*": [4, 6]}; all learned ones if None.
        pin: (weight bits, activation bits) by shell pattern over layer names, a later one winning.
        exclude: shell patterns of layers that keep their most bits, unless they are pinned.
        tie: groups of shell patterns; the layers of a group get the same bits.
        counting: "exact", which is used if none is given, or "limpq" to compare with published budgets.
        time_limit_s: seconds after which the search gives up, up to a day; 10 if not given.
        allow_gap: where a proof takes long, how much above the proven bound the objective may be, as a share of it:
            0.01 or "1%". Such a plan has `optimal` False, and its `bound`.

    Raises:
        BudgetError: no budget, or one that is malformed.
        InfeasibleBudgetError: no policy meets it; says the nearest one that can be met, see `InfeasibleBudgetError`.
        PolicyError: a pattern matches nothing, or bits that were not learned are asked for.
        SearchError: no proven optimum within `time_limit_s`, and no policy within `allow_gap`; names one that would do.
        UnknownModelError: no model has this name.
        ArtifactError: a file of it is damaged.
        HubError: the Hub does not give it.
    """
    options = _given("search", options, SearchOptions)
    limits, choices = split_limits(options)
    budget = Budget(**limits)  # a malformed budget is told before a model is looked for
    return optimum.search(indicators_of(model), budget, **choices)


def frontier(
    model: str | os.PathLike[str] | Indicators, *, points: int = 100, **options: Unpack[FrontierOptions]
) -> list[Plan]:
    """Return the best plans over the whole range of BitOps, ascending, their objectives falling.

    Args:
        model: as in `search`.
        points: how many budgets, 2 to 10,000, evenly apart from the least to the most BitOps; plans that another one
            beats in BitOps without a worse objective are left out.
        options: every keyword of `search` but `bitops`: limits that every plan must meet as well, and choices;
            `time_limit_s` is for all plans together, 60 if not given.

    Raises:
        BudgetError: `points` is not a whole number from 2 to 10,000, or a budget is malformed.
        InfeasibleBudgetError: no policy meets the other constraints.
        UnknownModelError: no model has this name.
    """
    options = _given("frontier", options, FrontierOptions)
    limits, choices = split_limits(options)
    given = {name: limit for name, limit in limits.items() if limit is not None}
    budget = Budget(**given) if given else None
    return search_frontier(indicators_of(model), points, budget=budget, **choices)


def baselines(
    model: str | os.PathLike[str] | Indicators, *, seed: int = 0, **options: Unpack[BaselineOptions]
) -> dict[str, Policy]:
    """Return policies within the same budget that a search should beat.

    Keys: "uniform" (the largest policy of equal bits), "uniform filled" (layers raised until the budget is full),
    "random", "reversed" (the search in reversed importance), and, where the entry holds its float network and no
    product of activations is searched, "sensitivity" (the search that lowers the relative rounding error of the
    weights).

    Args:
        model: as in `search`.
        seed: of the random policy.
        options: the limits, `alpha`, `counting` and `allow_gap` of `search`; `time_limit_s` for all policies together,
            60 if not given.

    Raises:
        BudgetError: no budget, or one that is malformed.
        InfeasibleBudgetError: no policy meets it.
        UnknownModelError: no model has this name.
    """
    options = _given("baselines", options, BaselineOptions)
    limits, objective = split_limits(options)
    budget = Budget(**limits)
    if isinstance(model, Indicators) or is_indicator_file(model):
        return baselines_within(budget, indicators_of(model), seed=seed, **objective)
    return baselines_within(budget, find_entry(model), seed=seed, **objective)


def baselines_within(
    budget: Budget, source: Entry | Indicators, *, seed: int = 0, **objective: Any
) -> dict[str, Policy]:
    """Return what `baselines` returns of an entry that was found already, or of indicators alone.

    Args:
        objective: `alpha`, `counting`, `allow_gap` and `time_limit_s` of `baselines`.
    """
    if isinstance(source, Indicators):
        return policies_to_compare(source, budget, seed=seed, weights=None, **objective)
    return policies_to_compare(source.indicators, budget, seed=seed, weights=searched_weights(source), **objective)


def indicators_of(model: str | os.PathLike[str] | Indicators) -> Indicators:
    """Return the indicators of a name, of an `indicators.json` file, or as they are.

    Raises:
        UnknownModelError: no model has this name, or there is no such file.
        ArtifactError: the entry or the file is damaged or malformed.
        HubError: the Hub does not give the entry.
    """
    if isinstance(model, Indicators):
        return model
    if is_indicator_file(model):
        if not os.path.exists(model) or os.path.isdir(model):
            raise UnknownModelError(f"there is no file {quoted(str(model))}; give the path of an indicators.json")
        return Indicators.load(model)
    return find_entry(model).indicators


def is_indicator_file(model: object) -> bool:
    """Return whether a model is given by the path of its `indicators.json`, and not by the name of an entry."""
    return str(model).endswith(".json") and not str(model).startswith(("local-dir:", "hf-hub:"))


def options_in_effect(indicators: Indicators, options: Mapping[str, Any], *, proven: bool) -> dict[str, Any]:
    """Return the keywords of a search that its plans depend on.

    Left out are what is None or the indicators' own anyway, the time limit, a gap that was allowed but not used, and
    alpha where measured pairs are added up.

    Args:
        proven: whether every plan is proven optimal.
    """
    importance = options.get("importance") or indicators.objective
    apart = indicators.apart if importance == indicators.objective else None
    own = {
        "alpha": indicators.alpha,
        "counting": "exact",
        "importance": indicators.objective,
        "apart": asked_distance(apart),
    }
    unused = {"time_limit_s", *(["allow_gap"] if proven else []), *(["alpha"] if importance == "measured" else [])}
    return {
        key: value
        for key, value in options.items()
        if value is not None and key not in unused and (key not in own or value != own[key])
    }


def _given(function: str, options: Any, known: type) -> Any:
    """Return the keywords that were given, None being as if not; `TypeError` unless a `TypedDict` names them all."""
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return {name: value for name, value in options.items() if value is not None}
