"""A file of limpq-hub in the place of another one is told by what it is; a damaged one stays what it was."""

from __future__ import annotations

import json

import pytest

from limpq_hub import Budget
from limpq_hub.errors import ArtifactFormatError, PolicyError
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.optimum import search
from limpq_hub.plan.policy import Policy
from limpq_hub.zoo.catalog import BUNDLED

ENTRY = next(BUNDLED.glob("resnet18*"))
AS_POLICY = "limpq predict, limpq export, finetune and validate take it as --policy"


@pytest.fixture
def files(network):
    """The content of each file that has a name of its own, as the code that writes it gives it."""
    indicators = network({"conv": {2: 0.4, 3: 0.3, 4: 0.1}}, fixed={"head": (8, 8)})
    plan = search(indicators, Budget(bitops="w3a3"))
    written = {"plan": plan.to_json(), "policy": plan.policy.to_json(), "indicators": indicators.to_json()}
    shipped = {"config": "config.json", "metrics": "metrics.json", "of a policy": "policies/3G/metrics.json"}
    return written | {name: json.loads((ENTRY / file).read_text()) for name, file in shipped.items()}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("policy", rf"this is a policy \(the bits of each layer\), and a model such as .*; {AS_POLICY}"),
        ("plan", rf"this is a plan \(what limpq search --json prints\), and a model .*; {AS_POLICY}"),
        ("config", "this is the config.json of a folder, .*; give that folder, as local-dir:FOLDER"),
        ("metrics", r"this is a metrics.json \(what was measured of a network\), .*; it stands beside the file"),
        ("of a policy", r"this is a metrics.json"),
    ],
)
def test_a_file_in_the_place_of_indicators_is_told_by_what_it_is(files, tmp_path, given, says):
    path = tmp_path / "given.json"
    path.write_text(json.dumps(files[given]))
    with pytest.raises(ArtifactFormatError, match=rf"given\.json: {says}"):
        Indicators.load(path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            "indicators",
            r"this is indicators \(.*\), and a policy.json is expected here; limpq search FILE --bitops w4a4",
        ),
        ("config", "this is the config.json of a folder, and a policy.json is expected here"),
        ("metrics", "this is a metrics.json"),
    ],
)
def test_a_file_in_the_place_of_a_policy_is_told_by_what_it_is(files, given, says):
    with pytest.raises(PolicyError, match=says):
        Policy.from_json(files[given])


def test_indicators_that_lack_a_key_are_still_indicators(files):
    for key in files["indicators"]:
        damaged = {name: value for name, value in files["indicators"].items() if name != key}
        with pytest.raises(ArtifactFormatError) as caught:
            Indicators.from_json(damaged)
        assert "this is" not in str(caught.value)


def test_a_policy_that_lacks_a_key_is_still_a_policy(files):
    for key in ("format", "model", "layers"):
        damaged = {name: value for name, value in files["policy"].items() if name != key}
        with pytest.raises(PolicyError, match="not a policy of format 1|a policy needs"):
            Policy.from_json(damaged)
