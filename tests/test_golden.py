"""The authors' published ResNet-50 indicators and policy, reproduced to the last bit; skipped where they are absent."""

import json
from pathlib import Path

import pytest

from limpq_hub import cli
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.optimum import search

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="../shared/reference is absent")


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory) -> Indicators:
    output = tmp_path_factory.mktemp("import") / "x.json"
    pickle = str(REFERENCE / "limpq_resnet50_indicators.pkl")
    arguments = ["import", pickle, "--model", "resnet50", "--input-size", "224", "--output", str(output)]
    assert cli.main(arguments) == 0
    return Indicators.load(output)


@pytest.fixture(scope="module")
def published() -> dict:
    return json.loads((REFERENCE / "limpq_resnet50_policy.json").read_text())


def test_the_published_policy_is_found_with_all_104_bits(resnet50, published):
    plan = search(resnet50, Budget(bitops="w3a4", compression=12.2), alpha=2, counting="limpq")
    found = {
        name: {"weight": bits.weight, "activation": bits.activation}
        for name, bits in plan.policy.layers.items()
        if name in published["layers"]
    }
    assert found == published["layers"]
    expected = published["expected"]
    assert plan.objective == pytest.approx(expected["objective"], abs=5e-8)
    assert plan.compression == pytest.approx(expected["compression_ratio"], abs=5e-5)
    assert plan.size_bytes / 2**20 == pytest.approx(expected["size_mib"], abs=5e-5)
    assert plan.bitops / 1e9 == pytest.approx(expected["bitops_g"], abs=5e-5)


def test_exact_counting_changes_three_weight_and_two_activation_bits(resnet50, published):
    plan = search(resnet50, Budget(bitops="w3a4", compression=12.2), alpha=2)
    changed = [(plan.policy.layers[name], bits) for name, bits in published["layers"].items()]
    assert plan.objective == pytest.approx(4.630867, abs=1e-6)
    assert sum(found.weight != bits["weight"] for found, bits in changed) == 3
    assert sum(found.activation != bits["activation"] for found, bits in changed) == 2


def test_the_outliers_of_the_published_indicators_are_named(resnet50):
    plan = search(resnet50, Budget(bitops="w3a4"))
    assert {(o.layer, o.kind, o.bits) for o in plan.excluded} == {
        ("layer4.0.downsample.0", "weight", 5),
        ("layer4.2.conv3", "weight", 5),
    }
