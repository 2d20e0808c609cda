"""Tests of search() and of what it takes as a model; none of it imports torch."""

import json
import re
from itertools import pairwise

import pytest

import limpq_hub
from limpq_hub.errors import ArtifactFormatError, BudgetError, InfeasibleBudgetError, UnknownModelError
from limpq_hub.plan.indicators import Indicators
from limpq_hub.zoo.planning import indicators_of


def test_search_never_imports_torch(run_python, tiny, tmp_path):
    path = str(tiny.folder / "indicators.json")
    code = (
        "import sys, limpq_hub\n"
        f"for model in ('resnet18', {path!r}, limpq_hub.Indicators.load({path!r}), {tiny.name!r}):\n"
        "    budget = '3G' if model == 'resnet18' else 'w3a3'\n"
        "    assert limpq_hub.search(model, bitops=budget).optimal\n"
        "assert limpq_hub.list_models()\n"
        "print(sorted({'torch', 'timm', 'torchvision', 'huggingface_hub'} & set(sys.modules)))"
    )
    result = run_python(code)
    assert (result.stdout, result.stderr, result.returncode) == ("[]\n", "", 0)


@pytest.mark.parametrize(
    "command",
    [
        "search resnet18 --bitops 3G",
        "search resnet18 --size 3MB --json",
        "frontier resnet18 --points 3",
        "list",
        "info resnet18",
    ],
)
def test_the_command_line_never_imports_torch_to_search_or_list(run_python, command):
    code = (
        "import sys\n"
        "from limpq_hub import cli\n"
        f"code = cli.main({command.split()!r})\n"
        "heavy = {name.split('.')[0] for name in sys.modules} & {'torch', 'timm', 'torchvision', 'huggingface_hub'}\n"
        "sys.exit(code or ', '.join(heavy) or 0)"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout


@pytest.mark.parametrize("name", ["resnet18", "resnet18.tiny_imagenet"])
def test_a_bundled_model_is_searched_by_name_within_its_budget(name):
    plan = limpq_hub.search(name, bitops="3G")
    assert plan.bitops <= 3_000_000_000
    assert plan.optimal
    assert plan.bound == plan.objective
    assert plan.policy.model == "resnet18"
    assert len(plan.policy.layers) == 21
    macs = {layer: cost.macs for layer, cost in plan.costs.items()}
    assert plan.bitops == sum(macs[layer] * bits.weight * bits.activation for layer, bits in plan.policy.layers.items())


def test_name_path_text_and_indicators_give_the_same_plan(tiny):
    path = tiny.folder / "indicators.json"
    plans = [
        limpq_hub.search(model, bitops="w3a3").policy
        for model in (tiny.name, path, str(path), tiny.indicators, Indicators.load(path))
    ]
    assert all(policy == tiny.policies["small"] for policy in plans)


def test_indicators_are_passed_through_as_they_are(tiny):
    assert indicators_of(tiny.indicators) is tiny.indicators


@pytest.mark.parametrize("path", ["missing.json", "no/such/folder/indicators.json", ".json"])
def test_a_missing_file_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = f"there is no file {path!r}; give the path of an indicators.json"
    with pytest.raises(UnknownModelError, match=re.escape(message)):
        limpq_hub.search(path, bitops="3G")


def test_a_folder_named_like_a_file_is_no_file(tmp_path):
    (tmp_path / "indicators.json").mkdir()
    with pytest.raises(UnknownModelError, match=r"there is no file '.*indicators\.json'; give the path of an"):
        limpq_hub.search(tmp_path / "indicators.json", bitops="3G")


def test_a_file_that_holds_no_indicators_is_named(tiny, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ArtifactFormatError, match=r"broken\.json is not JSON: .*; is this the right file\?"):
        limpq_hub.search(tmp_path / "broken.json", bitops="3G")
    with pytest.raises(ArtifactFormatError, match=r'policy\.json: indicators: "\w+" is missing'):
        limpq_hub.search(tiny.folder / "policies/small/policy.json", bitops="3G")


@pytest.mark.parametrize("model", [None, 3, ["resnet18"]])
def test_a_model_that_is_no_text_path_or_indicators_is_refused(model):
    with pytest.raises(UnknownModelError, match=re.escape(f"a model is named by text, found {model!r}; known: ")):
        limpq_hub.search(model, bitops="3G")


def test_a_path_object_that_is_no_json_file_is_refused(tmp_path):
    with pytest.raises(UnknownModelError, match=r"a model is named by text, found PosixPath\(.*\); known: resnet18"):
        limpq_hub.search(tmp_path, bitops="3G")


def test_a_search_without_a_budget_is_refused():
    with pytest.raises(BudgetError, match=r'no budget was given: use for example bitops="3G", size="4\.5MB" or'):
        limpq_hub.search("resnet18")


def test_the_minimum_of_an_infeasible_budget_works_as_text_and_one_less_does_not(tiny):
    with pytest.raises(InfeasibleBudgetError, match=r'bitops="1" cannot be met: test_resnet at 32x32 needs') as caught:
        limpq_hub.search(tiny.indicators, bitops=1)
    quoted = re.search(r'use bitops="([\d.]+[KMG])" or more', str(caught.value))[1]
    assert limpq_hub.search(tiny.indicators, bitops=quoted).bitops == caught.value.minimum
    with pytest.raises(InfeasibleBudgetError, match="cannot be met"):
        limpq_hub.search(tiny.indicators, bitops=caught.value.minimum - 1)


def test_every_argument_of_the_search_is_passed_on(tiny):
    plan = limpq_hub.search(
        tiny.name,
        bitops="w3a3",
        size="160kB",
        compression="8x",
        activation_memory="64kB",
        latency=({"layer1.0.conv1": {(w, a): w * a for w in (2, 3, 4) for a in (2, 3, 4)}}, 6),
        alpha=1.5,
        candidates=[2, 3, 4],
        pin={"layer4.*.conv2": (2, 4)},
        exclude=["layer2.0.downsample.*"],
        tie=[["layer3.0.conv1", "layer3.0.conv2"]],
        counting="limpq",
        time_limit_s=30,
    )
    bits = {name: (layer.weight, layer.activation) for name, layer in plan.policy.layers.items()}
    assert plan.size_bytes <= 160_000
    assert plan.compression >= 8
    assert plan.activation_bytes <= 64_000
    assert bits["layer1.0.conv1"][0] * bits["layer1.0.conv1"][1] <= 6
    assert bits["layer4.0.conv2"] == (2, 4)
    assert bits["layer2.0.downsample.1"] == (4, 4)
    assert bits["layer3.0.conv1"] == bits["layer3.0.conv2"]
    assert (plan.alpha, plan.counting) == (1.5, "limpq")


def test_a_plan_written_as_json_holds_the_policy_file(tiny):
    content = json.loads(json.dumps(limpq_hub.search(tiny.name, bitops="w3a3").to_json()))
    assert limpq_hub.Policy.from_json(content["policy"]) == tiny.policies["small"]


def test_the_frontier_never_imports_torch(run_python, tiny):
    path = str(tiny.folder / "indicators.json")
    code = (
        "import sys, limpq_hub\n"
        f"for model in ('resnet18', {path!r}, limpq_hub.Indicators.load({path!r}), {tiny.name!r}):\n"
        "    assert len(limpq_hub.frontier(model, points=3)) == 3\n"
        "print(sorted({'torch', 'timm', 'torchvision', 'huggingface_hub'} & set(sys.modules)))"
    )
    result = run_python(code)
    assert (result.stdout, result.stderr, result.returncode) == ("[]\n", "", 0)


def test_the_frontier_goes_from_the_fewest_to_the_most_bits_and_each_plan_is_the_search_at_its_bitops(tiny):
    plans = limpq_hub.frontier(tiny.name, points=8)
    assert (plans[0].policy, plans[-1].policy) == (tiny.joint, tiny.policies["large"])
    for bits, plan in ((2, plans[0]), (4, plans[-1])):
        assert plan.bitops == sum(cost.macs * (64 if cost.fixed else bits * bits) for cost in tiny.costs.values())
    for cheaper, dearer in pairwise(plans):
        assert cheaper.bitops < dearer.bitops
        assert cheaper.objective > dearer.objective
    for plan in plans:
        assert plan.objective == limpq_hub.search(tiny.name, bitops=plan.bitops).objective


def test_the_frontier_has_a_hundred_budgets_unless_told_otherwise(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr("limpq_hub.zoo.planning.pareto_front", lambda *given, **more: asked.append((given, more)))
    limpq_hub.frontier(tiny.indicators)
    limpq_hub.frontier(tiny.indicators, points=7, alpha=0.5, counting="limpq")
    assert asked == [
        ((tiny.indicators, 100), {"alpha": None, "counting": "exact"}),
        ((tiny.indicators, 7), {"alpha": 0.5, "counting": "limpq"}),
    ]


def test_name_path_text_and_indicators_give_the_same_frontier(tiny):
    path = tiny.folder / "indicators.json"
    models = (tiny.name, path, str(path), tiny.indicators)
    found = [[plan.policy for plan in limpq_hub.frontier(model, points=4)] for model in models]
    assert all(policies == found[0] for policies in found)


@pytest.mark.parametrize("points", [1, 0, True, 2.5, "9"])
def test_a_frontier_of_points_that_cannot_be_is_refused(tiny, points):
    message = f"points={points!r} cannot be: use a whole number of at least 2, for example 100"
    with pytest.raises(BudgetError, match=f"^{re.escape(message)}$"):
        limpq_hub.frontier(tiny.name, points=points)


def test_the_frontier_of_an_unknown_model_is_refused():
    with pytest.raises(UnknownModelError, match=r"no model is named 'resnet81'; did you mean resnet18"):
        limpq_hub.frontier("resnet81")
