"""Tests of the `limpq` command: data on stdout, messages on stderr, and an exit code for each kind of failure."""

import json
import pickle
import re

import pytest
import torch
from PIL import Image

from limpq_hub import Indicators, Policy, __version__, load, search
from limpq_hub.cli import main
from limpq_hub.plan.budget import format_bitops


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
    assert all(re.search(rf"^    {command} ", out, re.MULTILINE) for command in ("list", "search", "info", "predict"))
    for command in ("list", "search", "info", "predict", "import"):
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


@pytest.mark.parametrize("command", ["search", "info", "predict"])
def test_a_damaged_entry_exits_with_five_and_names_the_file(limpq, entry_copy, picture, command):
    path = entry_copy / "indicators.json"
    path.write_text(path.read_text().replace('"alpha": 2.0', '"alpha": 3.0'))
    name = f"local-dir:{entry_copy}"
    arguments = {
        "search": ("search", name, "--bitops", "w3a3"),
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
