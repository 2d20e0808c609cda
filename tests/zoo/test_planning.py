"""Tests of search(), frontier() and baselines(), and of what they take as a model; none of it imports torch."""

import json
import re
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import limpq_hub
from limpq_hub import baselines, frontier, search
from limpq_hub.errors import (
    ArtifactError,
    ArtifactFormatError,
    BudgetError,
    InfeasibleBudgetError,
    UnknownModelError,
)
from limpq_hub.plan.baseline_policies import policies_to_compare
from limpq_hub.plan.budget import Budget, Limits
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.indicators import Indicators
from limpq_hub.zoo.entry_tensors import float_tensors
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.hub import repository
from limpq_hub.zoo.planning import BaselineOptions, FrontierOptions, SearchOptions, indicators_of, options_in_effect

BASELINES = ["uniform", "uniform filled", "random", "reversed"]


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


def test_the_command_line_never_imports_torch_to_search_or_list(run_python, tmp_path):
    commands = [
        "search resnet18 --bitops 3G",
        "search resnet18 --size 3MB --json",
        "frontier resnet18 --points 3",
        f"frontier resnet18 --points 3 --plot {tmp_path}/front.png",
        f"search resnet18 --bitops 3G --plot {tmp_path}/bits.png --output {tmp_path}/bits.json --format hawq",
        "compare resnet18 --bitops 3G",
        "compare resnet18 --size 3MB --json",
        "explain resnet18 --bitops 3G",
        "explain resnet18 --bitops 3G --json",
        "list",
        "info resnet18",
    ]
    # One process for all: the first command that imports torch is the one that is named.
    code = (
        "import contextlib, io, sys\n"
        "from limpq_hub import cli\n"
        f"for command in {commands!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as printed:\n"
        "        code = cli.main(command.split())\n"
        "    imported = {name.split('.')[0] for name in sys.modules}\n"
        "    heavy = imported & {'torch', 'timm', 'torchvision', 'huggingface_hub'}\n"
        "    print([command, code or 0, sorted(heavy), bool(printed.getvalue())])"
    )
    result = run_python(code)
    assert result.stdout.splitlines() == [str([command, 0, [], True]) for command in commands], result.stderr
    assert result.returncode == 0, result.stderr


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
    with pytest.raises(ArtifactFormatError, match=r"policy\.json: this is a policy .*, is expected here; "):
        limpq_hub.search(tiny.folder / "policies/small/policy.json", bitops="3G")


@pytest.mark.parametrize("model", [None, 3, ["resnet18"]])
def test_a_model_that_is_no_text_path_or_indicators_is_refused(model):
    with pytest.raises(UnknownModelError, match=re.escape(f"a model is named by text, found {model!r}; known: ")):
        limpq_hub.search(model, bitops="3G")


def test_a_path_object_that_is_no_json_file_is_refused(tmp_path):
    with pytest.raises(UnknownModelError, match=re.escape(f"'{tmp_path}' is a folder: write local-dir:{tmp_path}")):
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
    calls = []
    monkeypatch.setattr(
        "limpq_hub.zoo.planning.search_frontier", lambda *values, **named: calls.append((values, named))
    )
    limpq_hub.frontier(tiny.indicators)
    choices = {
        "alpha": 0.5,
        "candidates": [2, 4],
        "pin": {"fc": (8, 8)},
        "exclude": ["conv1.*"],
        "tie": [["layer1.*"]],
        "counting": "limpq",
        "time_limit_s": 3,
    }
    limpq_hub.frontier(tiny.indicators, points=7, size="4MB", **choices)
    assert calls == [
        ((tiny.indicators, 100), {"budget": None}),
        ((tiny.indicators, 7), {"budget": Budget(size="4MB")} | choices),
    ]


@pytest.mark.parametrize(
    "choices",
    [
        {"candidates": [2, 4]},
        {"pin": {"layer4.*": (3, 2)}, "exclude": ["layer1.0.conv1"]},
        {"tie": [["layer3.*"], ["layer4.*"]], "alpha": 0.3},
    ],
    ids=" ".join,
)
def test_each_plan_of_the_frontier_is_the_search_with_the_same_choices(tiny, choices):
    plans = limpq_hub.frontier(tiny.name, points=6, **choices)
    assert len(plans) > 2
    for plan in plans:
        assert plan.objective == limpq_hub.search(tiny.name, bitops=plan.bitops, **choices).objective
        of = plan.policy.layers
        searched = {name: bits for name, bits in of.items() if not tiny.costs[name].fixed}
        if "candidates" in choices:
            assert {bit for bits in searched.values() for bit in (bits.weight, bits.activation)} <= {2, 4}
        if "pin" in choices:
            assert {(of[name].weight, of[name].activation) for name in of if name.startswith("layer4.")} == {(3, 2)}
            assert (of["layer1.0.conv1"].weight, of["layer1.0.conv1"].activation) == (4, 4)
        if "tie" in choices:
            assert len({bits for name, bits in of.items() if name.startswith("layer3.")}) == 1


def test_name_path_text_and_indicators_give_the_same_frontier(tiny):
    path = tiny.folder / "indicators.json"
    models = (tiny.name, path, str(path), tiny.indicators)
    fronts = [[plan.policy for plan in limpq_hub.frontier(model, points=4)] for model in models]
    assert all(policies == fronts[0] for policies in fronts)


@pytest.mark.parametrize("points", [1, 0, True, 2.5, "9"])
def test_a_frontier_of_points_that_cannot_be_is_refused(tiny, points):
    message = f"points={points!r} cannot be: use a whole number of at least 2, for example 100"
    with pytest.raises(BudgetError, match=f"^{re.escape(message)}$"):
        limpq_hub.frontier(tiny.name, points=points)


def test_the_frontier_of_an_unknown_model_is_refused():
    with pytest.raises(UnknownModelError, match=r"no model is named 'resnet81'; did you mean resnet18"):
        limpq_hub.frontier("resnet81")


LATENCY = {"layer1.0.conv1": {(w, a): w * a / 4 for w in (2, 3, 4) for a in (2, 3, 4)}}
LIMITS = [
    {"size": "150kB"},
    {"compression": "10x"},
    {"activation_memory": "3072B"},
    {"latency": (LATENCY, 2)},
    {"size": "170kB", "latency": (LATENCY, 1.5), "activation_memory": 3072},
]


def meets(tiny, policy, *, counting="exact", **limits):
    """Return whether a policy of the tiny entry meets limits, recounted in exact integers and fractions."""
    of = [(cost, policy.layers[name]) for name, cost in tiny.costs.items()]
    size = Fraction(sum(cost.weights * bits.weight for cost, bits in of), 8)
    macs = [cost.macs if counting == "exact" else cost.macs_limpq for cost, _ in of]
    slow = policy.layers["layer1.0.conv1"]
    units = {"M": 10**6, "kB": 1000, "B": 1, "x": 1, "": 1}

    def number(value):
        text = str(value)
        unit = text.lstrip("0123456789.")
        return Fraction(text.removesuffix(unit)) * units[unit]

    within = {
        "bitops": lambda limit: (
            sum(count * bits.weight * bits.activation for count, (_, bits) in zip(macs, of, strict=True))
            <= number(limit)
        ),
        "size": lambda limit: size <= number(limit),
        "compression": lambda limit: sum(4 * cost.weights for cost, _ in of) >= number(limit) * size,
        "activation_memory": lambda limit: all(cost.inputs * bits.activation <= 8 * number(limit) for cost, bits in of),
        "latency": lambda limit: Fraction(slow.weight * slow.activation, 4) <= number(limit[1]),
    }
    return all(within[kind](limit) for kind, limit in limits.items())


@pytest.mark.parametrize("counting", ["exact", "limpq"])
@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: " ".join(limits))
def test_every_plan_of_the_frontier_meets_the_other_limits_and_is_the_search_at_its_bitops(tiny, limits, counting):
    free = limpq_hub.frontier(tiny.name, points=9, counting=counting)
    plans = limpq_hub.frontier(tiny.name, points=9, counting=counting, **limits)
    assert len(plans) > 1
    # The first layer is fixed at 8 bits and has the largest input: no other limit on the memory can be met and bind.
    assert limits.keys() == {"activation_memory"} or not all(meets(tiny, plan.policy, **limits) for plan in free)
    for plan in plans:
        assert meets(tiny, plan.policy, counting=counting, bitops=plan.bitops, **limits)
        assert (plan.counting, plan.optimal) == (counting, True)
        expected = limpq_hub.search(tiny.name, bitops=plan.bitops, counting=counting, **limits)
        assert plan.objective == expected.objective
    for cheaper, dearer in pairwise(plans):
        assert cheaper.bitops < dearer.bitops
        assert cheaper.objective > dearer.objective
    # The last one is the best that the other limits allow at any number of BitOps.
    assert plans[-1].objective == limpq_hub.search(tiny.name, bitops="1T", counting=counting, **limits).objective


def test_a_limit_that_no_plan_of_the_frontier_meets_is_refused_with_the_least_that_one_does(tiny):
    with pytest.raises(InfeasibleBudgetError, match=r'^size="1B" cannot be met: test_resnet at 32x32 needs') as caught:
        limpq_hub.frontier(tiny.name, size="1B")
    plans = limpq_hub.frontier(tiny.name, points=3, size=caught.value.minimum)
    assert {plan.size_bytes for plan in plans} == {caught.value.minimum}


def test_limits_of_the_frontier_that_only_conflict_together_are_refused_by_their_names_alone(tiny):
    # The largest layer has 165,888 weights and is the faster the more bits they have.
    times = {"layer4.0.conv1": {(w, a): 9 - w for w in (2, 3, 4) for a in (2, 3, 4)}}
    size = sum(cost.weights * (8 if cost.fixed else 2) for cost in tiny.costs.values()) // 8
    assert limpq_hub.frontier(tiny.name, points=2, size=size + 165_888 * 2 // 8, latency=(times, 5))
    message = (
        r'^size="\d+B" cannot be met together with latency: .*; or keep it, and use latency=\(table, "6"\) instead '
        r"\(alone: [\d.]+ to [\d.]+\)$"
    )
    with pytest.raises(InfeasibleBudgetError, match=message) as caught:
        limpq_hub.frontier(tiny.name, points=2, size=size + 165_888 * 2 // 8 - 1, latency=(times, 5))
    assert caught.value.minimum == size + 165_888 * 2 // 8
    assert "bitops" not in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"size": "4X"}, "size='4X' is not a budget"), ({"latency": 3}, "latency=3 is not a budget")],
)
def test_a_malformed_limit_of_the_frontier_is_refused(tiny, limits, message):
    with pytest.raises(BudgetError, match=f"^{message}"):
        limpq_hub.frontier(tiny.name, **limits)


# Policies to compare with


def test_the_baselines_never_import_torch(run_python, with_float):
    path = str(with_float / "indicators.json")
    code = (
        "import sys, limpq_hub\n"
        f"for model in ('resnet18', {f'local-dir:{with_float}'!r}, {path!r}, limpq_hub.Indicators.load({path!r})):\n"
        "    budget = '3G' if model == 'resnet18' else 'w3a3'\n"
        "    print(*limpq_hub.baselines(model, bitops=budget), sep=', ')\n"
        "print(sorted({'torch', 'timm', 'torchvision', 'huggingface_hub', 'matplotlib'} & set(sys.modules)))"
    )
    result = run_python(code)
    names = ", ".join(BASELINES)
    assert result.stdout == f"{names}, sensitivity\n" * 2 + f"{names}\n" * 2 + "[]\n"
    assert (result.stderr, result.returncode) == ("", 0)


@pytest.mark.parametrize("options", [SearchOptions, FrontierOptions, BaselineOptions, Limits])
def test_every_kind_of_constraint_is_a_keyword_of_every_function_that_takes_a_budget(options):
    kinds = {kind.name for kind in KINDS} - ({"bitops"} if options is FrontierOptions else set())
    assert kinds <= options.__annotations__.keys()
    assert all(f"\n        {kind}: " in limpq_hub.search.__doc__ for kind in kinds)


@pytest.mark.parametrize(
    ("function", "unknown"),
    [
        (limpq_hub.search, "bitop"),
        (limpq_hub.frontier, "bitops"),
        (limpq_hub.baselines, "candidates"),
        (limpq_hub.baselines, "pin"),
    ],
)
def test_a_keyword_that_a_function_does_not_take_is_refused_in_the_words_of_python(function, unknown):
    name = function.__name__
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument '{unknown}'$"):
        function("resnet18", **{"size": "3MB", unknown: "3G"})


def test_name_path_text_and_indicators_give_the_same_baselines(tiny):
    path = tiny.folder / "indicators.json"
    models = (tiny.name, path, str(path), tiny.indicators)
    baselines = [limpq_hub.baselines(model, bitops="w3a3") for model in models]
    assert list(baselines[0]) == BASELINES
    assert all(policies == baselines[0] for policies in baselines)
    assert baselines[0]["uniform"] == limpq_hub.Policy.uniform("test_resnet", tiny.costs, 3, input_size=32)


def compare(name: str, limpq) -> None:
    assert limpq("compare", name, "--bitops", "w3a3")[0] == 0


def show_the_frontier(name: str, limpq) -> None:
    assert limpq("frontier", name, "--points", "3")[0] == 0


def only_baselines(name: str, limpq) -> None:
    limpq_hub.baselines(name, bitops="w3a3")


@pytest.mark.parametrize("look", [compare, show_the_frontier, only_baselines])
def test_a_name_on_the_hub_is_taken_for_one_commit_once(on_hub, limpq, monkeypatch, look):
    asked, resolve = [], repository.resolve_commit
    monkeypatch.setattr(repository, "resolve_commit", lambda *arguments: asked.append(1) or resolve(*arguments))
    look("hf-hub:you/tiny", limpq)
    assert len(asked) == 1


def test_a_time_limit_does_not_hide_what_the_joint_weights_are_expected_to_reach(limpq, with_front):
    name = with_front((1, 10.0), (10**12, 50.0))
    shown = [
        limpq("frontier", name, "--points", "3", *more)[1] for more in ((), ("--time-limit", "30"), ("--tie", "*"))
    ]
    assert shown[0] == shown[1]
    assert [out.count("about ") > 0 for out in shown] == [True, True, False]


@pytest.mark.parametrize("counting", ["exact", "limpq"])
@pytest.mark.parametrize("limits", [{"bitops": "40M"}, *LIMITS, {"bitops": "40M", "size": "150kB"}], ids=" ".join)
def test_every_baseline_meets_the_same_limits_as_the_search(tiny, with_float, limits, counting):
    name = f"local-dir:{with_float}"
    for seed in range(3):
        policies = limpq_hub.baselines(name, seed=seed, counting=counting, **limits)
        assert list(policies) == [*BASELINES, "sensitivity"]
        policies["search"] = limpq_hub.search(name, counting=counting, **limits).policy
        for policy in policies.values():
            assert meets(tiny, policy, counting=counting, **limits)
            assert list(policy.layers) == list(tiny.costs)


def test_no_baseline_is_better_than_the_search(tiny, with_float):
    for budget in ("w2a3", "w3a3", "w3a4"):
        best = limpq_hub.search(tiny.name, bitops=budget)
        assert not best.excluded
        for policy in limpq_hub.baselines(f"local-dir:{with_float}", bitops=budget).values():
            plan = limpq_hub.Plan.of_policy(tiny.indicators, policy)
            # A search adds up whole multiples of 2^-50 of the largest objective.
            assert plan.objective >= best.objective * (1 - 1e-12)


def test_the_sensitivity_is_that_of_the_float_weights_that_ship_with_the_entry(tiny, with_float):
    policies = limpq_hub.baselines(f"local-dir:{with_float}", bitops="w3a3")
    tensors = float_tensors(open_local_folder(with_float, "entry"))
    weights = {name: tensors[f"{name}.weight"].float().ravel().numpy() for name in tiny.costs}
    expected = policies_to_compare(tiny.indicators, Budget(bitops="w3a3"), weights=weights)
    assert policies == expected
    assert len({bits.weight for bits in policies["sensitivity"].layers.values()}) > 2
    assert {bits.activation for bits in policies["sensitivity"].layers.values()} == {3, 8}


def test_a_damaged_float_network_is_not_passed_over(with_float):
    path = with_float / "float.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"float\.safetensors is "):
        limpq_hub.baselines(f"local-dir:{with_float}", bitops="w3a3")


def test_seed_alpha_and_counting_reach_the_baselines(tiny, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "limpq_hub.zoo.planning.policies_to_compare", lambda *values, **named: calls.append((values, named))
    )
    limpq_hub.baselines(tiny.name, size="4MB", seed=7, alpha=0.5, counting="limpq")
    ((indicators, budget), named) = calls[0]
    assert indicators.to_json() == tiny.indicators.to_json()
    assert budget == Budget(size="4MB")
    assert named == {"seed": 7, "alpha": 0.5, "counting": "limpq", "weights": None}


def test_the_bundled_model_has_all_baselines_within_three_giga_bitops():
    indicators = indicators_of("resnet18")
    policies = limpq_hub.baselines("resnet18", bitops="3G", seed=1)
    assert list(policies) == [*BASELINES, "sensitivity"]
    for policy in policies.values():
        bitops = sum(
            cost.macs * policy.layers[name].weight * policy.layers[name].activation
            for name, cost in indicators.costs.items()
        )
        assert bitops <= 3_000_000_000
    assert len({policy.digest() for policy in policies.values()}) == 5


@pytest.mark.parametrize(
    ("model", "limits", "error", "message"),
    [
        ("resnet18", {}, BudgetError, "no budget was given: use for example"),
        ("resnet18", {"bitops": "3X"}, BudgetError, "bitops='3X' is not a budget: the unit 'X' is not known"),
        ("resnet18", {"activation_memory": 1}, InfeasibleBudgetError, 'activation_memory="1B" cannot be met'),
        ("resnet81", {"bitops": "3G"}, UnknownModelError, "no model is named 'resnet81'; did you mean resnet18"),
        ("missing.json", {"bitops": "3G"}, UnknownModelError, "there is no file 'missing.json'"),
        (None, {"bitops": "3G"}, UnknownModelError, "a model is named by text, found None"),
    ],
)
def test_baselines_that_cannot_be_are_refused_as_a_search_is(model, limits, error, message):
    for function in (limpq_hub.baselines, limpq_hub.search):
        with pytest.raises(error, match=f"^{re.escape(message)}"):
            function(model, **limits)


@pytest.mark.parametrize("limits", [{"bitops": 1}, {"size": "1kB"}, {"compression": 100}], ids=str)
def test_a_budget_that_no_baseline_meets_is_refused_as_the_search_refuses_it(tiny, limits):
    with pytest.raises(InfeasibleBudgetError) as searched:
        limpq_hub.search(tiny.name, **limits)
    with pytest.raises(InfeasibleBudgetError, match=f"^{re.escape(str(searched.value))}$"):
        limpq_hub.baselines(tiny.name, **limits)


NUMBERS = [np.float32, np.float64, Fraction, Decimal]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_of_other_types_are_those_of_python(tiny, number):
    asked = {"bitops": "w3a3", "alpha": number(2), "time_limit_s": number(5), "allow_gap": number(0)}
    found, plain = search(tiny.indicators, **asked), search(tiny.indicators, bitops="w3a3", alpha=2.0)
    assert found.to_json() | {"seconds": 0} == plain.to_json() | {"seconds": 0}
    times = {(weight, activation): number(weight) for weight in (2, 3) for activation in (2, 3)}
    table = {name: times for name, cost in tiny.costs.items() if cost.fixed is None}
    of_python = {name: {bits: int(time) for bits, time in times.items()} for name, times in table.items()}
    only = {"candidates": [2, 3], "latency": (table, number(40))}
    assert (
        search(tiny.indicators, **only).policy == search(tiny.indicators, **only | {"latency": (of_python, 40)}).policy
    )


def test_whole_numbers_of_numpy_are_bits_and_counts(tiny):
    three = np.int64(3)
    plain = search(tiny.indicators, bitops="w3a3", candidates=[2, 3], pin={"layer4.*": (3, 2)})
    typed = search(tiny.indicators, bitops="w3a3", candidates=np.array([2, 3]), pin={"layer4.*": np.array([3, 2])})
    assert typed.policy == plain.policy
    json.dumps(typed.to_json())
    assert len(frontier(tiny.indicators, points=three)) == len(frontier(tiny.indicators, points=3))


def test_none_is_as_if_not_given(tiny):
    none = dict.fromkeys(("alpha", "counting", "importance", "candidates", "pin", "time_limit_s", "allow_gap", "size"))
    assert search(tiny.indicators, bitops="w3a3", **none).policy == search(tiny.indicators, bitops="w3a3").policy
    given = {"counting": None, "time_limit_s": None}
    assert baselines(tiny.indicators, bitops="w3a3", **given) == baselines(tiny.indicators, bitops="w3a3")
    assert len(frontier(tiny.indicators, points=2, **given)) == len(frontier(tiny.indicators, points=2))


@pytest.mark.parametrize(
    ("own", "options", "in_effect"),
    [
        ({}, {"apart": 6}, {}),
        ({}, {"apart": 1}, {"apart": 1}),
        ({"apart": 1}, {"apart": 1}, {}),
        ({"apart": 1}, {"apart": 6}, {"apart": 6}),
        ({"objective": "coupled", "apart": 1}, {"importance": "learned", "apart": 6}, {"importance": "learned"}),
        ({}, {"alpha": 9.0}, {"alpha": 9.0}),
        ({"objective": "measured"}, {"alpha": 9.0}, {}),
        ({"objective": "measured"}, {"alpha": 9.0, "importance": "learned"}, {"alpha": 9.0, "importance": "learned"}),
        ({}, {"time_limit_s": 3.0, "allow_gap": 0.1, "counting": "exact", "candidates": None}, {}),
    ],
    ids=str,
)
def test_an_option_that_says_what_a_search_does_anyway_is_not_in_effect(own, options, in_effect):
    indicators = SimpleNamespace(**{"alpha": 2.0, "objective": "learned", "apart": None, **own})
    assert options_in_effect(indicators, options, proven=True) == in_effect
