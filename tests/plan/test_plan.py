"""Plans: their costs, their JSON and their table."""

from __future__ import annotations

import copy
import io
import json
import math
import random
from dataclasses import replace

import pytest
from rich.console import Console

from limpq_hub.errors import ArtifactFormatError, PolicyError
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.jsonfile import read_json, write_json
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.optimum import search
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy


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


def test_mean_bits_are_those_of_the_searched_layers_or_of_all_where_none_is(network):
    steps = {bits: 1 / bits for bits in (2, 3, 4)}
    indicators = network({"a": steps, "b": steps}, {"a": steps, "b": steps}, macs=10, fixed={"head": (8, 8)})
    policy = Policy("toynet", {"a": LayerBits(4, 2), "b": LayerBits(3, 2), "head": LayerBits(8, 8)})
    plan = Plan.of_policy(indicators, policy)
    assert plan.mean_bits() == (3.5, 2.0)
    ends = Policy("toynet", {"head": LayerBits(8, 8)})
    assert replace(plan, policy=ends, costs={"head": plan.costs["head"]}).mean_bits() == (8.0, 8.0)


def test_the_json_of_a_plan_holds_the_policy_the_proof_and_the_outliers(indicators):
    plan = search(indicators, Budget(bitops=8640))
    content = json.loads(json.dumps(plan.to_json(), allow_nan=False))
    assert Policy.from_json(content["policy"]) == plan.policy
    assert content["excluded"] == [{"layer": "a", "kind": "weight", "bits": 3, "step": 0.05, "step_above": 0.1}]
    for key in ("bitops", "size_bytes", "compression", "activation_bytes", "objective", "bound", "optimal", "alpha"):
        assert content[key] == getattr(plan, key)
    assert (content["format"], content["counting"], content["notes"]) == (1, "exact", [])
    assert content["way"] == plan.way == "enumeration"
    assert content["costs"] == {
        "a": {"macs": 1000, "macs_limpq": 1000, "weights": 9, "inputs": 65, "signed": False, "fixed": None},
        "head": {
            "macs": 10, "macs_limpq": 10, "weights": 3, "inputs": 4, "signed": False,
            "fixed": {"weight": 8, "activation": 8},
        },
    }  # fmt: skip


def test_the_table_names_every_layer_with_its_bits_and_share(indicators):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(search(indicators, Budget(bitops=8640)).table())
    console.file.close()
    text = console.export_text()
    assert "toynet at 32x32: 8.64K BitOps, 8B" in text
    for row in (["a", "4", "2", "1.00K", "8.00K", "92.6%"], ["head (fixed)", "8", "8", "10", "640", "7.4%"]):
        assert any(all(cell in line for cell in row) for line in text.splitlines())
    assert "6.40x smaller than float32, objective 0.500000 (learned steps) proven optimal" in " ".join(text.split())
    assert "ms by enumeration" in " ".join(text.split())


@pytest.mark.parametrize("name", ["[red]net", "net[/x]"])
def test_the_table_shows_the_name_of_a_model_in_brackets_as_it_is(indicators, name):
    policy = search(indicators, Budget(bitops=8640)).policy
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(Plan.of_policy(replace(indicators, model=name), replace(policy, model=name)).table())
    assert f"{name} at 32x32: 8.64K BitOps" in console.export_text()


def test_the_plan_of_a_policy_that_was_not_searched_claims_no_proof(indicators):
    policy = Policy("toynet", {"a": LayerBits(2, 4), "head": LayerBits(8, 8)})
    plan = Plan.of_policy(indicators, policy)
    assert (plan.policy, plan.bitops, plan.optimal, plan.bound) == (policy, 8640, False, 0.0)
    assert plan.objective == pytest.approx(0.2 + 2 * 0.4)
    assert Plan.of_policy(indicators, policy, alpha=1.0).objective == pytest.approx(0.6)
    assert (plan.way, plan.excluded, plan.counting) == ("", (), "exact")


def test_a_policy_is_counted_as_it_is_asked_for(network):
    indicators = network({"a": {4: 0.1}}, macs=1000, macs_limpq={"a": 1100})
    policy = Policy("toynet", {"a": LayerBits(4, 4)})
    plans = [Plan.of_policy(indicators, policy, counting=counting) for counting in ("exact", "limpq")]
    assert [(plan.bitops, plan.counting) for plan in plans] == [(16_000, "exact"), (17_600, "limpq")]
    assert plans[0].objective == plans[1].objective
    # What a table multiplies is what it counts.
    assert [next(plan.table().columns[3].cells) for plan in plans] == ["1.00K", "1.10K"]


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


# And back


def through_json(plan):
    return Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False)))


def limits_of(indicators, kinds):
    """Return arguments of `Budget` that lie between the fewest and the most bits of a network."""
    costs = indicators.costs.values()
    size = sum(cost.weights * (8 if cost.fixed else 3) for cost in costs) // 8
    layer = indicators.weight_steps["layer0"]
    every = {
        "bitops": "w3a3",
        "size": size,
        "compression": sum(4 * cost.weights for cost in costs) / (size + 1),
        "activation_memory": max(cost.inputs for cost in costs),
        "latency": ({"layer0": {(w, a): 0.1 * w * a for w in layer for a in layer}}, 1.3),
    }
    return {kind: every[kind] for kind in kinds.split()}


@pytest.mark.parametrize("counting", ["exact", "limpq"])
@pytest.mark.parametrize(
    "kinds", ["bitops", "size", "compression", "latency", "bitops size", "bitops activation_memory latency"]
)
def test_a_plan_comes_back_from_json_as_it_was(random_network, kinds, counting):
    for seed in range(5):
        indicators = random_network(random.Random(seed), candidates=(2, 3, 4, 6))
        plan = search(indicators, Budget(**limits_of(indicators, kinds)), counting=counting, alpha=0.3)
        # Limits on the weights alone, and one of a byte for each input, which 6 bits do not fill.
        assert bool(plan.notes) == (kinds in ("size", "compression") or "activation_memory" in kinds)
        read_back = through_json(plan)
        assert read_back == plan
        assert read_back.to_json() == plan.to_json()
        assert list(read_back.policy.layers) == list(plan.policy.layers)
        assert (read_back.counting, read_back.alpha, read_back.seconds) == (counting, 0.3, plan.seconds)


def test_a_plan_with_outliers_and_one_that_no_search_found_come_back_as_they_were(indicators):
    plan = search(indicators, Budget(bitops=8640))
    assert plan.excluded
    assert through_json(plan) == plan
    plan = Plan.of_policy(indicators, plan.policy, alpha=1, counting="limpq")
    assert through_json(plan) == plan


def test_a_plan_that_was_written_to_a_file_comes_back_and_its_table_is_the_same(indicators, tmp_path):
    plan = search(indicators, Budget(bitops=8640))
    write_json(tmp_path / "plan.json", plan.to_json())
    read_back = Plan.from_json(read_json(tmp_path / "plan.json"))
    assert read_back == plan
    assert str(read_back) == str(plan)
    assert [list(column.cells) for column in read_back.table().columns] == [
        list(column.cells) for column in plan.table().columns
    ]


@pytest.fixture
def content(indicators):
    """The JSON of a plan with an outlier."""
    return json.loads(json.dumps(search(indicators, Budget(bitops=8640)).to_json()))


GONE = ...


def changed(content, path, value):
    """Return a copy of the JSON with one value changed, or without it."""
    content = copy.deepcopy(content)
    *outer, last = path
    inner = content
    for key in outer:
        inner = inner[key]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    return content


def refused(content, *named):
    """Assert that the JSON is refused with one sentence that holds all of `named`."""
    with pytest.raises(ArtifactFormatError) as caught:
        Plan.from_json(content, "my plan")
    message = str(caught.value)
    assert message.startswith("my plan")
    assert all(name in message for name in named), message
    assert "\n" not in message
    assert len(message) < 300
    return message


@pytest.mark.parametrize("content", [None, 3, "plan", [], [{}]], ids=str)
def test_what_is_no_object_is_no_plan(content):
    with pytest.raises(ArtifactFormatError, match=r"^plan must be an object, found "):
        Plan.from_json(content)


@pytest.mark.parametrize("format", [0, 2, -1])
def test_a_plan_of_another_format_is_refused(content, format):
    message = refused(content | {"format": format})
    assert message == f"my plan is of format {format}, this version reads 1; upgrade limpq-hub"


@pytest.mark.parametrize("format", [True, 1.0, "1", None])
def test_a_format_that_is_no_whole_number_is_refused(content, format):
    assert refused(content | {"format": format}) == f"my plan: format must be a whole number, found {format!r}"


@pytest.mark.parametrize(
    "key",
    [
        *("format", "policy", "bitops", "size_bytes", "activation_bytes", "objective", "bound", "optimal", "excluded"),
        *("alpha", "counting", "seconds", "notes", "way", "costs"),
        "compression",
    ],
)
def test_a_plan_without_one_of_its_keys_is_refused_and_the_key_is_named(content, key):
    assert key in content
    refused(changed(content, [key], GONE), key)


def test_every_key_of_the_file_was_tried(content):
    parametrized = test_a_plan_without_one_of_its_keys_is_refused_and_the_key_is_named.pytestmark[0].args[1]
    assert {getattr(key, "values", [key])[0] for key in parametrized} == set(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # What the costs of the policy do not add up to.
        (["bitops"], 8639, "bitops is 8639, a recount gives 8640"),
        (["bitops"], "8640", "bitops is '8640', a recount gives 8640"),
        (["bitops"], None, "bitops is None, a recount gives 8640"),
        (["size_bytes"], 7, "size_bytes is 7, a recount gives 8"),
        (["activation_bytes"], 18, "activation_bytes is 18, a recount gives 17"),
        (["policy", "layers", "a", "weight"], 2, "bitops is 8640, a recount gives 4640"),
        (["policy", "layers", "a", "activation"], 4, "bitops is 8640, a recount gives 16640"),
        (["costs", "a", "macs"], 999, "bitops is 8640, a recount gives 8632"),
        (["costs", "a", "weights"], 90, "size_bytes is 8, a recount gives 48"),
        (["costs", "a", "inputs"], 650, "activation_bytes is 17, a recount gives 163"),
        # What no policy is.
        (["policy"], [], "policy must be an object, found []"),
        (["policy", "format"], 2, "not a policy of format 1: found format 2"),
        (["policy", "model"], None, 'a policy needs "model" (a timm architecture) and "layers" (bits by layer name)'),
        (["policy", "layers"], {}, 'a policy needs "model" (a timm architecture) and "layers" (bits by layer name)'),
        (["policy", "layers", "a"], {"weight": 4}, 'layer \'a\' needs exactly "weight" and "activation" bits'),
        (["policy", "layers", "a", "weight"], 9, "layer 'a': weight bits of 9 cannot be"),
        (["policy", "layers", "a", "activation"], 4.0, "layer 'a': activation bits of 4.0 cannot be"),
        (["policy", "layers", "b"], {"weight": 4, "activation": 4}, "the policy is for other layers: it has foreign b"),
        (["policy", "layers", "a"], GONE, "the policy is for other layers: it lacks a"),
        (["policy", "input_size"], 0, '"input_size" of a policy is pixels, a positive whole number: found 0'),
        # What no costs are.
        (["costs"], [], "costs must be an object, found []"),
        (["costs"], {}, "the policy is for other layers: it has foreign a, head"),
        (["costs", "a"], GONE, "the policy is for other layers: it has foreign a"),
        (["costs", "a"], None, "layer 'a': must be a JSON object, found None"),
        (["costs", "a"], [], "layer 'a': must be a JSON object, found []"),
        (["costs", "a", "macs"], GONE, "layer 'a': \"macs\" is missing"),
        (["costs", "a", "params"], 5, "layer 'a': 'params' is not known in format 2"),
        *(
            (["costs", "a", key], value, f"layer 'a': \"{key}\" must be a whole number of at least 1, found {value!r}")
            for key, value in (("macs", None), ("macs_limpq", "many"), ("weights", 0), ("weights", 9.0), ("inputs", -1))
        ),
        (["costs", "a", "signed"], 1, "layer 'a': \"signed\" must be true or false, found 1"),
        (["costs", "a", "fixed"], False, 'layer \'a\': "fixed" needs "weight" and "activation" bits, found False'),
        (["costs", "head", "fixed"], [8, 8], 'layer \'head\': "fixed" needs "weight" and "activation" bits'),
        (["costs", "head", "fixed"], {"weight": 8}, 'layer \'head\': "fixed" needs "weight" and "activation" bits'),
        (["costs", "head", "fixed", "weight"], 9, "layer 'head': \"fixed\": weight bits of 9 cannot be"),
        (["costs", "head", "fixed", "weight"], 4, "layer 'head' is fixed at"),
        (["policy", "layers", "head", "weight"], 4, "layer 'head' is fixed at"),
        # What no proof is.
        *((["objective"], value, "objective must be a number, found ") for value in ("0.5", None, [], True, 10**400)),
        *((["bound"], value, "bound must be a number, found ") for value in ("0.5", None)),
        (["bound"], 0.6, "the bound 0.6 is above the objective"),
        *((["alpha"], value, "alpha must be a number, found ") for value in ("2", None, float("nan"))),
        *((["seconds"], value, "seconds must be a number, found ") for value in ("1", None, float("inf"))),
        *((["optimal"], value, "optimal must be true or false, found ") for value in ("no", 0, None)),
        *((["counting"], value, "counting must be text, found ") for value in (None, 1)),
        (["counting"], "fast", "counting 'fast' is not known"),
        *((["way"], value, "way must be text, found ") for value in (1, None)),
        # What no outliers and notes are.
        (["excluded"], None, "excluded must be a list, found None"),
        (["excluded", 0], "a", "excluded must be an object, found 'a'"),
        (["excluded", 0], {}, "excluded: layer is missing"),
        (["excluded", 0, "step"], GONE, "excluded: step is missing"),
        (["excluded", 0, "step"], "", "excluded: step must be a number, found ''"),
        (["excluded", 0, "layer"], 3, "excluded: layer must be text, found 3"),
        (["excluded", 0, "bits"], "3", "excluded: bits must be a whole number, found '3'"),
        (["notes"], "text", "notes must be a list, found 'text'"),
        (["notes"], [3], "notes must be text, found 3"),
    ],
    ids=str,
)
def test_tampered_json_is_refused_with_one_sentence_that_names_the_key(content, path, value, message):
    assert refused(changed(content, path, value)).startswith(f"my plan: {message}")


def test_keys_that_are_not_known_are_passed_over_outside_of_the_costs(content, indicators):
    content["top1"] = 61.5
    content["excluded"][0]["why"] = "?"
    assert Plan.from_json(content) == Plan.from_json(changed(content, ["top1"], GONE))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((["compression"], value) for value in ("much", None, 99.0)),
        (["costs", "head", "fixed"], GONE),  # the layer is then no longer fixed
        (["excluded", 0, "kind"], "bias"),
        (["alpha"], -1.0),
    ],
    ids=str,
)
def test_a_value_that_no_search_gives_is_refused_by_its_key(content, path, value):
    refused(changed(content, path, value), path[-1])


def test_a_compression_that_was_rounded_up_by_an_earlier_version_is_read_as_the_recount(content):
    content["compression"] = math.nextafter(Plan.from_json(content).compression, math.inf)
    assert Plan.from_json(content).compression < content["compression"]


def test_a_recount_of_more_digits_than_python_prints_is_refused(content):
    refused(changed(content, ["costs", "head", "macs"], 10**4299), "bitops")
