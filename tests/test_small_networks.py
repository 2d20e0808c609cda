"""The networks in training/results that do not ship: their indicators load, and what is written of them holds."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest

import limpq_hub
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.plan.role_summary import roles_of

RESULTS = Path(__file__).parents[1] / "training" / "results"
NAMES = ["mobilenetv1_100.tiny_imagenet", "mobilenetv2_100.tiny_imagenet"]
V1, V2 = (RESULTS / name for name in NAMES)


def rows_of(folder: Path) -> list[str]:
    return [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| ")]


def test_the_networks_that_are_read_here_are_all_with_indicators():
    assert sorted(path.parent.name for path in RESULTS.glob("*/indicators.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_indicators_are_of_the_stored_float_network(name):
    stored = Indicators.load(RESULTS / name / "indicators.json")
    assert f"{stored.model}.tiny_imagenet" == name
    assert (stored.input_size, stored.num_classes) == (64, 200)
    assert "--max-steps" not in stored.provenance["command"], "the README says all 600 steps of the recipe"
    weights = (RESULTS / name / "float.safetensors").read_bytes()
    assert stored.provenance["weights_sha256"] == hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize(
    ("folder", "budget", "start"),
    [(V2, "w3a3", "| "), (V1, "w3a3", "| w3a3 | "), (V1, "w4a4", "| w4a4 | ")],
    ids=["MobileNetV2", "MobileNetV1 w3a3", "MobileNetV1 w4a4"],
)
def test_the_bits_of_each_role_are_those_that_a_search_finds(folder, budget, start):
    plan = limpq_hub.search(folder / "indicators.json", bitops=budget)
    roles = roles_of(plan)
    assert len(roles) == 3
    for role, found in roles.items():
        row = next(row for row in rows_of(folder) if row.startswith(f"{start}{role or 'other'}"))
        assert row.endswith(
            f"| {found.layers} | {found.weight_bits:.2f} | {found.activation_bits:.2f} | "
            f"{100 * found.bitops_share:.1f} % | {100 * found.size_share:.1f} % |"
        )


@pytest.mark.parametrize("folder", [V1, V2], ids=NAMES)
def test_the_steps_that_are_out_of_order_are_as_many_as_written(folder):
    layers = [layer for layer in read_json(folder / "indicators.json")["layers"].values() if layer["fixed"] is None]
    steps = {
        kind: [[layer[f"{kind}_steps"][bits] for bits in "65432"] for layer in layers]
        for kind in ("weight", "activation")
    }
    larger_than_four, larger_than_two = (sum(of[0] > of[place] for of in steps["weight"]) for place in (2, 4))
    out = {
        kind: sum(fewer < more for of in rows for more, fewer in itertools.pairwise(of)) for kind, rows in steps.items()
    }
    text = (folder / "README.md").read_text()
    assert f"In {larger_than_four} of {len(layers)} layers the weight step at 6 bits is larger than that at 4" in text
    assert f"at 4, in {larger_than_two} larger than that at 2." in text
    assert f"The search leaves out {out['weight']} bit-widths of single layers, all of them of weights" in text
    assert out["activation"] == 0


def test_the_comparison_of_mobilenetv1_is_written_as_it_was_measured():
    rows, measured = rows_of(V1), read_json(V1 / "comparison.json")["comparison"]
    assert {policy["budget"] for policy in measured} == {"w4a4", "w3a3"}
    for policy in measured:
        joint = policy["joint"]
        start = f"| {policy['budget']} | {policy['contender']} | "
        figures = (
            f"{start}{policy['bitops'] / 1e6:.2f} M | {policy['mean_weight_bits']:.1f} / "
            f"{policy['mean_activation_bits']:.1f} | {joint['top1']:.2f} ± {joint['top1_standard_error']:.2f} | "
            f"{joint['kl']:.4f} ± {joint['kl_standard_error']:.4f} |"
        )
        assert figures in rows
        if policy["contender"] != "learned":
            paired = policy["paired"]["joint"]
            assert (
                f"{start}{paired['right']:+.2f} ± {paired['right_standard_error']:.2f} | "
                f"{paired['kl']:+.4f} ± {paired['kl_standard_error']:.4f} |"
            ) in rows


@pytest.mark.parametrize("budget", ["w4a4", "w3a3"])
def test_a_search_of_mobilenetv1_finds_the_policy_that_was_compared(budget):
    measured = read_json(V1 / "comparison.json")["comparison"]
    [compared] = [row for row in measured if (row["budget"], row["contender"]) == (budget, "learned")]
    plan = limpq_hub.search(V1 / "indicators.json", bitops=budget)
    assert plan.policy.digest() == compared["policy_sha256"]
    assert plan.bitops == compared["bitops"]
