"""The bits of a plan by the role of its layers, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.explanation import explain
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.role_summary import RoleSummary, roles_of


@pytest.fixture
def with_roles(network):
    """Two depthwise layers and one that projects, 10, 30 and 20 MACs, 8, 8 and 16 weights, and a head of 64 BitOps."""
    indicators = network(
        {name: {2: 0.5, 4: 0.25} for name in "abc"},
        {name: {2: 0.5, 4: 0.25} for name in "abc"},
        macs={"a": 10, "b": 30, "c": 20, "head": 1},
        weights={"a": 8, "b": 8, "c": 16, "head": 1},
        fixed={"head": (8, 8)},
    )
    roles = {"a": "depthwise", "b": "depthwise", "c": "project"}
    costs = {name: replace(cost, role=roles.get(name)) for name, cost in indicators.costs.items()}
    return replace(indicators, costs=costs)


def plan_of(indicators):
    layers = {"a": LayerBits(2, 4), "b": LayerBits(4, 4), "c": LayerBits(2, 2), "head": LayerBits(8, 8)}
    return Plan.of_policy(indicators, Policy("toynet", layers, 32))


def test_bits_and_shares_of_each_role_are_those_worked_out_by_hand(with_roles):
    bitops = 10 * 8 + 30 * 16 + 20 * 4 + 64
    bits_of_weights = 8 * 2 + 8 * 4 + 16 * 2 + 8
    assert roles_of(plan_of(with_roles)) == {
        "depthwise": RoleSummary(2, 3.0, 4.0, (80 + 480) / bitops, (16 + 32) / bits_of_weights),
        "project": RoleSummary(1, 2.0, 2.0, 80 / bitops, 32 / bits_of_weights),
    }


def test_products_of_activations_alone_have_no_share_of_weights(network):
    indicators = network({"a": {2: 0.5, 4: 0.25}, "b": {2: 0.5, 4: 0.25}}, macs={"a": 10, "b": 30}, weights=0)
    plan = Plan.of_policy(indicators, Policy.uniform("toynet", indicators.costs, 2, input_size=32))
    assert roles_of(plan) == {None: RoleSummary(2, 2.0, 2.0, 1.0, 0.0)}
    assert explain(indicators, plan).to_json()["roles"]["other"]["size_share"] == 0.0


def test_an_explanation_tells_the_roles_in_json_and_shows_them_only_where_there_are_several(with_roles):
    explanation = explain(with_roles, plan_of(with_roles))
    assert explanation.to_json()["roles"]["depthwise"]["weight_bits"] == 3.0
    assert explanation.to_json()["roles"]["project"]["layers"] == 1
    titles = [table.title for table in explanation.tables()]
    single = replace(with_roles, costs=dict(with_roles.costs) | {"c": replace(with_roles.costs["c"], role=None)})
    assert [table.title for table in explain(single, plan_of(single)).tables()] == titles[:-1]


def test_a_role_is_kept_by_the_file_and_an_unknown_one_is_refused(with_roles):
    content = with_roles.to_json()
    read = Indicators.from_json(content)
    assert [cost.role for cost in read.costs.values()] == ["depthwise", "depthwise", "project", None]
    content["layers"]["a"]["role"] = "decoration"
    with pytest.raises(ArtifactFormatError, match="depthwise, expand, project, squeeze, excite, found 'decoration'"):
        Indicators.from_json(content)
