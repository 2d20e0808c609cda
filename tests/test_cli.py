"""Tests of the `limpq` command: data on stdout, messages on stderr, and an exit code for each kind of failure."""

import json
import pickle
import re

import pytest
import torch
from PIL import Image

from limpq_hub import Indicators, Policy, __version__, frontier, load, search
from limpq_hub.cli import main
from limpq_hub.plan.budget import format_bitops, format_size
from limpq_hub.zoo import catalog

COMMANDS = ("list", "search", "frontier", "info", "predict", "import")


@pytest.fixture
def limpq(capsys):
    """A function that runs the command and returns (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "noise.png"
    Image.effect_noise((40, 30), 80).save(path)
    return path


@pytest.fixture
def steps_pickle(tmp_path, tiny):
    """A pickle as the LIMPQ authors publish it, with the steps of the tiny entry."""
    kinds = {"weight": tiny.indicators.weight_steps, "act": tiny.indicators.activation_steps}
    content = {
        kind: {f"module.{name}": dict(of_layer) for name, of_layer in steps.items()} for kind, steps in kinds.items()
    }
    path = tmp_path / "steps.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


def test_without_a_command_the_usage_is_shown(limpq):
    code, out, err = limpq()
    assert (code, out) == (2, "")
    assert "the following arguments are required: COMMAND" in err


def test_help_lists_every_command(limpq):
    code, out, err = limpq("--help")
    assert (code, err) == (0, "")
    assert all(re.search(rf"^    {command} ", out, re.MULTILINE) for command in COMMANDS)
    for command in COMMANDS:
        code, out, err = limpq(command, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"usage: limpq {command} ")


def test_the_version_is_printed(limpq):
    assert limpq("--version") == (0, f"limpq-hub {__version__}\n", "")


def test_python_dash_m_is_the_same_command(run_python):
    code = "import runpy, sys; sys.argv = ['limpq', '--version']; runpy.run_module('limpq_hub', run_name='__main__')"
    result = run_python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"limpq-hub {__version__}\n", "")


def test_list_shows_every_model_and_what_to_do_next(limpq):
    code, out, err = limpq("list")
    assert code == 0
    assert "resnet18.tiny_imagenet" in out
    assert "3G fine-tuned" in out
    assert err == "next: limpq search resnet18.tiny_imagenet --bitops w4a4\n"


def test_list_as_json_holds_the_summaries_and_nothing_else(limpq):
    code, out, err = limpq("list", "resnet*", "--json")
    assert (code, err) == (0, "")
    (found,) = [entry for entry in json.loads(out) if entry["name"] == "resnet18.tiny_imagenet"]
    assert found["num_classes"] == 200
    assert [policy["bitops"] <= 3e9 for policy in found["policies"] if policy["name"] == "3G"] == [True]
    assert limpq("list", "no_such_*", "--json") == (0, "[]\n", "")


def cells(out: str) -> list[list[str]]:
    """Return the cells of each row of a printed table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


@pytest.fixture
def listed(entry_copy, monkeypatch):
    """The copy of the tiny entry as the only bundled one."""
    monkeypatch.setattr(catalog, "BUNDLED", entry_copy.parent)
    return entry_copy


def test_list_shows_weights_and_files_of_a_policy_and_both_figures_of_the_joint_weights(
    limpq, tiny, listed, with_front
):
    with_front(
        (9_000_000, 60.0, 0, "b"),
        (5_000_000, 35.25, 64, "a"),
        (5_000_000, 33.5, 0, "a"),
        (7_000_000, 50.0, 0, "c"),
        (9_000_000, 61.125, 64, "b"),
    )
    code, out, err = limpq("list")
    assert (code, err) == (0, "next: limpq search test_resnet.noise --bitops w4a4\n")
    assert "┃ on disk " in out
    weights = sum(cost.weights for cost in tiny.costs.values())
    expected = [["test_resnet.noise", "32", "float32", "", format_size(4 * weights), "", "80.00 %"]]
    for name, top1 in (("small", "61.50 %"), ("large", "72.25 %")):
        bits = {layer: (tiny.costs[layer], found) for layer, found in tiny.policies[name].layers.items()}
        bitops = sum(cost.macs * found.weight * found.activation for cost, found in bits.values())
        size = sum(cost.weights * found.weight for cost, found in bits.values()) / 8
        disk = sum(path.stat().st_size for path in (listed / "policies" / name).iterdir())
        figures = [format_bitops(bitops), format_size(round(size)), format_size(disk), top1]
        expected.append(["", "32", f"{name} fine-tuned", *figures])
    for bitops, top1 in (("9.00M", "60.00 %, recalibrated 61.12 %"), ("7.00M", "50.00 %"), ("5.00M", None)):
        top1 = top1 or "33.50 %, recalibrated 35.25 %"
        expected.append(["", "32", "joint, set to this budget", bitops, "", "", top1])
    assert cells(out) == expected


def test_list_as_json_says_how_large_a_policy_is_on_disk(limpq, listed):
    code, out, _ = limpq("list", "--json")
    (entry,) = json.loads(out)
    disk = {folder.name: sum(path.stat().st_size for path in folder.iterdir()) for folder in listed.glob("policies/*")}
    assert code == 0
    assert {policy["name"]: policy["disk_bytes"] for policy in entry["policies"]} == disk


def test_frontier_prints_a_line_for_each_plan_from_the_fewest_bitops_to_the_most(limpq, tiny):
    code, out, err = limpq("frontier", tiny.name, "--points", 5)
    plans = frontier(tiny.name, points=5)
    assert (code, len(plans)) == (0, 5)
    searched = [name for name, cost in tiny.costs.items() if not cost.fixed]
    expected = []
    for plan in plans:
        bits = [plan.policy.layers[name] for name in searched]
        expected.append(
            [
                format_bitops(plan.bitops),
                format_size(plan.size_bytes),
                f"{plan.compression:.2f}x",
                f"{sum(layer.weight for layer in bits) / len(searched):.2f}",
                f"{sum(layer.activation for layer in bits) / len(searched):.2f}",
                f"{plan.objective:.4f}",
                "33.50 %" if plan.policy == tiny.joint else "not measured",
            ]
        )
    assert cells(out) == expected
    assert [row[3:5] for row in (expected[0], expected[-1])] == [["2.00", "2.00"], ["4.00", "4.00"]]
    assert expected[0][-1] == "33.50 %"
    assert "the best policy at each budget" in out
    model, bitops = re.fullmatch(r"next: limpq search (.*) --bitops (.*)\n", err).groups()
    assert model == tiny.name
    assert search(model, bitops=bitops).policy == plans[-1].policy  # the advice is true


def test_frontier_has_twenty_budgets_unless_told_otherwise(limpq, tiny):
    code, out, err = limpq("frontier", tiny.name, "--json")
    assert (code, err) == (0, "")
    found = [plan["bitops"] for plan in json.loads(out)]
    assert found == [plan.bitops for plan in frontier(tiny.name, points=20)]


def test_frontier_as_json_is_the_plans_with_the_measured_figures_and_nothing_else(limpq, tiny):
    code, out, err = limpq("frontier", tiny.name, "--points", 3, "--alpha", 0.5, "--json")
    assert (code, err) == (0, "")
    plans = frontier(tiny.name, points=3, alpha=0.5)
    assert [plan | {"seconds": 0} for plan in json.loads(out)] == [
        plan.to_json() | {"seconds": 0, "top1": 33.5 if plan.policy == tiny.joint else None} for plan in plans
    ]
    assert [plan["top1"] for plan in json.loads(out)] == [33.5, None, None]
    assert {plan["alpha"] for plan in json.loads(out)} == {0.5}


def test_frontier_says_about_what_to_expect_between_measured_budgets_unless_alpha_is_another(limpq, tiny, with_front):
    plans = frontier(tiny.name, points=3)
    name = with_front(
        (plans[0].bitops, 20.0, 0, plans[0].policy.digest()), (2 * plans[1].bitops - plans[0].bitops, 60.0)
    )
    # The second plan is half-way between the measured budgets.
    rows = cells(limpq("frontier", name, "--points", 3)[1])
    assert [row[-1] for row in rows[:2]] == ["20.00 %", "about 40.0 %"]
    content = json.loads(limpq("frontier", name, "--points", 3, "--json")[1])
    assert [plan["top1"] for plan in content] == [20.0, None, None]
    for alpha in (0, 0.5):
        rows = cells(limpq("frontier", name, "--points", 3, "--alpha", alpha)[1])
        assert len(rows) > 1
        assert all(row[-1] in ("20.00 %", "not measured") for row in rows)


def test_the_budget_that_frontier_advises_is_rounded_up_so_that_the_last_plan_fits(limpq, tiny, tmp_path):
    content = tiny.indicators.to_json()
    layer = content["layers"]["layer1.0.conv1"]
    path = tmp_path / "one_layer.json"
    path.write_text(json.dumps(content | {"layers": {"layer1.0.conv1": layer | {"macs": 62_750}}}))
    code, out, err = limpq("frontier", path, "--points", 2)
    assert (code, cells(out)[-1][0]) == (0, "1.00M")
    assert err == f"next: limpq search {path} --bitops 1.01M\n"
    assert search(path, bitops="1.01M").bitops == 16 * 62_750 == 1_004_000


def test_frontier_of_a_file_has_no_figures(limpq, tiny):
    path = tiny.folder / "indicators.json"
    code, out, err = limpq("frontier", path, "--points", 2)
    assert code == 0
    assert [row[-1] for row in cells(out)] == ["not measured", "not measured"]
    assert err.startswith(f"next: limpq search {path} --bitops ")
    code, out, _ = limpq("frontier", path, "--points", 2, "--json")
    assert [plan["top1"] for plan in json.loads(out)] == [None, None]


def test_search_prints_a_line_for_each_layer(limpq, tiny):
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3")
    assert (code, err) == (0, "")
    plan = search(tiny.name, bitops="w3a3")
    for name, bits in plan.policy.layers.items():
        fixed = r" \(fixed\)" if tiny.costs[name].fixed else ""
        assert re.search(rf"│ {re.escape(name)}{fixed} +│ +{bits.weight} │ +{bits.activation} │", out), name
    assert f"test_resnet at 32x32: {format_bitops(plan.bitops)} BitOps" in out
    assert "proven optimal" in out


def test_search_as_json_is_the_plan_and_nothing_else(limpq, tiny):
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3", "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    expected = search(tiny.name, bitops="w3a3").to_json()
    assert content | {"seconds": 0} == expected | {"seconds": 0}


def test_search_passes_every_option_on(limpq, tiny):
    options = "--bitops w3a3 --size 160kB --compression 8x --activation-memory 64kB --alpha 1.5 --candidates 2 3 4"
    options += " --pin layer4.*.conv2=2,4 --pin conv1.3=3,3 --exclude layer2.0.downsample.* --counting limpq"
    options += " --tie layer3.0.conv1 layer3.0.conv2 --json"
    code, out, err = limpq("search", tiny.name, *options.split())
    assert (code, err) == (0, "")
    expected = search(
        tiny.name,
        bitops="w3a3",
        size="160kB",
        compression="8x",
        activation_memory="64kB",
        alpha=1.5,
        candidates=[2, 3, 4],
        pin={"layer4.*.conv2": (2, 4), "conv1.3": (3, 3)},
        exclude=["layer2.0.downsample.*"],
        tie=[["layer3.0.conv1", "layer3.0.conv2"]],
        counting="limpq",
    )
    assert json.loads(out)["policy"] == expected.policy.to_json()
    assert json.loads(out)["counting"] == "limpq"


def test_notes_of_a_search_go_to_stderr(limpq, tiny):
    code, out, err = limpq("search", tiny.name, "--size", "150kB", "--json")
    assert code == 0
    assert json.loads(out)["size_bytes"] <= 150_000
    assert err.startswith("note: only the weights are limited, so every activation went to its most bits; add bitops=")


def test_outliers_of_a_search_are_noted_on_stderr(limpq, tiny, tmp_path):
    content = tiny.indicators.to_json()
    steps = content["layers"]["layer1.0.conv1"]["weight_steps"]
    steps["2"] = steps["4"] / 2
    (tmp_path / "outlier.json").write_text(json.dumps(content))
    code, out, err = limpq("search", tmp_path / "outlier.json", "--bitops", "w3a3", "--json")
    assert code == 0
    note = "note: layer1.0.conv1: 2 weight bits learned a smaller step than more bits did, so they are left out\n"
    assert err == note
    assert json.loads(out)["excluded"][0]["layer"] == "layer1.0.conv1"


def test_a_policy_that_search_wrote_can_be_loaded(limpq, tiny, tmp_path):
    path = tmp_path / "new" / "policy.json"
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3", "--output", path, "--json")
    assert (code, err) == (0, f"wrote {path}\n")
    policy = Policy.from_json(json.loads(path.read_text()))
    assert policy == tiny.policies["small"]
    assert json.loads(out)["policy"] == policy.to_json()
    model = load(tiny.name, policy=path)
    assert model.limpq.weights == "finetuned"
    assert torch.equal(model(tiny.images), tiny.checkpoints["small"].requires_grad_(False)(tiny.images))


def test_info_shows_layers_budgets_policies_files_and_provenance(limpq, tiny):
    code, out, err = limpq("info", tiny.name)
    assert (code, err) == (0, "")
    for text in ("timm test_resnet, 10 classes", "32 x 32 pixels", "14 searched, 2 fixed at 8/8 bits", "80.00 %"):
        assert text in out
    for text in ("policy small", "top-1 61.50 %", "policy large", "file policies/small/model.safetensors"):
        assert text in out
    assert "tests/conftest.py" in out


def test_info_as_json_holds_the_layers(limpq, tiny):
    code, out, err = limpq("info", tiny.name, "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert list(content["layers"]) == list(tiny.costs)
    assert content["layers"]["fc"]["macs"] == tiny.costs["fc"].macs
    assert [policy["name"] for policy in content["policies"]] == ["small", "large"]


def test_info_of_a_bundled_model_needs_no_prefix(limpq):
    code, out, _ = limpq("info", "resnet18")
    assert code == 0
    assert "timm resnet18, 200 classes" in out
    assert "19 searched, 2 fixed at 8/8 bits" in out
    assert "policy 3G" in out


def test_predict_shows_the_most_likely_classes(limpq, tiny, picture):
    code, out, err = limpq("predict", picture, "--model", tiny.name, "--bitops", "w3a3", "--top", 3)
    assert (code, err) == (0, "")
    assert len(re.findall(r"│ noise \d +│ +\d+\.\d% ", out)) == 3
    assert "finetuned weights" in out
    assert "61.50 % top-1 on its validation images" in re.sub(r"\s+", " ", out)


def test_predict_as_json_holds_the_guesses(limpq, tiny, picture):
    code, out, err = limpq("predict", picture, "--model", tiny.name, "--bitops", "w3a3", "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert (content["picture"], content["model"]) == (str(picture), tiny.name)
    assert (content["weights"], content["top1"]) == ("finetuned", 61.5)
    assert content["bitops"] == search(tiny.name, bitops="w3a3").bitops
    probabilities = [guess["probability"] for guess in content["guesses"]]
    assert len(probabilities) == 5
    assert probabilities == sorted(probabilities, reverse=True)
    assert set(content["guesses"][0]) == {"id", "name", "probability"}


def test_predict_says_on_stderr_that_the_network_was_not_fine_tuned(limpq, tiny, picture):
    code, out, err = limpq("predict", picture, "--model", tiny.name, "--bitops", "w4a3", "--json")
    assert code == 0
    assert json.loads(out)["weights"] == "joint"
    assert re.match(
        r"note: local-dir:.* was not fine-tuned \(joint weights, accuracy not measured\): the fine-tuned", err
    )


def test_predict_takes_a_policy_and_which_weights(limpq, tiny, picture):
    policy = tiny.folder / "policies/large/policy.json"
    arguments = ("predict", picture, "--model", tiny.name, "--policy", policy, "--json", "--weights")
    assert json.loads(limpq(*arguments, "finetuned")[1])["top1"] == 72.25
    assert json.loads(limpq(*arguments, "joint")[1])["weights"] == "joint"


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_predict_refuses_a_count_of_classes_that_cannot_be(limpq, tiny, picture, count):
    code, out, err = limpq("predict", picture, "--model", tiny.name, "--bitops", "w3a3", "--top", count)
    assert (code, out) == (2, "")
    assert "--top" in err


@pytest.mark.parametrize("name", ["[red]noise.png", "[x].png", "[bold]", "noise [1].png"])
def test_a_name_in_brackets_is_shown_as_it_is(limpq, tiny, tmp_path, picture, name):
    picture = picture.rename(tmp_path / name)
    code, out, _ = limpq("predict", picture, "--model", tiny.name, "--bitops", "w3a3")
    assert code == 0
    assert name in out


@pytest.mark.parametrize("name", ["[bold]/[x]", "[/x]"])
def test_a_model_in_a_folder_with_brackets_is_shown_as_it_is(limpq, tiny, tmp_path, name):
    folder = tmp_path / name
    folder.parent.mkdir()
    folder.symlink_to(tiny.folder)
    code, out, _ = limpq("info", f"local-dir:{folder}")
    assert code == 0
    assert name in re.sub(r"\s+", "", out)


def test_import_turns_a_pickle_into_indicators_that_search_takes(limpq, tiny, steps_pickle, tmp_path):
    output = tmp_path / "imported" / "indicators.json"
    arguments = ("--model", "test_resnet", "--input-size", 32, "--num-classes", 10, "--output", output)
    code, out, err = limpq("import", steps_pickle, *arguments)
    assert (code, out) == (0, "")
    assert err == f"wrote {output}; next: limpq search {output} --bitops w4a4\n"
    imported = Indicators.load(output)
    assert imported.costs == tiny.indicators.costs
    assert imported.weight_steps == tiny.indicators.weight_steps
    code, out, _ = limpq("search", output, "--bitops", "w3a3", "--json")
    assert code == 0
    assert json.loads(out)["policy"] == tiny.policies["small"].to_json()
    code, out, _ = limpq("import", steps_pickle, *arguments, "--json")
    assert json.loads(out) == {"output": str(output), "layers": 16, "candidates": [4, 3, 2]}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("search resnet18", 2, "no budget was given: use for example"),
        ("search resnet18 --bitops 3X", 2, "bitops='3X' is not a budget: the unit 'X' is not known"),
        ("search resnet18 --bitops 1", 2, 'bitops="1" cannot be met: resnet18 at 64x64 needs at least'),
        ("search resnet81 --bitops 3G", 2, "no model is named 'resnet81'; did you mean resnet18"),
        ("search owner/name --bitops 3G", 2, "'owner/name' could be a folder or a Hub repository: write"),
        ("frontier resnet18 --points 1", 2, "points=1 cannot be: use a whole number of at least 2, for example 100"),
        ("frontier resnet18 --alpha nan", 2, "alpha=nan cannot be: use a number of at least 0"),
        ("frontier resnet81", 2, "no model is named 'resnet81'; did you mean resnet18"),
        ("frontier missing.json", 2, "there is no file 'missing.json'; give the path of an indicators.json"),
        ("search missing.json --bitops 3G", 2, "there is no file 'missing.json'; give the path of an indicators.json"),
        ("search resnet18 --bitops 3G --candidates 7", 2, "7"),
        ("search resnet18 --bitops 3G --pin nothing.*=4,4", 2, "nothing.*"),
        ("search resnet18 --bitops 3G --alpha nan", 2, "alpha=nan cannot be: use a number of at least 0"),
        ("search local-dir:. --bitops 3G", 2, "'local-dir:.': no config.json there; give the output folder of"),
        ("info hf-hub:a/b/c", 6, "'a/b/c' is not the name of a Hub repository: write hf-hub:owner/name"),
        ("info hf-hub:nobody/nothing", 6, "nobody/nothing@main is not in the cache and the Hub was not reached"),
        ("predict no.jpg --model resnet18 --bitops 3G", 3, "there is no file 'no.jpg'; give the path of a picture"),
        ("import no.pkl --model test_resnet --output x.json", 3, "No such file or directory: 'no.pkl'"),
    ],
)
def test_each_failure_has_its_exit_code_and_one_line(limpq, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    found, out, err = limpq(*arguments.split())
    assert (found, out) == (code, "")
    assert message in err
    assert err.startswith(f"limpq {arguments.split()[0]}: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("search", "the following arguments are required: model"),
        ("search resnet18 --bitop 3G", "unrecognized arguments: --bitop 3G"),
        ("search resnet18 --bitops 3G --pin layer4.*", "'layer4.*' is not PATTERN=W,A, for example 'layer4.*=4,4'"),
        ("search resnet18 --bitops 3G --pin layer4.*=4", "'layer4.*=4' is not PATTERN=W,A, for example"),
        ("search resnet18 --bitops 3G --pin =4,4", "'=4,4' is not PATTERN=W,A, for example"),
        ("search resnet18 --bitops 3G --counting paper", "invalid choice: 'paper'"),
        ("frontier", "the following arguments are required: model"),
        ("frontier resnet18 --points 0", "'0' is not a whole number of at least 1"),
        ("frontier resnet18 --points=-2", "'-2' is not a whole number of at least 1"),
        ("frontier resnet18 --points many", "'many' is not a whole number of at least 1"),
        ("frontier resnet18 --bitops 3G", "unrecognized arguments: --bitops 3G"),
        ("predict a.jpg --bitops 3G", "the following arguments are required: --model"),
        ("predict a.jpg --model resnet18 --weights float", "invalid choice: 'float'"),
        ("pull", "invalid choice: 'pull'"),
    ],
)
def test_a_wrong_use_exits_with_two_and_shows_the_usage(limpq, arguments, message):
    code, out, err = limpq(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("usage: limpq")
    assert message in err


@pytest.mark.parametrize("command", ["search", "frontier", "info", "predict"])
def test_a_damaged_entry_exits_with_five_and_names_the_file(limpq, entry_copy, picture, command):
    path = entry_copy / "indicators.json"
    path.write_text(path.read_text().replace('"alpha": 2.0', '"alpha": 3.0'))
    name = f"local-dir:{entry_copy}"
    arguments = {
        "search": ("search", name, "--bitops", "w3a3"),
        "frontier": ("frontier", name, "--points", 2),
        "info": ("info", name),
        "predict": ("predict", picture, "--model", name, "--bitops", "w3a3"),
    }
    code, out, err = limpq(*arguments[command])
    assert (code, out) == (5, "")
    assert re.fullmatch(rf"limpq {command}: .*/indicators\.json is damaged: .*; fetch the artifact again\n", err)


def test_a_file_that_is_no_picture_exits_with_three(limpq, tiny, tmp_path):
    (tmp_path / "text.jpg").write_text("text")
    code, out, err = limpq("predict", tmp_path / "text.jpg", "--model", tiny.name, "--bitops", "w3a3")
    assert (code, out) == (3, "")
    assert re.fullmatch(r"limpq predict: '.*text\.jpg' is not a picture that can be read; give a JPEG, .* file\n", err)


def test_a_pickle_that_executes_code_exits_with_five_and_is_not_executed(limpq, tmp_path, malicious):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"weight": malicious, "act": {}}))
    output = tmp_path / "indicators.json"
    code, out, err = limpq("import", tmp_path / "bad.pkl", "--model", "test_resnet", "--output", output)
    assert (code, out) == (5, "")
    assert re.fullmatch(r"limpq import: .*bad\.pkl: the pickle operation \w+ builds more than plain values; .*\n", err)
    assert not output.exists()
    assert not (tmp_path / "executed.txt").exists()


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        ("no_such_net", 2, "timm has no architecture 'no_such_net'; see timm.list_models()"),
        ("test_byobnet", 5, "is not a layer of test_byobnet; is --model right?"),
        ("test_resnet.nonsense", 2, "test_resnet.nonsense"),
    ],
)
def test_importing_for_another_network_is_refused_and_writes_nothing(
    limpq, steps_pickle, tmp_path, model, code, message
):
    output = tmp_path / "indicators.json"
    found, out, err = limpq("import", steps_pickle, "--model", model, "--input-size", 32, "--output", output)
    assert (found, out) == (code, "")
    assert message in err
    assert not output.exists()


@pytest.mark.parametrize("option", ["--input-size", "--num-classes"])
@pytest.mark.parametrize("value", ["0", "-3", "wide"])
def test_importing_at_a_size_that_cannot_be_is_refused(limpq, steps_pickle, tmp_path, option, value):
    arguments = ("--model", "test_resnet", "--output", tmp_path / "indicators.json", option, value)
    code, out, err = limpq("import", steps_pickle, *arguments)
    assert (code, out) == (2, "")
    assert option in err


def test_a_policy_that_cannot_be_written_exits_with_three(limpq, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3", "--output", tmp_path / "file" / "policy.json")
    assert (code, out) == (3, "")
    assert err.startswith("limpq search: ")


def test_an_interrupt_exits_as_shells_expect(limpq, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("limpq_hub.zoo.planning.search", interrupt)
    assert limpq("search", "resnet18", "--bitops", "3G")[0] == 130
