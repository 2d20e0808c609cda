"""Builders of small networks, and the brute force that every search is compared with."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.policy import LayerBits

Steps = Mapping[str, Mapping[int, float]]


class Outcomes(NamedTuple):
    """Every possible policy of a small network: what each costs, in the same order.

    Attributes:
        objective: float64; the others are exact.
    """

    objective: np.ndarray
    bitops: np.ndarray
    size_bits: np.ndarray
    latency: np.ndarray


@pytest.fixture
def network() -> Callable[..., Indicators]:
    """Return a function that builds `Indicators` from step sizes by layer name and bit-width."""

    def build(
        weight_steps: Steps,
        activation_steps: Steps | None = None,
        *,
        macs: Mapping[str, int] | int = 1000,
        macs_limpq: Mapping[str, int] | None = None,
        weights: Mapping[str, int] | int = 100,
        inputs: Mapping[str, int] | int = 64,
        fixed: Mapping[str, tuple[int, int]] | None = None,
        alpha: float = 2.0,
    ) -> Indicators:
        fixed = fixed or {}

        def of(counts: Mapping[str, int] | int, name: str) -> int:
            return counts if isinstance(counts, int) else counts[name]

        costs = {
            name: LayerCost(
                macs=of(macs, name),
                macs_limpq=of(macs_limpq or macs, name),
                weights=of(weights, name),
                inputs=of(inputs, name),
                signed=False,
                fixed=LayerBits(*fixed[name]) if name in fixed else None,
            )
            for name in dict.fromkeys([*weight_steps, *fixed])
        }
        return Indicators(
            model="toynet",
            input_size=32,
            num_classes=10,
            costs=costs,
            weight_steps=weight_steps,
            activation_steps=weight_steps if activation_steps is None else activation_steps,
            alpha=alpha,
        )

    return build


@pytest.fixture
def random_network(network) -> Callable[..., Indicators]:
    """Return a function that draws a network whose steps shrink with every bit, so that nothing is an outlier."""

    def build(
        rng: random.Random,
        *,
        layers: int = 4,
        candidates: Sequence[int] = (2, 3, 4),
        largest: int = 10**6,
        unit: int = 1,
    ) -> Indicators:
        names = [f"layer{index}" for index in range(layers)]

        def counts() -> dict[str, int]:
            return {name: unit * rng.randint(1, largest) for name in [*names, "head"]}

        def steps() -> dict[str, dict[int, float]]:
            drawn = {name: sorted((rng.lognormvariate(-4, 1) for _ in candidates), reverse=True) for name in names}
            return {name: dict(zip(sorted(candidates), of_layer, strict=True)) for name, of_layer in drawn.items()}

        return network(
            steps(),
            steps(),
            macs=counts(),
            weights=counts(),
            inputs=counts(),
            fixed={"head": (8, 8)},
            alpha=rng.choice([1.0, 2.0, 3.0]),
        )

    return build


@pytest.fixture
def every_policy() -> Callable[..., Outcomes]:
    """Return a function that counts every policy of a network without outliers, by the formulas of the paper."""

    def enumerate_all(
        indicators: Indicators, table: Mapping[str, Mapping[tuple[int, int], int]] | None = None
    ) -> Outcomes:
        columns = [np.zeros(1), *(np.zeros(1, dtype=np.int64) for _ in range(3))]
        for name, cost in indicators.costs.items():
            times = (table or {}).get(name)
            if cost.fixed:
                options = [(0.0, cost.fixed.weight, cost.fixed.activation)]
            else:
                options = [
                    (activation_step + indicators.alpha * weight_step, weight, activation)
                    for weight, weight_step in indicators.weight_steps[name].items()
                    for activation, activation_step in indicators.activation_steps[name].items()
                ]
            of_layer = (
                np.array([importance for importance, _, _ in options]),
                np.array([cost.macs * weight * activation for _, weight, activation in options]),
                np.array([cost.weights * weight for _, weight, _ in options]),
                np.array([times[weight, activation] if times else 0 for _, weight, activation in options]),
            )
            columns = [np.add.outer(so_far, added).ravel() for so_far, added in zip(columns, of_layer, strict=True)]
        return Outcomes(*columns)

    return enumerate_all


@pytest.fixture
def one_less() -> Callable[[str], str]:
    """Return a function that lowers the last digit of a budget text by one: "14.37G" to "14.36G"."""

    def lowered(text: str, by: int = 1) -> str:
        number = text.rstrip("BGKMTkx")
        places = len(number.partition(".")[2])
        value = Fraction(number) - Fraction(by, 10**places)
        return f"{float(value):.{places}f}{text[len(number) :]}"

    return lowered
