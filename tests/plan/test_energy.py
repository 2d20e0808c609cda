"""A budget of energy: a table of what each layer takes, wherever a budget is taken."""

from __future__ import annotations

import itertools
import json
import random

import pytest

import limpq_hub
from limpq_hub import cli
from limpq_hub.errors import BudgetError, InfeasibleBudgetError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.optimum import search

LAYER = "layer1.0.conv1"
WIDTHS = (2, 3, 4)
# Multiples of a quarter, so that sums of floats are exact: what the searched layer of `tiny` takes at its bits.
TABLE = {LAYER: {(w, a): w * a / 4 for w in WIDTHS for a in WIDTHS}}
LIMIT = 2.25


def energy_of(policy):
    bits = policy.layers[LAYER]
    return bits.weight * bits.activation / 4


@pytest.fixture
def energy_csv(tmp_path):
    path = tmp_path / "energy.csv"
    lines = [f"{LAYER},{w},{a},{energy}" for (w, a), energy in TABLE[LAYER].items()]
    path.write_text("\n".join(["layer,weight_bits,activation_bits,energy", *lines]) + "\n")
    return path


@pytest.mark.parametrize("seed", range(20))
def test_a_search_within_an_energy_and_a_latency_is_the_best_of_all_policies_within_both(random_network, seed):
    rng = random.Random(seed)
    indicators = random_network(rng, layers=3)
    pairs = list(itertools.product(WIDTHS, WIDTHS))
    energies, times = (
        {name: {bits: rng.randint(1, 99) for bits in pairs} for name in indicators.weight_steps} for _ in range(2)
    )
    outcomes = [
        (
            sum(energies[name][bits] for name, bits in choice.items()),
            sum(times[name][bits] for name, bits in choice.items()),
            sum(
                indicators.activation_steps[name][a] + indicators.alpha * indicators.weight_steps[name][w]
                for name, (w, a) in choice.items()
            ),
        )
        for choice in (dict(zip(energies, bits, strict=True)) for bits in itertools.product(pairs, repeat=3))
    ]
    energy, latency, _ = rng.choice(outcomes)
    best = min(lost for taken, time, lost in outcomes if taken <= energy and time <= latency)
    plan = search(indicators, Budget(energy=(energies, energy), latency=(times, latency)))
    assert plan.objective == pytest.approx(best, rel=1e-12)


def test_every_function_that_takes_a_budget_takes_an_energy(tiny, energy_csv):
    plan = limpq_hub.search(tiny.name, energy=(TABLE, LIMIT))
    assert energy_of(plan.policy) <= LIMIT < energy_of(tiny.indicators.most_bits())
    assert limpq_hub.search(tiny.name, energy=(energy_csv, str(LIMIT))).policy == plan.policy
    points = limpq_hub.frontier(tiny.name, points=5, energy=(TABLE, LIMIT))
    policies = [point.policy for point in points] + [*limpq_hub.baselines(tiny.name, energy=(TABLE, LIMIT)).values()]
    assert len(policies) > 5
    assert all(energy_of(policy) <= LIMIT for policy in policies)
    with pytest.warns(UserWarning, match="was not fine-tuned"):
        model = limpq_hub.load(tiny.name, energy=(TABLE, LIMIT))
    assert model.limpq.plan.policy == plan.policy


@pytest.mark.parametrize("command", ["search", "compare", "explain"])
def test_the_command_line_takes_an_energy_table_and_its_limit(tiny, energy_csv, capsys, command):
    assert cli.main([command, tiny.name, "--energy", str(energy_csv), str(LIMIT), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    plan = {"search": content, "compare": content.get("learned"), "explain": content.get("plan")}[command]
    assert plan["policy"] == limpq_hub.search(tiny.name, energy=(TABLE, LIMIT)).policy.to_json()


def test_an_energy_that_no_policy_meets_is_refused_with_the_least_that_one_does(network):
    indicators = network({"a": {2: 0.4, 4: 0.2}}, {"a": {4: 0.1}})
    table = {"a": {(2, 4): 1.25, (4, 4): 0.3}}
    with pytest.raises(InfeasibleBudgetError) as caught:
        search(indicators, Budget(energy=(table, "0.2")))
    assert str(caught.value) == (
        'energy=(table, "0.2") cannot be met: toynet at 32x32 needs at least 0.3 and uses at most 1.25; '
        'use energy=(table, "0.3") or more'
    )
    assert search(indicators, Budget(energy=(table, caught.value.minimum))).policy.layers["a"].weight == 4


def test_a_table_of_times_is_no_table_of_energies(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text("layer,weight_bits,activation_bits,time\nconv1,4,4,1\n")
    with pytest.raises(BudgetError, match=r"^energy table '.*' has no column energy; its first line must be layer,"):
        Budget(energy=(path, 1))
