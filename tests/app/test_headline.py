"""Tests of the headline: its figures are those of the entry, and uniform bits stand beside them."""

import json
import re
from pathlib import Path

import _zoo
import pytest
from _actions import find_bits
from _request import Request

import limpq_hub
from limpq_hub.zoo.catalog import find_entry

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


@pytest.fixture
def copied(entry_copy, reseal, monkeypatch):
    """A function that gives the copy of the tiny entry these figures, and returns the words of a headline of it."""

    def line(metrics: dict, gigabitops: float, **more) -> str:
        (entry_copy / "metrics.json").write_text(json.dumps(metrics))
        reseal(entry_copy)
        monkeypatch.setattr(_zoo, "_opened", lambda model, folder: find_entry(f"local-dir:{entry_copy}"))
        return words(find_bits(Request("bundled", gigabitops, **more)).headline)

    yield line
    for kept in (_zoo.frontier_of, _zoo._budget_leading_to):
        kept.cache_clear()


def record(bitops: int, top1: float, digest: str = "none") -> dict:
    return {"policy_sha256": digest, "bitops": bitops, "calibration_images": 0, "top1": top1, "images": 300}


def test_why_there_is_no_top1_is_said_as_it_is(copied, tiny):
    least, most = tiny.indicators.bitops_range()
    budget = (least + most) / 2e9
    unmeasured = copied({"joint": []}, budget)
    assert "top-1 not measured" in unmeasured
    assert "Of the joint weights no top-1 was measured." in unmeasured
    assert "Of the joint weights no top-1 was measured." in copied({"joint": []}, budget, alpha=1.5)
    front = {"joint": [record(most, 80.0), record(most - 1, 70.0)]}
    assert "Top-1 was not measured at this budget, nor at budgets on both sides of it." in copied(front, budget)
    assert "Accuracy was measured for budgets of BitOps alone." in copied(front, budget, alpha=1.5)
    for model in ("mobilenetv2_100.in1k", "tf_efficientnet_lite0.in1k"):
        assert "of BitOps alone" not in words(find_bits(Request(model, _zoo.slider_range(model)[1])).headline)


def test_the_pictures_are_those_that_the_policy_was_measured_on_and_not_the_float_network(copied, tiny):
    of_float = {"top1": 80.0, "images": 12_345, "data": {"name": "elsewhere"}}
    least, most = tiny.indicators.bitops_range()
    front = {"float": of_float, "joint": [record(least, 40.0), record(most, 60.0)]}
    front["joint_provenance"] = {"data": {"name": "noise"}}
    small = limpq_hub.search(tiny.indicators, bitops="w3a3").bitops
    fine_tuned = copied(front, small / 1e9)
    assert "top-1 61.50 % ± 2.43 beside 80.00 % ± 0.36 in float" in fine_tuned
    assert fine_tuned.endswith("with weights fine-tuned for exactly this policy (400 validation images).")
    between = copied(front, (least + small) / 2e9)
    assert "top-1 about " in between
    assert between.endswith("on a line between two measured budgets (noise, 300 validation images).")
    front["joint"][0]["images"] = 200
    assert copied(front, (least + small) / 2e9).endswith("on a line between two measured budgets.")


def test_uniform_bits_of_the_same_budget_stand_beside_it():
    filled = limpq_hub.baselines(MODEL, bitops="3G")["uniform filled"]
    plan = limpq_hub.search(MODEL, bitops="3G")
    bits = sum(filled.layers[name].weight * cost.weights for name, cost in plan.costs.items())
    weights = 32 * sum(cost.weights for cost in plan.costs.values())
    assert f"Uniform bits of the same budget: {weights / bits:.1f}× smaller" in words(
        find_bits(Request(MODEL, 3)).headline
    )
