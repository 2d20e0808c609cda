"""Time of the search beside a plain programme for PuLP and CBC, and of the command beside bare Python.

    python tests/benchmarks/search.py                        # the authors' ResNet-50 indicators, median of 20
    python tests/benchmarks/search.py --turns 1 --plain-turns 0     # only to see that it works

All measurements run in one process and take turns, so that a slow moment of the machine falls on all of them; medians
are shown. The plain programme is the published way, PuLP with CBC; no other file of this project uses CBC. Where it
takes seconds it runs in the first turns only. Goals: design/performance.md.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pulp
from rich.console import Console
from rich.progress import track
from rich.table import Table

from limpq_hub.errors import SearchError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.costs import Counting, LayerCost
from limpq_hub.plan.frontier_search import search_frontier
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.optimum import search
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.policy_costs import total_bitops
from limpq_hub.plan.search_problem import SearchProblem
from limpq_hub.plan.solver.solving import solve

PICKLE = Path(__file__).parents[3] / "shared/reference/limpq_resnet50_indicators.pkl"
BITS = range(2, 7)
LAYERS = 1000
POINTS = 100
INFINITE = float("inf")
COMPRESSION = 12.2
# Of 1,000 layers: more than what BitOps alone lead to, so that both constraints bind.
COMPRESSION_OF_MANY = 9


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    Attributes:
        ours: runs what is measured.
        plain: runs the plain way to the same result, or None where there is none to compare with.
        slow: whether the plain way takes seconds.
    """

    ours: Callable[[], object]
    plain: Callable[[], object] | None
    goal: str
    slow: bool = False


def main() -> None:
    """Measure, and print the table."""
    options = _options()
    measurements = measurements_of(published(options.pickle), options.time_limit)
    ours: dict[str, list[float]] = {name: [] for name in measurements}
    plain: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in track(range(options.turns), console=Console(stderr=True)):
        for name, measurement in measurements.items():
            if measurement.plain and turn < (options.plain_turns if measurement.slow else options.turns):
                plain[name].append(_seconds_of(measurement.plain))
            ours[name].append(_seconds_of(measurement.ours))
    _print(measurements, ours, plain, options.turns)


def measurements_of(resnet50: Indicators, time_limit_s: float) -> dict[str, Measurement]:
    """Return what is measured, by name."""
    w3a4, w3a4_published = (_bitops_of(resnet50, 3, 4, counting) for counting in ("exact", "limpq"))
    size_bits = _size_bits_of(resnet50, COMPRESSION)
    measurements = {
        "ResNet-50, BitOps of W3A4 and 12.2x, as published": Measurement(
            lambda: search(resnet50, Budget(bitops="w3a4", compression=COMPRESSION), counting="limpq"),
            lambda: plain_search(resnet50, w3a4_published, size_bits, time_limit_s, published=True),
            "<= 10 ms, 15x",
        ),
        "ResNet-50, the same, MACs counted exactly": Measurement(
            lambda: search(resnet50, Budget(bitops="w3a4", compression=COMPRESSION)),
            lambda: plain_search(resnet50, w3a4, size_bits, time_limit_s),
            "<= 10 ms, 15x",
        ),
        f"ResNet-50, frontier of {POINTS}, one constraint": Measurement(
            lambda: search_frontier(resnet50, POINTS),
            lambda: plain_frontier(resnet50, None, time_limit_s),
            "<= 100 ms",
            slow=True,
        ),
        f"ResNet-50, frontier of {POINTS}, two constraints": Measurement(
            lambda: search_frontier(resnet50, POINTS, budget=Budget(bitops="1T", compression=COMPRESSION)),
            lambda: plain_frontier(resnet50, size_bits, time_limit_s),
            "<= 500 ms",
            slow=True,
        ),
    }
    table = latency_table(resnet50)
    latency_limit = sum(times[3, 3] for times in table.values())  # less than W3A4, so that it binds as well
    measurements["ResNet-50, three constraints, by HiGHS"] = Measurement(
        lambda: search(
            resnet50,
            Budget(bitops="w3a4", compression=COMPRESSION, latency=(table, latency_limit)),
            time_limit_s=time_limit_s,
        ),
        lambda: plain_search(resnet50, w3a4, size_bits, time_limit_s, latency=(table, latency_limit)),
        "",
    )
    for shapes, many in (("ResNet-50's shapes", many_layers(resnet50)), ("all different", many_layers(None))):
        bitops, most_bits = _bitops_of(many, 3, 4), _size_bits_of(many, COMPRESSION_OF_MANY)
        for count, budget, limit, goal in (
            ("one constraint", Budget(bitops=bitops), None, "<= 10 ms"),
            ("two constraints", Budget(bitops=bitops, compression=COMPRESSION_OF_MANY), most_bits, "<= 500 ms"),
        ):
            programme = SearchProblem.of(many, budget).programme
            measurements[f"{LAYERS} layers, {shapes}, {count}: solver"] = Measurement(
                lambda programme=programme: solve(programme, time.monotonic() + time_limit_s),
                lambda many=many, bitops=bitops, limit=limit: plain_search(many, bitops, limit, time_limit_s),
                goal,
                slow=True,
            )
            measurements[f"{LAYERS} layers, {shapes}, {count}: search"] = Measurement(
                lambda many=many, budget=budget: search(many, budget, time_limit_s=time_limit_s), None, goal
            )
    command = ["-m", "limpq_hub", "search", "resnet18", "--bitops", "3G", "--json"]
    return measurements | {
        "limpq search resnet18, beside `import numpy`": Measurement(
            lambda: _python(*command), lambda: _python("-c", "import numpy"), "<= 250 ms"
        ),
        "import limpq_hub, beside bare Python": Measurement(
            lambda: _python("-c", "import limpq_hub"), lambda: _python("-c", ""), "<= 30 ms more"
        ),
    }


def published(pickle: Path) -> Indicators:
    """Return the indicators that the authors published, read by the command in a process of its own: it needs torch."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "indicators.json"
        _python(
            "-m", "limpq_hub", "import", str(pickle), "--model", "resnet50", "--input-size", "224",
            "--output", str(output),
        )  # fmt: skip
        indicators, _ = Indicators.load(output).without_outliers
    return indicators


def many_layers(like: Indicators | None) -> Indicators:
    """Return random steps of `LAYERS` layers, their shapes repeating those of a network or all different."""
    rng = random.Random(0)
    if like is None:
        shapes = [(int(10 ** rng.uniform(6, 9)), int(10 ** rng.uniform(3, 6))) for _ in range(LAYERS)]
    else:
        searched = [(cost.macs, cost.weights) for cost in like.costs.values() if cost.fixed is None]
        shapes = list(itertools.islice(itertools.cycle(searched), LAYERS))

    def steps() -> dict[str, dict[int, float]]:
        scales = {name: rng.lognormvariate(-4, 0.7) for name in costs}
        return {
            name: {bits: scale * 2 ** (-0.9 * bits) * rng.uniform(0.9, 1.1) for bits in BITS}
            for name, scale in scales.items()
        }

    costs = {f"layer{index}": LayerCost(macs, macs, weights, 1, False) for index, (macs, weights) in enumerate(shapes)}
    return Indicators("many", 224, 1000, costs, steps(), steps())


def latency_table(indicators: Indicators) -> dict[str, dict[tuple[int, int], int]]:
    """Return made-up times of the searched layers, in microseconds: near their MACs and bits, and none like another."""
    rng = random.Random(0)
    return {
        name: {
            (weight, activation): int(1e-6 * cost.macs * (weight + activation) * rng.uniform(0.8, 1.2)) + 1
            for weight, activation in itertools.product(BITS, repeat=2)
        }
        for name, cost in indicators.costs.items()
        if cost.fixed is None
    }


def plain_search(
    indicators: Indicators,
    bitops: int,
    size_bits: int | None,
    time_limit_s: float,
    *,
    published: bool = False,
    latency: tuple[dict[str, dict[tuple[int, int], int]], int] | None = None,
) -> float:
    """Return the objective of the best policy as PuLP and CBC find it, from coefficients as they are.

    Raises:
        SearchError: not within `time_limit_s`.
    """
    problem = pulp.LpProblem("plain", pulp.LpMinimize)
    objective, operations, weight_bits, times = [], [], [], []
    for index, (name, cost) in enumerate(indicators.costs.items()):
        macs = cost.macs_limpq if published else cost.macs
        if cost.fixed:
            bitops -= macs * cost.fixed.weight * cost.fixed.activation
            size_bits = size_bits and size_bits - cost.weights * cost.fixed.weight
            continue
        picks = []
        for weight, weight_step in indicators.weight_steps[name].items():
            for activation, activation_step in indicators.activation_steps[name].items():
                pick = pulp.LpVariable(f"x_{index}_{weight}_{activation}", cat="Binary")
                picks.append(pick)
                objective.append((activation_step + indicators.alpha * weight_step) * pick)
                operations.append(macs * weight * activation * pick)
                weight_bits.append(cost.weights * weight * pick)
                if latency is not None:
                    times.append(latency[0][name][weight, activation] * pick)
        problem += pulp.lpSum(picks) == 1
    problem += pulp.lpSum(objective)
    problem += pulp.lpSum(operations) <= bitops
    if size_bits is not None:
        problem += pulp.lpSum(weight_bits) <= size_bits
    if latency is not None:
        problem += pulp.lpSum(times) <= latency[1]
    problem.solve(pulp.PULP_CBC_CMD(msg=False, timeLimit=time_limit_s))
    if problem.sol_status != pulp.LpSolutionOptimal:
        raise SearchError(f"CBC has no optimum within {time_limit_s:g} s")
    return float(pulp.value(problem.objective))


def plain_frontier(indicators: Indicators, size_bits: int | None, time_limit_s: float) -> list[float]:
    """Return the objectives at `POINTS` budgets evenly apart, each a plain programme of its own."""
    least, most = (_bitops_of(indicators, bits, bits) for bits in (min(BITS), max(BITS)))
    limits = [least + (most - least) * point // (POINTS - 1) for point in range(POINTS)]
    return [plain_search(indicators, limit, size_bits, time_limit_s) for limit in limits]


def _bitops_of(indicators: Indicators, weight: int, activation: int, counting: Counting = "exact") -> int:
    uniform = Policy.uniform(indicators.model, indicators.costs, weight, activation)
    return total_bitops(indicators.costs, uniform, counting)


def _size_bits_of(indicators: Indicators, compression: float) -> int:
    return int(32 * sum(cost.weights for cost in indicators.costs.values()) / compression)


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def _seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    try:
        work()
    except SearchError:
        return INFINITE
    return time.perf_counter() - began


def _print(
    measurements: dict[str, Measurement], ours: dict[str, list[float]], plain: dict[str, list[float]], turns: int
) -> None:
    table = Table(title=f"ms, median of {turns}")
    for heading in ("work", "plain", "ours", "plain / ours", "goal"):
        table.add_column(heading, justify="left" if heading == "work" else "right")
    for name, measurement in measurements.items():
        seconds = statistics.median(ours[name])
        beside = statistics.median(plain[name]) if plain[name] else None
        ratio = "" if beside is None or INFINITE in (beside, seconds) else f"{beside / seconds:.1f}x"
        table.add_row(name, "" if beside is None else _ms(beside), _ms(seconds), ratio, measurement.goal)
    Console(width=120).print(table)


def _ms(seconds: float) -> str:
    return "no answer in time" if seconds == INFINITE else f"{1000 * seconds:.1f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--pickle", type=Path, default=PICKLE, help="indicators of ResNet-50 as the authors published")
    parser.add_argument("--turns", type=int, default=20, help="how often each measurement runs")
    parser.add_argument("--plain-turns", type=int, default=1, help="how often a plain programme of seconds runs")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds for each search, ours or plain")
    return parser.parse_args()


if __name__ == "__main__":
    main()
