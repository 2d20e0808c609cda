"""Tests of the model card: what it says parses back to what was measured, and nothing else stands in it."""

import itertools
import json
import re
import shutil

import pytest
from huggingface_hub import ModelCard

from limpq_hub import search
from limpq_hub.zoo.card import render_card
from limpq_hub.zoo.catalog import find_entry


def card_of(name: str, **given) -> ModelCard:
    return ModelCard(render_card(find_entry(name), "you/net-limpq", license="mit", **given))


@pytest.fixture
def change(entry_copy, reseal):
    """A function that changes a JSON file of the copy of the entry, and returns its name; None deletes the file."""

    def again(file: str, update) -> str:
        path = entry_copy / file
        if update is None:
            path.unlink()
        else:
            path.write_text(json.dumps(update(json.loads(path.read_text()))))
        reseal(path.parent if path.parent.parent.name == "policies" else entry_copy)
        return f"local-dir:{entry_copy}"

    return again


def test_the_front_matter_parses_back_to_the_measured_figures(tiny):
    data = card_of(tiny.name).data
    assert [(result.metric_name, result.metric_value) for result in data.eval_results] == [
        ("top-1 in percent, policy small", 61.5),
        ("top-1 in percent, policy large", 72.25),
    ]
    for result in data.eval_results:
        assert (result.task_type, result.metric_type) == ("image-classification", "accuracy")
        assert result.dataset_split == "validation"
    assert (data.library_name, data.license, data.pipeline_tag) == ("limpq-hub", "mit", "image-classification")
    assert data.model_name == "net-limpq"
    assert {"limpq-hub", "limpq", "quantization", "mixed-precision", "timm"} == set(data.tags)
    assert (data.base_model, data.datasets) == (None, None)
    assert "base_model_relation" not in data.to_dict()


def test_the_card_of_the_bundled_entry_parses_back_to_the_figures_of_its_policies():
    published = [(found.name, found.top1) for found in find_entry("resnet18").published if found.top1 is not None]
    results = card_of("resnet18").data.eval_results
    assert [(result.metric_name.rpartition(" ")[2], result.metric_value) for result in results] == published
    assert {(result.dataset_name, result.metric_args["images"]) for result in results} == {("tiny-imagenet", 10000)}


def test_a_card_written_out_and_read_again_is_the_same(tiny, tmp_path):
    card = card_of(tiny.name)
    card.save(tmp_path / "README.md")
    again = ModelCard.load(tmp_path / "README.md")
    assert again.data.to_dict() == card.data.to_dict()
    assert again.text == card.text


def test_the_card_says_which_importance_chooses_the_bits(tiny, change):
    learned = "Bits are chosen by the learned step sizes"
    assert f"{learned}.\n" in card_of(tiny.name).content
    with_measured = f'{learned}; by measured pairs of bits with `importance="measured"`.\n'

    def with_pairs(content: dict) -> dict:
        for layer in content["layers"].values():
            if "weight_steps" in layer:
                pairs = itertools.product(layer["weight_steps"], layer["activation_steps"])
                layer["divergences"] = {f"{weight}/{activation}": 0.1 for weight, activation in pairs}
        return content

    both = card_of(change("indicators.json", with_pairs)).content
    assert with_measured in both
    measured = card_of(change("indicators.json", lambda content: content | {"objective": "measured"})).content
    assert 'alone at each pair of bits; by the sum of the step sizes with `importance="learned"`.\n' in measured
    because = {"provenance": {"objective_reason": "Training images chose it."}}
    near = {"objective": "coupled", "apart": 1, **because}
    coupled = card_of(change("indicators.json", lambda content: content | near)).content
    near = "weight and activation bits of a layer at most 1 apart"
    assert f"that of the weights times alpha, {near}; by the sum of the step sizes with" in coupled
    assert '`importance="learned"`; by measured pairs of bits with `importance="measured"`. Training' in coupled
    assert "Training images chose it.\n" in coupled


def test_a_base_model_is_named_with_its_relation(tiny):
    data = card_of(tiny.name, base_model="timm/resnet18.a1_in1k").data
    assert (data.base_model, data.base_model_relation) == ("timm/resnet18.a1_in1k", "quantized")


def test_the_data_set_is_named_where_the_entry_says_what_it_is(tiny, change):
    for data in ({"name": "noise-10"}, {"name": 3}, "noise", None):
        name = change("indicators.json", lambda old, data=data: old | {"provenance": {"command": "c", "data": data}})
        card = card_of(name)
        expected = "noise-10" if data == {"name": "noise-10"} else None
        assert {result.dataset_name for result in card.data.eval_results} == {expected or "unknown"}
        # The name of a folder is no data set of the Hub.
        assert card.data.datasets is None


@pytest.mark.parametrize(
    ("command", "dataset"),
    [
        ("training/indicators.py --data hfds/zh-plus/tiny-imagenet --lr 1", "zh-plus/tiny-imagenet"),
        ("training/indicators.py --data=hfds/you/data", "you/data"),
        ("training/indicators.py --data /work/hfds/you/data", None),
        ("training/indicators.py --data hfds/data", None),
        ("training/indicators.py --data torch/cifar10", None),
        ("training/indicators.py --teacher-data x", None),
        (3, None),
    ],
)
def test_a_data_set_of_the_hub_is_named_by_its_id_where_the_command_read_it_there(change, command, dataset):
    provenance = {"command": command, "data": {"name": "tiny-imagenet"}}
    of_policy = provenance if isinstance(command, str) else {}
    change("policies/large/config.json", lambda old: old | {"provenance": of_policy})
    card = card_of(change("indicators.json", lambda old: old | {"provenance": provenance}))
    assert card.data.datasets == ([dataset] if dataset else None)
    # The command of the indicators says nothing of what a policy was measured on.
    assert [result.dataset_type for result in card.data.eval_results] == ["tiny-imagenet", dataset or "tiny-imagenet"]
    assert {result.dataset_name for result in card.data.eval_results} == {"tiny-imagenet"}


def test_beside_each_figure_stand_data_images_and_seed_and_below_the_command_that_gives_it(entry_copy, change):
    def trained(old):
        provenance = {"command": "training/finetune.py --bitops 3G", "seed": 7, "data": {"name": "noise-7"}}
        return {**old, "provenance": provenance}

    change("policies/small/config.json", trained)
    of_float = {"top1": 80.0, "images": 400, "provenance": {"command": "training/pretrain.py", "seed": 3}}
    of_joint = {"command": "training/front.py", "seed": 5, "data": {"name": "noise-5"}}
    change("metrics.json", lambda old: old | {"float": of_float, "joint_provenance": of_joint})
    card = card_of(change("indicators.json", lambda old: old | {"provenance": {"data": {"name": "noise-1"}}}))
    rows = [line.split(" | ") for line in card.text.splitlines() if line.startswith("| ") and "%" in line]
    assert [[row[0], *row[-2:]] for row in rows] == [
        ["| float32", "80.00 % +/- 2.00", "noise-1, 400 validation images, seed 3 |"],
        ["| fine-tuned: large", "72.25 % +/- 2.24", "noise-1, 400 validation images, seed 0 |"],
        ["| fine-tuned: small", "61.50 % +/- 2.43", "noise-7, 400 validation images, seed 7 |"],
        [rows[3][0], "33.50 % +/- 2.36", "noise-5, 400 validation images, seed 5 |"],
    ]
    assert card.text.count("| top-1, +/- one standard error | measured on |") == 2
    for line in (
        "- float32, top-1: `training/pretrain.py`",
        "- joint weights, top-1: `training/front.py`",
        "- small, weights and top-1: `training/finetune.py --bitops 3G`",
    ):
        assert line in card.text.splitlines()
    small = next(result for result in card.data.eval_results if result.metric_name.endswith("small"))
    assert (small.metric_value, small.metric_args) == (61.5, {"images": 400, "seed": 7})
    assert (small.dataset_name, small.dataset_split) == ("noise-7", "validation")


@pytest.mark.parametrize("same", [True, False])
def test_the_float_network_is_said_to_be_measured_where_it_was_and_not_where_it_was_trained(change, same):
    def data(name: str, digest: str) -> dict[str, object]:
        return {"name": name, "split": "val", "validation_names_sha256": digest}

    trained = {"command": "training/pretrain.py", "seed": 3, "data": data("noise-3", "a")}
    measured = data("noise-3", "a") if same else data("noise-4", "b")
    of_float = {"top1": 80.0, "images": 400, "data": measured, "provenance": trained}
    card = card_of(change("metrics.json", lambda old: old | {"float": of_float}))
    name = "noise-3" if same else "noise-4"
    assert f" | 80.00 % +/- 2.00 | {name}, 400 validation images, seed 3 |" in card.text
    assert ("- float32, top-1: `training/pretrain.py`" in card.text) == same


@pytest.mark.parametrize(
    ("split", "shown"),
    [("test", "test"), ("val", "validation"), ("validation", "validation"), (None, "validation"), (3, "validation")],
)
def test_the_split_that_was_measured_on_is_named(change, split, shown):
    data = {"name": "noise-7"} | ({} if split is None else {"split": split})
    change("policies/small/config.json", lambda old: old | {"provenance": {"data": data}})
    # Of the large policy nothing is recorded: it was measured on the data of the indicators.
    card = card_of(change("indicators.json", lambda old: old | {"provenance": {"data": {"name": "n", "split": "dev"}}}))
    results = {result.metric_name.rpartition(" ")[2]: result for result in card.data.eval_results}
    assert (results["small"].dataset_name, results["small"].dataset_split) == ("noise-7", shown)
    assert (results["large"].dataset_name, results["large"].dataset_split) == ("n", "dev")
    rows = [line for line in card.text.splitlines() if line.startswith("| fine-tuned: ")]
    assert f"| noise-7, 400 {shown} images |" in rows[1]
    assert "| n, 400 dev images, seed 0 |" in rows[0]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("training/x.py --data /work/tiny-imagenet --lr 0.1", "training/x.py --data tiny-imagenet --lr 0.1"),
        ("accelerate launch training/x.py --output out/z/w3a3", "accelerate launch training/x.py --output w3a3"),
        (
            "training/x.py --data=~/data/ --model local-dir:out/joint",
            "training/x.py --data=data --model local-dir:joint",
        ),
        ("training/publish.py --checkpoint 3G=/home/me/out/3G", "training/publish.py --checkpoint 3G=3G"),
        ("compare.py --policies 'a b@c:d=/home/me/p.json'", "compare.py --policies 'a b@c:d=p.json'"),
        ("compare.py --policies=mine=/home/me/p.json", "compare.py --policies=mine=p.json"),
        ("training/x.py --weights '/home/me/my nets/float.pt'", "training/x.py --weights float.pt"),
        ("training/x.py --weights 'C:\\Users\\me\\float.pt'", "training/x.py --weights float.pt"),
        ("training/x.py --weights C:\\Users\\me\\float.pt --lr 1", "training/x.py --weights float.pt --lr 1"),
        ("training/x.py --data C:\\data\\x", "training/x.py --data x"),
        ("training/x.py --data=C:\\data\\ --lr 1", "training/x.py --data=data --lr 1"),
        ('training/x.py --data "C:\\my data\\.x"', "training/x.py --data .x"),
        ("training/x.py --data /home/me/my\\ data/x", "training/x.py --data x"),
        ("/home/me/limpq/training/x.py --data d", "x.py --data d"),
        ("training/x.py --data '/home/me/d", "training/x.py --data d"),
        *(
            (f"training/x.py {kept}", f"training/x.py {kept}")
            for kept in (
                "--model hf-hub:you/net@v1",
                "--data hfds/zh-plus/tiny-imagenet",
                "--data torch/cifar10 --push-to-hub you/net",
                "--push-to-hub=you/net --train-split=a/train --val-split=a/val --base-model=you/float --repo-id=you/x",
                "--auto-augment rand-m6-mstd0.5 --crop-scale 0.35 1.0",
            )
        ),
    ],
)
def test_a_command_is_shown_without_the_folders_of_the_machine_it_ran_on(change, command, expected):
    name = change("indicators.json", lambda old: old | {"provenance": {"command": command}})
    assert f"- indicators and joint weights: `{expected}`" in card_of(name).text.splitlines()


def test_no_card_of_a_bundled_entry_shows_a_local_folder():
    text = str(card_of("resnet18"))
    assert "/work" not in text
    assert "out/" not in text
    assert "--data tiny-imagenet" in text
    assert "tiny-imagenet, 10,000 validation images, seed 0" in text


def test_a_policy_that_was_not_measured_has_no_figure(change):
    name = change("policies/small/metrics.json", None)
    card = card_of(name)
    assert [result.metric_name for result in card.data.eval_results] == ["top-1 in percent, policy large"]
    (row,) = [line for line in card.text.splitlines() if line.startswith("| fine-tuned: small")]
    assert row.endswith("| not measured | - |")


def test_an_entry_of_which_nothing_was_measured_shows_no_percentage(entry_copy, change):
    change("policies/small/metrics.json", None)
    change("policies/large/metrics.json", None)
    name = change("metrics.json", None)
    card = card_of(name)
    assert not card.data.eval_results
    assert "%" not in card.text
    assert "metrics" not in str(card)
    assert "model-index" not in str(card)
    assert card.data.model_name is None


def test_every_percentage_of_the_card_was_measured(tiny):
    text = card_of(tiny.name).text
    assert sorted(re.findall(r"[0-9.]+(?= %)", text)) == ["33.50", "61.50", "72.25", "80.00"]


def test_joint_figures_after_recalibration_are_left_out(with_front):
    card = card_of(with_front((200_000_000, 40.0), (100_000_000, 20.0), (150_000_000, 99.0, 64)))
    rows = card.text.partition("Any other budget")[2].splitlines()
    figures = [row for row in rows if row.startswith("| ") and "%" in row]
    assert [row.split("|")[2].strip() for row in figures] == ["40.00 %", "20.00 %"]
    assert "99.00" not in card.text


def test_the_snippet_of_the_card_names_a_budget_that_a_search_meets(tiny):
    text = card_of(tiny.name).text
    found = re.search(r'limpq_hub\.load\("hf-hub:you/net-limpq", bitops=([0-9]+)\)', text)
    plan = search(tiny.name, bitops=int(found[1]))
    assert plan.bitops == max(published.bitops for published in find_entry(tiny.name).published)


def test_the_float_network_is_told_with_the_precision_it_is_stored_in_and_the_command_that_measures_it():
    text = card_of("resnet18").text
    (row,) = [line for line in text.splitlines() if line.startswith("| float")]
    assert row.startswith("| float, stored in half precision | - | 45.08MB in float32 | - | 49.61 % +/- 0.50 |")
    assert (
        "- float, stored in half precision, top-1: `accelerate launch -m limpq_hub.train.validate --model "
        "hf-hub:you/net-limpq --weights float --data FOLDER`" in text.splitlines()
    )
    (trained,) = [line for line in text.splitlines() if line.startswith("- the float network: ")]
    assert "training/pretrain.py" in trained


def test_the_figure_of_each_policy_and_how_everything_came_about_are_shown(tiny):
    text = card_of(tiny.name).text
    for name in ("small", "large"):
        assert f"(figures/bits-{name}.png)" in text
    assert "- indicators and joint weights: `tests/conftest.py`" in text
    assert "- small, weights and top-1: an unknown command" in text


def test_an_entry_without_policies_has_a_card(entry_copy, reseal):
    shutil.rmtree(entry_copy / "policies")
    reseal(entry_copy)
    card = card_of(f"local-dir:{entry_copy}")
    assert "model-index" not in str(card)
    assert "figures/" not in card.text
    budget = int(re.search(r"bitops=([0-9]+)", card.text)[1])
    assert search(f"local-dir:{entry_copy}", bitops=budget).optimal


@pytest.mark.parametrize("command", ["c` <script>alert(1)</script> `", "c\n# a heading"])
def test_a_command_cannot_break_out_of_its_place(change, command):
    name = change("indicators.json", lambda old: old | {"provenance": {"command": command}})
    (line,) = [line for line in card_of(name).text.splitlines() if line.startswith("- indicators and joint weights")]
    quoted = line.partition(": ")[2]
    fence = re.match("`+", quoted)[0]
    assert quoted.endswith(fence)
    assert fence not in quoted[len(fence) : -len(fence)]
    assert "# a heading" not in card_of(name).text.splitlines()


@pytest.mark.parametrize("license", ["apache-2.0", "other", "cc-by-nc-4.0"])
def test_the_licence_is_the_one_that_was_given(tiny, license):
    card = ModelCard(render_card(find_entry(tiny.name), "you/net-limpq", license=license))
    assert card.data.license == license


def test_a_licence_that_was_not_given_is_not_stated(tiny):
    card = ModelCard(render_card(find_entry(tiny.name), "you/net-limpq"))
    assert card.data.license is None
    assert "license" not in str(card)


@pytest.mark.parametrize("name", ["cats|dogs", "cats\ndogs", "cats\\|dogs", "|"])
def test_the_name_of_a_data_set_cannot_break_a_table(change, name):
    data = {"data": {"name": name}}
    change("indicators.json", lambda content: content | {"provenance": data})
    card = card_of(change("policies/small/config.json", lambda content: content | {"provenance": data})).text
    rows = [line for line in card.splitlines() if line.startswith("|")]
    shown = name.replace("\n", " ").replace("\\", "\\\\").replace("|", "\\|")
    assert sum(f"| {shown}, 400 validation images" in row for row in rows) == 4
    for row in rows:
        # What is escaped is no border: 6 cells of the policies, 3 of the joint weights.
        assert len(re.findall(r"(?:[^\\|]|\\.)*\|", row)) - 1 in (3, 6), row
