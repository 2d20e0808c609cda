"""Tests of what the buttons do, without a page: figures, totals, predictions and comparisons say what is true."""

import base64
import json
import math
import re
from dataclasses import replace

import _zoo
import pytest
from _actions import compare, find_bits
from _class_names import short_names
from _figures import bits_figure
from _picture_actions import classify
from _policies import MOST_POLICY_BYTES, RIVALS, UPLOADED, choices_of, chosen_plan, searched_choice
from _prediction import Prediction
from _request import Request
from _tables import layers_table
from _texts import TERMS
from _zoo import accuracy_of, budget_leading_to, entry_of, published_names, rival_policies, searched_plan, slider_range

from limpq_hub import Policy, baselines, frontier, list_models, load, search
from limpq_hub.errors import InfeasibleBudgetError, LimpqError, PolicyError, SearchError
from limpq_hub.pictures import read_picture, top_classes
from limpq_hub.plan.costs import FLOAT
from limpq_hub.plan.layer_bits import LayerBits

MODEL = "resnet18.tiny_imagenet"
UNIFORM = next(iter(RIVALS))


def silent(share: float, text: str) -> None:
    """A report that nobody reads."""


def cells(table: str) -> dict[str, list[str]]:
    """The rows of an HTML table by heading, without markup."""
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    words = [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row] for row in rows]
    return {row[0]: row[1:] for row in words}


def test_the_bars_are_the_bits_of_the_policy_in_layer_order_above_their_macs(request_3g):
    plan = search(MODEL, bitops="3G")
    weights, activations, macs = json.loads(find_bits(request_3g).bits)["data"]
    assert weights["x"] == activations["x"] == macs["x"] == list(plan.costs)
    assert weights["y"] == [plan.policy.layers[name].weight for name in plan.costs]
    assert activations["y"] == [plan.policy.layers[name].activation for name in plan.costs]
    assert macs["y"] == [cost.macs / 1e6 for cost in plan.costs.values()]


def test_each_layer_says_whether_it_was_chosen_and_which_bits_it_always_has_or_that_it_stays_in_float(request_3g):
    found, plan = entry_of(MODEL).indicators.costs, searched_plan(request_3g)
    fixed = {
        "conv1": LayerBits(6, 6),
        "layer1.0.conv1": FLOAT,
        "layer1.0.conv2": LayerBits(8, 4),
        "fc": LayerBits(8, 8),
    }
    costs = {name: replace(cost, fixed=fixed.get(name)) for name, cost in found.items()}
    policy = Policy(MODEL, {name: fixed.get(name, bits) for name, bits in plan.policy.layers.items()})
    trace = json.loads(bits_figure(policy, costs))["data"][0]
    told = dict(zip(trace["x"], trace["customdata"], strict=True))
    assert {name: told[name] for name in fixed} == {
        "conv1": "always 6 bits",
        "layer1.0.conv1": "always in float",
        "layer1.0.conv2": "always 8 / 4 bits",
        "fc": "always 8 bits",
    }
    assert {words for name, words in told.items() if name not in fixed} == {"chosen by the search"}
    table = layers_table({"A": policy, "B": policy}, costs)
    assert set(cells(table)) - set(found) == {
        "Layer",
        "conv1 ( fixed )",
        "layer1.0.conv1 ( in float )",
        "layer1.0.conv2 ( fixed )",
        "fc ( fixed )",
    }
    assert not re.search("always keep 8", table + TERMS["fixed"])


def test_the_totals_stand_beside_uniform_at_the_same_budget_and_float(request_3g):
    rows = cells(find_bits(request_3g).totals)
    uniform = baselines(MODEL, bitops="3G")["uniform"]
    assert rows[""] == ["This policy", "Uniform", "Filled up", "Float"]
    assert rows["BitOps , G"][0] == f"{search(MODEL, bitops='3G').bitops / 1e9:.2f}"
    bits = {layer.weight for name, layer in uniform.layers.items() if name not in ("conv1", "fc")}
    assert rows["Mean bits : weights"][1] == f"{bits.pop():.1f}"
    top1 = {published.name: published.top1 for published in entry_of(MODEL).published}
    of_float = f"{entry_of(MODEL).metrics['float']['top1']:.2f} ± 0.50"
    joint = entry_of(MODEL).joint_top1(search(MODEL, bitops="3G").policy.digest())
    # Weights of either kind in a row of their own: never one kind beside the other.
    assert rows["Top-1, %, fine-tuned"] == [f"{top1['3G']:.2f} ± 0.50", "not measured", "not measured", of_float]
    assert rows["Top-1 , %, joint"] == [f"{joint:.2f} ± 0.50", "not measured", "not measured", of_float]


def test_the_frontier_is_that_of_the_package_with_the_policy_on_it(request_3g):
    traces = {trace["name"]: trace for trace in json.loads(find_bits(request_3g).frontier)["data"][::-1]}
    best = frontier(MODEL, points=100)
    assert traces["best by coupled steps, BitOps alone (frontier)"]["y"] == [plan.objective for plan in best]
    chosen = searched_plan(request_3g)
    assert (traces["your policy"]["x"], traces["your policy"]["y"]) == ([chosen.bitops / 1e9], [chosen.objective])
    policies = entry_of(MODEL).published
    assert traces["top-1, fine-tuned"]["text"] == [published.name for published in policies]
    assert traces["top-1, fine-tuned"]["y"] == [published.top1 for published in policies]
    assert traces["top-1, fine-tuned"]["customdata"] == [f"{published.top1:.2f} % ± 0.50" for published in policies]
    for name in ("top-1, joint weights", "top-1, fine-tuned", "top-1, float network"):
        assert all(0.45 < error <= 0.5 for error in traces[name]["error_y"]["array"]), name


def test_the_download_is_the_policy(request_3g):
    content = re.search(r"base64,([^']+)'", find_bits(request_3g).download)[1]
    assert Policy.from_json(json.loads(base64.b64decode(content))) == search(MODEL, bitops="3G").policy


def test_the_proof_names_the_way_and_a_bound_equal_to_the_objective(request_3g):
    proof, plan = find_bits(request_3g).proof, search(MODEL, bitops="3G")
    assert plan.bound == plan.objective
    assert proof.count(f"{plan.objective:.6f}") == 2
    assert plan.way in proof
    assert "ms" in proof


@pytest.mark.parametrize("model", list_models())
def test_every_published_policy_is_what_its_button_asks_for(model):
    low, high = slider_range(model)
    digests = {published.name: published.policy_sha256 for published in entry_of(model).published}
    assert published_names(model) == list(digests)
    for name in digests:
        budget = budget_leading_to(model, name)
        assert low <= budget <= high
        found = searched_plan(Request(model, budget)).policy
        assert found.digest() == digests[name]
        assert accuracy_of(Request(model, budget), found, searched=True).weights == "fine-tuned", name


@pytest.mark.parametrize(
    "error",
    [
        SearchError("no proven optimum within 5 s"),
        InfeasibleBudgetError("cannot be met", requested=1, minimum=2, maximum=3, constraint="bitops"),
    ],
    ids=repr,
)
def test_a_published_policy_that_no_search_of_the_entry_finds_has_the_budget_of_its_bitops(monkeypatch, error):
    entry, asked = entry_of(MODEL), []
    policy = next(policy for policy in entry.published if policy.name == "w3a3")

    def failing(indicators, *, bitops, time_limit_s):
        asked.append(bitops)
        raise error

    monkeypatch.setattr(_zoo, "search", failing)
    _zoo._budget_leading_to.cache_clear()
    try:
        assert budget_leading_to(MODEL, "w3a3") == math.ceil(policy.bitops / 1e7) / 100
    finally:
        _zoo._budget_leading_to.cache_clear()
    assert len(asked) == 1
    # What was not found in time is looked for again.
    monkeypatch.undo()
    assert searched_plan(Request(MODEL, budget_leading_to(MODEL, "w3a3"))).policy.digest() == policy.policy_sha256


def test_the_policies_beside_the_search_are_looked_for_within_its_time(monkeypatch, request_3g):
    limits = []
    monkeypatch.setattr(_zoo, "baselines", lambda indicators, **options: limits.append(options["time_limit_s"]) or {})
    rival_policies(request_3g)
    assert limits == [_zoo.SEARCH_LIMIT_S]


def test_both_ends_of_the_slider_can_be_met():
    low, high = slider_range(MODEL)
    assert searched_plan(Request(MODEL, low)).bitops <= low * 1e9
    assert searched_plan(Request(MODEL, high)).policy == search(MODEL, bitops="100G").policy
    with pytest.raises(InfeasibleBudgetError):
        searched_plan(Request(MODEL, low - 0.01))


def test_accuracy_between_measured_budgets_says_that_it_is_not_measured():
    plan = searched_plan(Request(MODEL, 3.2))
    expected = accuracy_of(Request(MODEL, 3.2), plan.policy, searched=True)
    assert not expected.measured
    assert accuracy_of(Request(MODEL, 3.2, alpha=1.0), plan.policy, searched=True) is None
    assert accuracy_of(Request(MODEL, 3.2), plan.policy, searched=False) is None


@pytest.mark.filterwarnings("ignore::limpq_hub.zoo.loading.NotFineTunedWarning")
def test_a_picture_is_classified_as_by_the_networks_of_the_package_both_policies_with_joint_weights(
    request_3g, networks, lion
):
    predictions = classify(str(lion), request_3g, UNIFORM, networks, silent)
    assert [prediction.title for prediction in predictions] == ["Float", "Your policy", "Uniform"]
    assert [prediction.weights for prediction in predictions] == ["float", "joint", "joint"]
    policies = [None, search(MODEL, bitops="3G").policy, rival_policies(request_3g)["uniform"]]
    for prediction, policy in zip(predictions[1:], policies[1:], strict=True):
        guesses = top_classes(load(MODEL, policy=policy, weights="joint"), read_picture(lion))
        assert list(prediction.classes.values()) == [guess.probability for guess in guesses]
        assert list(prediction.classes) == [guess.name.split(",")[0] for guess in guesses]
    assert next(iter(predictions[0].classes)) == "lion"
    assert predictions[0].size_bytes == 4 * sum(cost.weights for cost in entry_of(MODEL).indicators.costs.values())
    joint = next(
        record for record in entry_of(MODEL).front(calibrated=False) if record["policy_sha256"] == policies[1].digest()
    )
    assert predictions[1].accuracy.top1 == joint["top1"]
    same, shared = predictions[1].agrees(predictions[0])
    assert same
    assert shared == len(set(predictions[0].classes) & set(predictions[1].classes))


def test_progress_is_told_and_never_goes_back(request_3g, networks, lion):
    told = []
    classify(str(lion), request_3g, UNIFORM, networks, lambda share, text: told.append((share, text)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert [text for _, text in told][:2] == ["Starting torch, for the first picture only", "Reading the picture"]
    assert all(0 <= share <= 1 for share, _ in told)


def test_two_policies_are_compared_layer_by_layer(request_3g):
    compared = compare(request_3g, searched_choice(MODEL), UNIFORM, None)
    learned, uniform = search(MODEL, bitops="3G").policy, baselines(MODEL, bitops="3G")["uniform"]
    rows = cells(compared.layers)
    for name, bits in learned.layers.items():
        row = rows[name] if name in rows else rows[f"{name} ( fixed )"]
        other = uniform.layers[name]
        assert row[1:] == [f"{bits.weight} / {bits.activation}", f"{other.weight} / {other.activation}"]
    assert compared.layers.count("class='changed'") == 2 * sum(
        bits != uniform.layers[name] for name, bits in learned.layers.items()
    )


def test_every_choice_of_a_comparison_is_a_policy_and_an_upload_is_the_one_in_the_file(request_3g, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(search(MODEL, bitops="2G").policy.to_json()))
    for choice in choices_of(MODEL):
        assert chosen_plan(request_3g, choice, str(path)).bitops > 0, choice
    assert chosen_plan(request_3g, UPLOADED, str(path)).policy == search(MODEL, bitops="2G").policy
    # What `limpq search --json` prints holds the policy too.
    path.write_text(json.dumps(search(MODEL, bitops="2G").to_json()))
    assert chosen_plan(request_3g, UPLOADED, str(path)).policy == search(MODEL, bitops="2G").policy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the policy.json is not JSON"),
        ("[1]", "the policy.json holds no policy"),
        ("{}", "not a policy of format 1"),
        ('{"policy": 3}', "not a policy of format 1"),
        ('{"a": NaN}', "NaN is not a number"),
        ("[" * 100_000, "is not JSON"),
        ('{"format": 1, "model": "resnet50", "layers": {"a": {"weight": 2, "activation": 2}}}', "is for 'resnet50'"),
        ('{"format": 1, "model": "resnet18", "layers": {"a": {"weight": 2, "activation": 2}}}', "layer"),
        ('{"format": 1, "model": "resnet18", "layers": {"a": {"weight": 99, "activation": 2}}}', "99 cannot be"),
        (" " * (MOST_POLICY_BYTES + 1), "larger than 1 MB"),
    ],
    ids=range(10),
)
def test_an_upload_that_is_no_policy_of_the_model_is_refused_in_one_sentence(request_3g, tmp_path, content, message):
    (tmp_path / "policy.json").write_text(content)
    with pytest.raises(LimpqError, match=message) as caught:
        chosen_plan(request_3g, UPLOADED, str(tmp_path / "policy.json"))
    assert str(tmp_path) not in str(caught.value)


def test_a_choice_without_a_file_and_one_that_does_not_exist_say_what_to_do(request_3g):
    with pytest.raises(PolicyError, match=r"there is no policy\.json yet; upload one"):
        chosen_plan(request_3g, UPLOADED, None)
    with pytest.raises(PolicyError, match=r"^the policy\.json is no longer there; upload it again$"):
        chosen_plan(request_3g, UPLOADED, "/tmp/that/is/gone/policy.json")
    with pytest.raises(PolicyError, match="there is no policy of this name; choose one of: coupled steps"):
        chosen_plan(request_3g, "published: nothing", None)


def test_classes_are_called_by_their_first_name_unless_two_share_it():
    classes = [{"id": "a", "name": "crane, bird"}, {"id": "b", "name": "crane, machine"}, {"id": "c", "name": "fly, x"}]
    assert short_names(classes) == {"a": "crane, bird", "b": "crane, machine", "c": "fly"}


def test_classes_of_one_name_are_told_apart_by_their_ids():
    classes = [{"id": "a", "name": "crane"}, {"id": "b", "name": "crane"}, {"id": "c", "name": "crane, large"}]
    assert short_names(classes) == {"a": "crane (a)", "b": "crane (b)", "c": "crane, large"}


@pytest.mark.parametrize("model", list_models())
def test_no_two_classes_of_a_bundled_entry_are_called_alike(model):
    classes = entry_of(model).classes
    assert len(set(short_names(classes).values())) == len(classes)


def test_two_classes_of_one_name_are_two_answers():
    bird = Prediction("Float", {"crane": 0.7, "fly": 0.1}, ("a", "c"), 1, None, None, "float", None)
    machine = Prediction("Uniform", {"crane": 0.6, "fly": 0.2}, ("b", "c"), 1, None, None, "joint", None)
    assert machine.agrees(bird) == (False, 1)
    assert bird.agrees(bird) == (True, 2)
