"""What a search decides on: groups of layers that get the same bits, and the bits each group may get."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from limpq_hub.errors import PolicyError, quoted
from limpq_hub.plan.deadline import NEVER, until
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits, near_pairs
from limpq_hub.plan.outliers import Outlier
from limpq_hub.plan.quantities import python_integer

Pins = Mapping[str, tuple[int, int]]
Candidates = Collection[int] | Mapping[str, Collection[int]]


@dataclass(frozen=True)
class LayerGroup:
    """Layers that get the same bits, and the bits they may get."""

    layers: tuple[str, ...]
    options: tuple[LayerBits, ...]


def group_layers(
    indicators: Indicators,
    *,
    outliers: Iterable[Outlier] = (),
    candidates: Candidates | None = None,
    pin: Pins | None = None,
    exclude: Iterable[str] | None = None,
    tie: Iterable[Iterable[str]] | None = None,
    apart: int | None = None,
    deadline: float = NEVER,
) -> list[LayerGroup]:
    """Return the groups of a search: single layers, or tied ones together.

    Args:
        outliers: bits that are no choice, unless `candidates` leaves a layer nothing else.
        candidates: bit-widths that may be used, or by layer pattern, a later one winning; None for all that were
            learned.
        pin: (weight bits, activation bits) by layer pattern, a later one winning.
        exclude: patterns of layers that keep their most bits, unless they are pinned.
        tie: groups of patterns; the layers of a group get the same bits.
        apart: how far apart the weight and the activation bits of a layer may be, unless it has no such pair or is
            pinned; None for any.
        deadline: when to give up, by `time.monotonic`.

    Raises:
        PolicyError: a pattern matches no searched layer, or bits that were not learned, or are left out, are asked for.
        SearchError: the time is over.
    """
    excluded = _patterns("exclude", exclude)
    ties = [_patterns("tie", patterns) for patterns in _listed("tie", tie)]
    if pin is not None and not isinstance(pin, Mapping):
        raise PolicyError(f'pin={quoted(pin)}: give bits by pattern, for example {{"layer4.*": (4, 4)}}')
    searched = [name for name, cost in indicators.costs.items() if cost.fixed is None]
    allowed = _allowed(searched, indicators.candidates, candidates, deadline)
    left_out: dict[str, list[Outlier]] = {}
    for outlier in outliers:
        left_out.setdefault(outlier.layer, []).append(outlier)
    settled = {name: cost.fixed for name, cost in indicators.costs.items() if cost.fixed}
    for pattern, bits in until(deadline, (pin or {}).items()):
        for name in _matching("pin", pattern, searched):
            settled[name] = _pinned(indicators, name, pattern, bits, left_out.get(name, ()))
    options = {
        name: (settled[name],)
        if name in settled
        else _options(indicators, name, allowed[name], left_out.get(name, ()), apart, isinstance(candidates, Mapping))
        for name in until(deadline, indicators.costs)
    }
    for pattern in until(deadline, excluded):
        for name in _matching("exclude", pattern, searched):
            options[name] = (max(options[name]),)
    tied = [[name for pattern in patterns for name in _matching("tie", pattern, searched)] for patterns in ties]
    return _merged(options, tied, deadline)


def _merged(
    options: Mapping[str, tuple[LayerBits, ...]], tied: Iterable[Sequence[str]], deadline: float
) -> list[LayerGroup]:
    """Return single layers, and tied ones together, each group with the bits that all of its layers may get."""
    # Each layer starts as a group of its own, known by its own name; a tie merges the groups of its layers.
    leader = {name: name for name in options}
    for names in until(deadline, tied):
        joined = {leader[name] for name in names}
        leader = {name: names[0] if first in joined else first for name, first in leader.items()}
    members: dict[str, list[str]] = {}
    for name, first in leader.items():
        members.setdefault(first, []).append(name)
    groups = []
    for layers in members.values():
        shared = options[layers[0]]
        for name in layers[1:]:
            shared = tuple(bits for bits in shared if bits in options[name])
        if not shared:
            raise PolicyError(
                f"tied layers {', '.join(layers)} have no bit-widths in common; untie or unpin one of them"
            )
        groups.append(LayerGroup(tuple(layers), shared))
    return groups


def _allowed(
    searched: Sequence[str], learned: Sequence[int], candidates: Candidates | None, deadline: float
) -> dict[str, Collection[int]]:
    """Return the bit-widths that each searched layer may use."""
    if candidates is None:
        return dict.fromkeys(searched, learned)
    by_pattern = candidates if isinstance(candidates, Mapping) else {"*": candidates}
    if not by_pattern:
        raise PolicyError("candidates: no pattern was given; leave it out, or name layers")
    allowed: dict[str, Collection[int]] = dict.fromkeys(searched, learned)
    for pattern, widths in until(deadline, by_pattern.items()):
        if not isinstance(widths, Collection):
            raise PolicyError(f"candidates={quoted(widths)}: give a list of bit-widths, for example [2, 4]")
        chosen = tuple(bits for bits in map(python_integer, widths) if bits is not None and bits in learned)
        if not chosen or len(chosen) < len(widths):
            choices = ", ".join(map(str, learned))
            raise PolicyError(f"candidates={quoted(widths)}: choose from the learned bit-widths {choices}")
        allowed |= dict.fromkeys(_matching("candidates", pattern, searched), chosen)
    return allowed


def _options(
    indicators: Indicators,
    name: str,
    allowed: Collection[int],
    left_out: Sequence[Outlier],
    apart: int | None,
    by_pattern: bool,
) -> tuple[LayerBits, ...]:
    """Return the bits that a layer may get: of those allowed, outliers or bits far apart only for want of others.

    Args:
        by_pattern: whether the candidates were given by pattern, and not one list for all layers.
    """
    choices = []
    learned = {"weight": indicators.weight_steps[name], "activation": indicators.activation_steps[name]}
    for kind, steps in learned.items():
        within = set(steps).intersection(allowed)
        within = within.difference(outlier.bits for outlier in left_out if outlier.kind == kind) or within
        if not within:
            lacking = [max(of_kind) for of_kind in learned.values() if not set(of_kind).intersection(allowed)]
            entry = f"{name!r}: {sorted({*allowed, *lacking})}"
            advice = f"add {{{entry}}} at the end of" if by_pattern else f"give {{'*': {sorted(allowed)}, {entry}}} as"
            raise PolicyError(
                f"layer {quoted(name)} has no bit-width left among candidates={quoted(sorted(allowed))}: its {kind} "
                f"steps were learned at {', '.join(map(str, sorted(steps)))} bits; allow one of them for it too: "
                f"{advice} candidates"
            )
        choices.append(tuple(sorted(within)))
    weights, activations = choices
    return near_pairs(weights, activations, apart)


def _pinned(indicators: Indicators, name: str, pattern: str, bits: Any, left_out: Sequence[Outlier]) -> LayerBits:
    try:
        weight, activation = ((python_integer(one) or one) for one in bits)
    except (TypeError, ValueError):
        raise PolicyError(f"pin {quoted(pattern)}: give (weight bits, activation bits), found {quoted(bits)}") from None
    try:
        pinned = LayerBits(weight, activation)
        indicators.importance(name, pinned, indicators.alpha)
    except PolicyError as error:
        raise PolicyError(f"pin {quoted(pattern)}: {error}") from None
    for outlier in left_out:
        if getattr(pinned, outlier.kind) == outlier.bits:
            steps = indicators.weight_steps if outlier.kind == "weight" else indicators.activation_steps
            banned = {other.bits for other in left_out if other.kind == outlier.kind}
            others = ", ".join(str(width) for width in sorted(steps[name]) if width not in banned)
            raise PolicyError(
                f"pin {quoted(pattern)}: layer {quoted(name)} learned a smaller {outlier.kind} step at {outlier.bits} "
                f"bits than at more, so these are left out as an outlier; choose from {others}"
            )
    return pinned


def _listed(argument: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        alone = ", not text" if isinstance(value, str) else ""
        raise PolicyError(f"{argument}={quoted(value)}: give a list of patterns{alone}")
    return list(value)


def _patterns(argument: str, value: Any) -> list[str]:
    patterns = _listed(argument, value)
    if value is not None and not patterns:
        raise PolicyError(f"{argument}: an empty list of patterns; leave it out, or name layers")
    return patterns


def _matching(argument: str, pattern: Any, names: Sequence[str]) -> list[str]:
    """Return the searched layers whose names match a pattern."""
    if not isinstance(pattern, str):
        raise PolicyError(f"{argument}: {quoted(pattern)} is not a pattern over layer names, for example 'layer4.*'")
    matching = [name for name in names if fnmatchcase(name, pattern)]
    if not names:
        raise PolicyError(f"{argument} {quoted(pattern)}: this network has no searched layer; leave it out")
    if not matching:
        raise PolicyError(
            f"{argument} {quoted(pattern)} matches no searched layer; the layers are {', '.join(names[:4])}, ..."
        )
    return matching
