"""Plans: their costs, their JSON and their table."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from limpq_hub.errors import PolicyError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.optimum import search
from limpq_hub.plan.policy import LayerBits, Policy
from limpq_hub.plan.result import Plan


@pytest.fixture
def indicators(network):
    return network(
        {"a": {4: 0.1, 3: 0.05, 2: 0.4}}, {"a": {4: 0.2, 2: 0.3}},
        macs={"a": 1000, "head": 10}, weights={"a": 9, "head": 3}, inputs={"a": 65, "head": 4}, fixed={"head": (8, 8)},
    )  # fmt: skip


def test_a_plan_states_what_its_policy_costs(indicators):
    plan = search(indicators, Budget(bitops=8640))
    assert plan.policy == Policy("toynet", {"a": LayerBits(4, 2), "head": LayerBits(8, 8)}, 32)
    assert (plan.bitops, plan.size_bytes, plan.activation_bytes) == (8 * 1000 + 640, (36 + 24 + 7) // 8, 17)
    assert plan.compression == pytest.approx(32 * 12 / 60)
    assert plan.objective == plan.bound == pytest.approx(0.3 + 2 * 0.1)
    assert (plan.optimal, plan.counting, plan.alpha) == (True, "exact", 2.0)
    assert plan.seconds > 0


def test_the_json_of_a_plan_holds_the_policy_the_proof_and_the_outliers(indicators):
    plan = search(indicators, Budget(bitops=8640))
    content = json.loads(json.dumps(plan.to_json(), allow_nan=False))
    assert Policy.from_json(content["policy"]) == plan.policy
    assert content["excluded"] == [{"layer": "a", "kind": "weight", "bits": 3, "step": 0.05, "step_above": 0.1}]
    for key in ("bitops", "size_bytes", "compression", "activation_bytes", "objective", "bound", "optimal", "alpha"):
        assert content[key] == getattr(plan, key)
    assert (content["format"], content["counting"], content["notes"]) == (1, "exact", [])


def test_the_table_names_every_layer_with_its_bits_and_share(indicators):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(search(indicators, Budget(bitops=8640)).table())
    console.file.close()
    text = console.export_text()
    assert "toynet at 32x32: 8.64K BitOps, 8B" in text
    for row in (["a", "4", "2", "1.00K", "8.00K", "92.6%"], ["head (fixed)", "8", "8", "10", "640", "7.4%"]):
        assert any(all(cell in line for cell in row) for line in text.splitlines())
    assert "6.40x smaller than float32 · objective 0.500000, proven optimal" in " ".join(text.split())


def test_the_plan_of_a_policy_that_was_not_searched_claims_no_proof(indicators):
    policy = Policy("toynet", {"a": LayerBits(2, 4), "head": LayerBits(8, 8)})
    plan = Plan.of_policy(indicators, policy)
    assert (plan.policy, plan.bitops, plan.optimal, plan.bound) == (policy, 8640, False, 0.0)
    assert plan.objective == pytest.approx(0.2 + 2 * 0.4)
    assert Plan.of_policy(indicators, policy, alpha=1.0).objective == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("layers", "because"),
    [
        ({"a": LayerBits(4, 4)}, "the policy is for other layers: it lacks head; give bits for exactly the 2 layers"),
        (
            {"a": LayerBits(8, 4), "head": LayerBits(8, 8)},
            "layer 'a' learned no weight step at 8 bits; choose from 2, 3, 4",
        ),
        ({"a": LayerBits(4, 4), "head": LayerBits(4, 4)}, "layer 'head' is fixed at"),
    ],
)
def test_a_policy_that_does_not_fit_the_network_has_no_plan(indicators, layers, because):
    with pytest.raises(PolicyError, match=because):
        Plan.of_policy(indicators, Policy("toynet", layers))
