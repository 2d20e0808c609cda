"""Builders of small networks, and the brute force that every search is compared with."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraints.bitops import BitOps
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.linear_constraint import LinearConstraint
from limpq_hub.plan.solver.programme import Programme

Steps = Mapping[str, Mapping[int, float]]
# A whole number for each option of each group: [groups, options].
Table = Sequence[Sequence[int]]


class Outcomes(NamedTuple):
    """Every possible policy of a small network: what each costs, in the same order.

    Attributes:
        objective: float64; the others are exact.
    """

    objective: np.ndarray
    bitops: np.ndarray
    size_bits: np.ndarray
    latency: np.ndarray


class Best(NamedTuple):
    """The best choice of a programme: the option of each group, what it costs, and its sum in each constraint."""

    choice: list[int]
    cost: int
    sums: list[int]


class Drawn(NamedTuple):
    """A small network drawn at random, every policy of it, and one of these policies.

    Attributes:
        table: latency of each searched layer.
        values: what each policy takes, by constraint, as a budget counts it.
        target: place of the one policy.
    """

    indicators: Indicators
    table: Mapping[str, Mapping[tuple[int, int], int]]
    outcomes: Outcomes
    values: Mapping[str, np.ndarray]
    target: int

    def budget(self, limits: Mapping[str, int]) -> Budget:
        """Return the budget of `limits` by constraint."""
        return Budget(**{kind: (self.table, limit) if kind == "latency" else limit for kind, limit in limits.items()})


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
def equal_layers(network: Callable[..., Indicators]) -> Indicators:
    """Return three equal layers, two of one block, and a fixed head."""
    steps = {name: {2: 0.4, 3: 0.3, 4: 0.2} for name in ("block.conv1", "block.conv2", "down")}
    return network(steps, fixed={"head": (8, 8)})


@pytest.fixture
def random_network(network) -> Callable[..., Indicators]:
    """Return a function that draws a network whose steps shrink with every bit, so that nothing is an outlier."""

    def build(
        rng: random.Random,
        *,
        layers: int = 4,
        candidates: Sequence[int] = (2, 3, 4),
        largest: int = 10**6,
        multiple_of: int = 1,
    ) -> Indicators:
        names = [f"layer{index}" for index in range(layers)]

        def counts() -> dict[str, int]:
            return {name: multiple_of * rng.randint(1, largest) for name in [*names, "head"]}

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
def drawn_network(random_network, every_policy) -> Callable[..., Drawn]:
    """Return a function that draws a network of three to five layers.

    Its `sizes` are the largest count of operations, weights and inputs, and what all of them are multiples of.
    """

    def draw(rng: random.Random, sizes: Sequence[tuple[int, int]]) -> Drawn:
        layers, candidates = rng.choice([(3, (2, 3, 4, 5)), (4, (2, 3, 4)), (4, (2, 4, 6)), (5, (3, 5))])
        largest, multiple_of = rng.choice(sizes)
        indicators = random_network(rng, layers=layers, candidates=candidates, largest=largest, multiple_of=multiple_of)
        pairs = [(weight, activation) for weight in candidates for activation in candidates]
        table = {f"layer{index}": {bits: rng.randint(0, largest) for bits in pairs} for index in range(layers)}
        outcomes = every_policy(indicators, table)
        values = {"bitops": outcomes.bitops, "size": -(-outcomes.size_bits // 8), "latency": outcomes.latency}
        return Drawn(indicators, table, outcomes, values, rng.randrange(len(outcomes.objective)))

    return draw


@pytest.fixture
def programme() -> Callable[..., Programme]:
    """Return a function that builds a `Programme` from costs, coefficients and limits that are plain numbers."""

    def build(costs: Sequence[Sequence[float]], coefficients: Sequence[Table], limits: Sequence[int]) -> Programme:
        return Programme(
            costs,
            [
                LinearConstraint(
                    BitOps(), tuple(map(tuple, table)), limit, requested=Fraction(limit), amount_of=Fraction
                )
                for table, limit in zip(coefficients, limits, strict=True)
            ],
        )

    return build


@pytest.fixture
def random_programme(programme) -> Callable[..., Programme]:
    """Return a function that draws a programme of whole numbers, often with many choices of equal cost.

    The limits are what one choice takes, or one less, and never below the least of the constraint.
    """

    def draw(
        rng: random.Random, constraints: int, largest: Sequence[int] = (1, 3, 10, 1000, 10**6, 10**10)
    ) -> Programme:
        options = [rng.randint(1, 4) for _ in range(rng.randint(1, 6))]

        def table(highest: int) -> list[list[int]]:
            return [[rng.randint(0, highest) for _ in range(of_group)] for of_group in options]

        costs = table(rng.choice((1, 3, 10, 1000, 10**9)))
        coefficients = [table(rng.choice(largest)) for _ in range(constraints)]
        if rng.random() < 0.3:  # every choice that uses up the first limit costs the same
            highest = max(map(max, coefficients[0]))
            costs = [[highest - weight for weight in of_group] for of_group in coefficients[0]]
        target = [rng.randrange(of_group) for of_group in options]
        limits = []
        for of_constraint in coefficients:
            total = sum(of_group[option] for of_group, option in zip(of_constraint, target, strict=True))
            limits.append(max(total - rng.choice((0, 0, 0, 1)), sum(map(min, of_constraint))))
        return programme(costs, coefficients, limits)

    return draw


@pytest.fixture
def best_choice() -> Callable[[Programme], Best | None]:
    """Return a function that tries every choice in whole numbers: the best by the rule of `search`, or None."""

    def best(programme: Programme) -> Best | None:
        def totals(table: Table) -> np.ndarray:
            sums = np.zeros(1, object)
            for of_group in table:
                sums = np.add.outer(sums, np.array(of_group, object)).ravel()  # the last group changes fastest
            return sums

        costs, sums = totals(programme.costs), [totals(of.coefficients) for of in programme.constraints]
        met = [
            (of_constraint <= constraint.limit).astype(bool)
            for of_constraint, constraint in zip(sums, programme.constraints, strict=True)
        ]
        best = np.flatnonzero(np.logical_and.reduce([np.ones(len(costs), bool), *met]))
        for column in (costs, *sums) if len(best) else ():
            best = best[column[best] == column[best].min()]
        if not len(best):
            return None
        shape = [len(of_group) for of_group in programme.costs]
        choice = [int(option) for option in np.unravel_index(best[0], shape)]
        return Best(choice, costs[best[0]], [of_constraint[best[0]] for of_constraint in sums])

    return best


@pytest.fixture
def one_less() -> Callable[[str], str]:
    """Return a function that lowers the last digit of a budget text by one: "14.37G" to "14.36G"."""

    def lowered(text: str, by: int = 1) -> str:
        number = text.rstrip("BGKMTkx")
        places = len(number.partition(".")[2])
        value = Fraction(number) - Fraction(by, 10**places)
        return f"{float(value):.{places}f}{text[len(number) :]}"

    return lowered
