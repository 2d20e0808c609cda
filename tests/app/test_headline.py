"""Tests of the headline: its figures are those of the entry, and uniform bits stand beside them."""

import json
import re
from pathlib import Path

from _actions import find_bits
from _request import Request

import limpq_hub

MODEL = "resnet18.tiny_imagenet"
FOLDER = Path(limpq_hub.__file__).parent / "zoo" / "bundled" / MODEL


def words(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html)


def metrics(file: str) -> dict:
    return json.loads((FOLDER / file).read_text())


def test_a_fine_tuned_policy_opens_with_its_size_bitops_and_top1_beside_float_from_its_files():
    config = json.loads((FOLDER / "policies" / "w3a3" / "config.json").read_text())
    line = words(find_bits(Request(MODEL, 1.87)).headline)
    weights = 4 * sum(cost.weights for cost in limpq_hub.search(MODEL, bitops="3G").costs.values())
    assert line.startswith(
        f"{weights / config['size_bytes']:.1f}× smaller, {config['bitops'] / 1e9:.2f} G BitOps, top-1 "
        f"{metrics('policies/w3a3/metrics.json')['top1']:.2f} % ± 0.50 beside "
        f"{metrics('metrics.json')['float']['top1']:.2f} % ± 0.50 in float"
    )
    assert "fine-tuned for exactly this policy (tiny-imagenet, 10,000 validation images)" in line


def test_between_measured_budgets_it_says_about_and_with_other_limits_that_nothing_was_measured():
    assert "top-1 about" in words(find_bits(Request(MODEL, 3.2)).headline)
    assert "top-1 not measured beside" in words(find_bits(Request(MODEL, 3.2, alpha=1.0)).headline)


def test_uniform_bits_of_the_same_budget_stand_beside_it():
    filled = limpq_hub.baselines(MODEL, bitops="3G")["uniform filled"]
    plan = limpq_hub.search(MODEL, bitops="3G")
    bits = sum(filled.layers[name].weight * cost.weights for name, cost in plan.costs.items())
    weights = 32 * sum(cost.weights for cost in plan.costs.values())
    assert f"Uniform bits of the same budget: {weights / bits:.1f}× smaller" in words(
        find_bits(Request(MODEL, 3)).headline
    )
