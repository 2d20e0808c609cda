"""Tests of the `limpq` command: data on stdout, messages on stderr, and an exit code for each kind of failure."""

import importlib
import json
import pickle
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from limpq_hub import Indicators, Plan, Policy, __version__, baselines, frontier, list_models, load, search
from limpq_hub.errors import SearchError, quoted
from limpq_hub.interop.formats import FORMATS, write_policy_as
from limpq_hub.plan import optimum
from limpq_hub.plan.explanation import explain
from limpq_hub.plan.quantities import format_bitops, format_size
from limpq_hub.plan.solver.solution import _NotNearEnoughError
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.zoo import catalog, planning
from limpq_hub.zoo.catalog import BUNDLED

COMMANDS = (
    "check",
    "list",
    "search",
    "frontier",
    "compare",
    "explain",
    "info",
    "predict",
    "pull",
    "import",
    "measure",
    "doctor",
)


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


def test_without_a_command_three_are_shown_to_begin_with(limpq, tiny, picture):
    code, out, err = limpq()
    assert (code, out) == (2, "")
    first, *lines, last = err.splitlines()
    assert first == "limpq needs a command. Three to begin with:"
    assert last == "limpq --help lists all commands."
    typed = [shlex.split(re.split("  +", line.strip())[0]) for line in lines]
    assert [words[:2] for words in typed] == [["limpq", "list"], ["limpq", "search"], ["limpq", "predict"]]
    for words in typed:  # the advice is true
        meant = {"PICTURE": picture, "resnet18": tiny.name, "3G": "w3a3"}
        assert limpq(*(meant.get(word, word) for word in words[1:]))[0] == 0


def test_an_unknown_option_without_a_command_is_named(limpq):
    code, out, err = limpq("--bitops")
    assert (code, out) == (2, "")
    assert err.endswith("limpq: error: unrecognized arguments: --bitops\n")


def test_help_lists_every_command(limpq):
    code, out, err = limpq("--help")
    assert (code, err) == (0, "")
    assert all(re.search(rf"^    {command} ", out, re.MULTILINE) for command in COMMANDS)
    for command in COMMANDS:
        code, out, err = limpq(command, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"usage: limpq {command} ")


@pytest.mark.parametrize(
    ("command", "installing"),
    [
        ("export", 'pip install "limpq-hub[export]"'),
        ("measure-latency", 'pip install "limpq-hub[export]"'),
        ("measure", "pip install limpq-hub, without an extra"),
    ],
)
def test_help_says_what_a_command_needs_installed(limpq, command, installing):
    assert f"needs: {installing}" in re.sub(r"\s+", " ", limpq(command, "--help")[1])


@pytest.mark.slow
def test_measuring_needs_none_of_what_the_training_extra_brings(run_python):
    extra = {"accelerate", "psutil", "scipy"}  # the other modules of it come with torch and the client of the Hub
    modules = "limpq_hub.train.loop.huge_pages, limpq_hub.train.progress, limpq_hub.train.measure.pair_importance"
    modules += ", limpq_hub.train.data.picture_files"
    result = run_python(f"import sys, limpq_hub.cli.measuring, {modules}; print(set(sys.modules) & {extra})")
    assert result.stdout == "set()\n", result.stderr


@pytest.mark.parametrize(
    ("command", "option", "default"),
    [
        ("measure", "--count", "100"),
        ("measure", "--seed", "0"),
        ("export", "--format", "openvino"),
        ("measure-latency", "--rounds", "30"),
        ("predict", "--top", "5"),
        ("frontier", "--points", "20"),
        ("import", "--input-size", "224"),
        ("search", "--format", "limpq"),
    ],
)
def test_help_names_the_default_of_an_option(limpq, command, option, default):
    out = limpq(command, "--help")[1]
    (described,) = re.findall(rf"^  {option} .*(?:\n {{3,}}.*)*", out, re.MULTILINE)
    assert " ".join(described.split()).endswith(f"(default: {default})")


def test_help_names_no_default_where_there_is_none(limpq):
    for command in COMMANDS:
        assert not re.search(r"default:\s+(None|True|False|\[\])", limpq(command, "--help")[1])


def test_help_says_where_the_words_of_the_tables_are_explained(limpq):
    for command in ((), ("list",), ("search",), ("frontier",), ("compare",), ("explain",)):
        assert "python -m pydoc limpq_hub" in " ".join(limpq(*command, "--help")[1].split())
    guide = pydoc.plain(pydoc.render_doc("limpq_hub"))
    for word in ("Objective", "Joint", "Recalibrated", "Sensitivity", "Alpha", "Anchors"):
        assert f"- *{word}*" in guide


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
    assert err == f"next: limpq search {list_models()[0]} --bitops w4a4\n"


def test_list_as_json_holds_the_summaries_and_nothing_else(limpq):
    code, out, err = limpq("list", "resnet*", "--json")
    assert (code, err) == (0, "")
    (found,) = [entry for entry in json.loads(out) if entry["name"] == "resnet18.tiny_imagenet"]
    assert found["num_classes"] == 200
    assert [policy["bitops"] <= 3e9 for policy in found["policies"] if policy["name"] == "3G"] == [True]
    assert limpq("list", "no_such_*", "--json") == (0, "[]\n", "")


def test_a_pattern_that_matches_nothing_has_no_table_and_says_how_a_folder_is_shown(limpq):
    message = "no bundled model matches 'no_such_*'; limpq info local-dir:FOLDER shows what you have trained\n"
    assert limpq("list", "no_such_*") == (0, "", message)


@pytest.mark.parametrize("name", ["local-dir:out/my net", "hf-hub:you/net"])
@pytest.mark.parametrize("options", [(), ("--json",), ("--hub", "you")])
def test_list_answers_the_name_of_one_model_with_the_command_that_shows_it(limpq, name, options):
    advice = f"limpq info {shlex.quote(name)} shows it"
    message = f"limpq list: {name!r} names one model, and a pattern is expected here: {advice}\n"
    assert limpq("list", name, *options) == (2, "", message)


def cells(out: str) -> list[list[str]]:
    """Return the cells of each row of a printed table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


@pytest.fixture
def listed(entry_copy, monkeypatch):
    """The copy of the tiny entry as the only bundled one."""
    monkeypatch.setattr(catalog, "BUNDLED", entry_copy.parent)
    return entry_copy


def test_list_shows_weights_and_files_of_a_policy_and_info_both_figures_of_the_joint_weights(
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
    assert (code, err) == (0, "next: limpq search test_resnet.noise --bitops w3a3\n")
    assert "┃ on disk " in out
    weights = sum(cost.weights for cost in tiny.costs.values())
    expected = [["test_resnet.noise", "32", "float32", "", format_size(4 * weights), "", "80.00 %"]]
    for name, top1 in (("small", "61.50 % +/- 2.43"), ("large", "72.25 % +/- 2.24")):
        bits = {layer: (tiny.costs[layer], found) for layer, found in tiny.policies[name].layers.items()}
        bitops = sum(cost.macs * found.weight * found.activation for cost, found in bits.values())
        size = sum(cost.weights * found.weight for cost, found in bits.values()) / 8
        disk = sum(path.stat().st_size for path in (listed / "policies" / name).iterdir())
        figures = [format_bitops(bitops), format_size(round(size)), format_size(disk), top1]
        expected.append(["", "32", f"{name} fine-tuned", *figures])
    expected.append(["", "32", "joint, at 3 budgets", "5.00M to 9.00M", "", "", "33.50 % to 60.00 %"])
    assert cells(out) == expected
    information = limpq("info", "test_resnet.noise")[1]
    for bitops, top1 in (
        ("5.00M", "33.50 %, recalibrated 35.25 %"),
        ("7.00M", "50.00 %"),
        ("9.00M", "60.00 %, recalibrated 61.12 %"),
    ):
        assert re.search(rf"joint, set to {bitops} +top-1 {top1}\n", information)


def test_joint_weights_that_were_measured_once_or_at_budgets_that_read_alike_are_all_shown(limpq, listed, with_front):
    with_front((9_000_000, 60.0, 0, "b"))
    assert ["", "32", "joint, at a budget", "9.00M", "", "", "60.00 %"] in cells(limpq("list")[1])
    with_front((9_000_000, 60.0, 0, "b"), (9_001_000, 61.0, 0, "c"), (8_000_000, 50.0, 0, "d"))
    shown = re.findall(r"joint, set to (\S+) +top-1 (\S+) %", limpq("info", "test_resnet.noise")[1])
    assert shown == [("8.00M", "50.00"), ("9000000", "60.00"), ("9001000", "61.00")]


def test_info_leaves_rows_of_numbers_to_json_and_nothing_else(limpq):
    shown = {line.split()[0] for line in limpq("info", "efficientnet_lite0")[1].splitlines()}
    provenance = json.loads(limpq("info", "efficientnet_lite0", "--json")[1])["provenance"]
    assert set(provenance) - shown == {"kl_by_alpha"}
    assert "data" in shown


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
                "33.50 % +/- 2.36" if plan.policy == tiny.joint else "not measured",
            ]
        )
    assert cells(out) == expected
    assert [row[3:5] for row in (expected[0], expected[-1])] == [["2.00", "2.00"], ["4.00", "4.00"]]
    assert expected[0][-1] == "33.50 % +/- 2.36"
    assert "top-1 on 400 validation images" in out
    assert "the best policy at each budget" in " ".join(out.split())
    model, bitops = re.fullmatch(r"next: limpq search (.*) --bitops (.*)\n", err).groups()
    assert model == tiny.name
    assert search(model, bitops=bitops).policy == plans[2].policy  # the advice is true, and of the middle


def test_frontier_has_twenty_budgets_unless_told_otherwise(limpq, tiny):
    code, out, err = limpq("frontier", tiny.name, "--json")
    assert (code, err) == (0, "")
    found = [plan["bitops"] for plan in json.loads(out)]
    assert found == [plan.bitops for plan in frontier(tiny.name, points=20)]


def top1_in_json(top1: float | None) -> dict:
    """Return what JSON holds of a top-1 of the tiny entry: 400 images, or nothing where it was not measured."""
    error = None if top1 is None else pytest.approx(100 * (top1 / 100 * (1 - top1 / 100) / 400) ** 0.5)
    return {"top1": top1, "top1_standard_error": error, "top1_images": None if top1 is None else 400}


def test_frontier_as_json_is_the_plans_with_the_measured_figures_and_nothing_else(limpq, tiny):
    code, out, err = limpq("frontier", tiny.name, "--points", 3, "--alpha", 0.5, "--json")
    assert (code, err) == (0, "")
    plans = frontier(tiny.name, points=3, alpha=0.5)
    assert [plan | {"seconds": 0} for plan in json.loads(out)] == [
        plan.to_json() | {"seconds": 0} | top1_in_json(33.5 if plan.policy == tiny.joint else None) for plan in plans
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


def test_the_budget_that_frontier_advises_has_two_decimals_and_gives_the_plan(limpq, tiny, tmp_path):
    content = tiny.indicators.to_json()
    layer = content["layers"]["layer1.0.conv1"]
    path = tmp_path / "one_layer.json"
    path.write_text(json.dumps(content | {"layers": {"layer1.0.conv1": layer | {"macs": 62_750}}}))
    code, out, err = limpq("frontier", path, "--points", 2)
    assert (code, cells(out)[-1][0]) == (0, "1.00M")
    assert err == f"next: limpq search {path} --bitops 1.01M\n"
    assert search(path, bitops="1.01M").bitops == 16 * 62_750 == 1_004_000


def test_the_budget_that_frontier_advises_is_exact_where_a_rounded_one_gives_another_policy(limpq, tiny, monkeypatch):
    path, most = tiny.folder / "indicators.json", frontier(tiny.folder / "indicators.json", points=2)[-1].bitops
    for other in (search(path, bitops="w2a2"), SearchError("no proven optimum within 10 s")):
        monkeypatch.setattr(planning, "search", Mock(side_effect=[other]))
        assert limpq("frontier", path, "--points", 2)[2] == f"next: limpq search {path} --bitops {most}\n"


def test_the_budget_that_frontier_advises_takes_no_more_than_the_time_that_is_left(limpq, tiny, monkeypatch):
    path = tiny.folder / "indicators.json"
    of_frontier, of_search = Mock(wraps=frontier), Mock(wraps=search)
    monkeypatch.setattr(planning, "frontier", of_frontier)
    monkeypatch.setattr(planning, "search", of_search)
    for options, limit in (((), 60), (("--time-limit", 9), 9)):
        assert limpq("frontier", path, "--points", 2, *options)[0] == 0
        limits = [called.call_args.kwargs["time_limit_s"] for called in (of_search, of_frontier)]
        assert limit - 5 < limits[0] < limits[1] <= limit


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
    assert (code, err) == (0, f"next: limpq explain {tiny.name} --bitops w3a3\n")
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


def test_search_tells_how_far_the_second_best_and_the_best_uniform_policy_lie_behind(limpq, tiny):
    words = ("search", tiny.name, "--bitops", "w3a3")
    certificate = search(tiny.name, bitops="w3a3").certificate
    code, out, _ = limpq(*words, "--certificate")
    assert code == 0
    lines = [line.removeprefix("- ") for line in out.splitlines() if line.startswith("- ")]
    assert lines == certificate.lines()
    assert len(lines) == 3
    code, out, _ = limpq(*words, "--certificate", "--json")
    assert json.loads(out)["certificate"] == certificate.to_json()
    assert "certificate" not in json.loads(limpq(*words, "--json")[1])


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_plan_is_printed_and_written_before_its_certificate_takes_too_long(
    limpq, tiny, tmp_path, monkeypatch, options
):
    monkeypatch.setattr(optimum, "certify", Mock(side_effect=SearchError("too late; raise time_limit_s=")))
    path, words = tmp_path / "policy.json", ("search", tiny.name, "--bitops", "w3a3", *options)
    code, out, err = limpq(*words, "--certificate", "--output", path)
    assert (code, err) == (2, f"wrote {path}\nlimpq search: too late; raise --time-limit\n")
    plan = search(tiny.name, bitops="w3a3")
    assert Policy.from_json(json.loads(path.read_text())) == plan.policy
    if options:
        assert json.loads(out) == plan.to_json() | {"seconds": json.loads(out)["seconds"]}
    else:
        assert "proven optimal" in out


def test_search_passes_every_option_on(limpq, tiny):
    options = "--bitops w3a3 --size 160kB --compression 9x --activation-memory 64kB --alpha 1.5 --candidates 2 3 4"
    options += " --pin layer4.*.conv2=2,4 --pin conv1.3=3,3 --exclude layer2.0.downsample.* --counting limpq"
    options += " --tie layer3.0.conv1 layer3.0.conv2 --json"
    code, out, err = limpq("search", tiny.name, *options.split())
    note = "note: --activation-memory is no less than the 3072B that the most bits take, so it limits nothing\n"
    assert (code, err) == (0, note)
    expected = search(
        tiny.name,
        bitops="w3a3",
        size="160kB",
        compression="9x",
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


def next_of(err: str) -> list[str]:
    """Return the arguments of the command that a message advises, as a shell hands them over."""
    (line,) = [line for line in err.splitlines() if line.startswith("next: limpq ")]
    return shlex.split(line.removeprefix("next: limpq "))


@pytest.mark.parametrize(
    "options",
    [
        "--bitops w3a3 --candidates 2 4 layer4.*=2,3,4 --importance learned --time-limit 9.5",
        "--bitops w3a4 --importance coupled --apart 1",
        "--bitops w3a3 --candidates layer4.*=2,4 --candidates 2 4 --candidates layer4.0.conv1=3",
        "--bitops w3a4 --apart 0",
        "--size 160kB --alpha 1.5 --counting limpq --pin layer4.*.conv2=2,4 --pin conv1.3=3,3 --allow-gap 1%",
        "--bitops w3a3 --compression 8x --exclude layer2.0.* --exclude layer3.0.conv1 "
        "--tie layer4.0.conv1 layer4.0.conv2 --tie layer1.*",
    ],
)
def test_what_a_command_advises_next_asks_for_the_same_bits_whatever_the_options(
    limpq, tiny, tmp_path, monkeypatch, options
):
    monkeypatch.chdir(tmp_path)
    typed = options.split()
    wanted = json.loads(limpq("search", tiny.name, *typed, "--json")[1])["policy"]
    explain_it = next_of(limpq("search", tiny.name, *typed)[2])
    assert explain_it[0] == "explain"
    code, _, err = limpq(*explain_it)
    keep_it = next_of(err)
    assert (code, keep_it[0], keep_it[-2:]) == (0, "search", ["--output", "policy.json"])
    code, _, err = limpq(*keep_it)
    assert (code, json.loads((tmp_path / "policy.json").read_text())) == (0, wanted)
    keeps = ["export", tiny.name, "--policy", "policy.json", "--output", "out/test_resnet.noise-exported"]
    assert next_of(err) == keeps


def test_after_a_picture_the_bits_are_explained_or_the_policy_that_was_given_exported(limpq, tiny, picture):
    policy = tiny.folder / "policies/small/policy.json"
    err = limpq("predict", picture, "--model", tiny.name, "--policy", policy)[2]
    assert next_of(err) == ["export", tiny.name, "--policy", str(policy), "--output", "out/test_resnet.noise-exported"]


def test_indicators_alone_are_explained_since_nothing_can_be_exported_of_them(limpq, tiny, tmp_path):
    file, policy = tiny.folder / "indicators.json", tmp_path / "policy.json"
    err = limpq("search", file, "--bitops", "w3a3", "--output", policy)[2]
    assert next_of(err) == ["explain", str(file), "--bitops", "w3a3"]


@pytest.mark.parametrize("command", ["search", "explain", "frontier"])
def test_a_policy_in_the_place_of_a_model_is_told_as_one(limpq, tiny, command):
    policy = tiny.folder / "policies/small/policy.json"
    code, out, err = limpq(command, policy, *([] if command == "frontier" else ["--bitops", "w3a3"]))
    assert (code, out) == (5, "")
    assert err == (
        f"limpq {command}: {policy}: this is a policy (the bits of each layer), and a model such as resnet18, or an "
        "indicators.json, is expected here; limpq predict, limpq export, finetune and validate take it as --policy\n"
    )


def test_notes_of_a_search_go_to_stderr(limpq, tiny):
    code, out, err = limpq("search", tiny.name, "--size", "150kB", "--json")
    assert code == 0
    assert json.loads(out)["size_bytes"] <= 150_000
    assert err.startswith("note: only the weights are limited, so every activation went to its most bits; add --bitops")


def test_outliers_of_a_search_are_noted_on_stderr(limpq, tiny, tmp_path):
    content = tiny.indicators.to_json()
    steps = content["layers"]["layer1.0.conv1"]["weight_steps"]
    steps["2"] = steps["4"] / 2
    (tmp_path / "outlier.json").write_text(json.dumps(content))
    code, out, err = limpq("search", tmp_path / "outlier.json", "--bitops", "w3a3", "--json")
    assert code == 0
    note = "note: layer1.0.conv1: the step of 2-bit weights is smaller than that of more bits, so 2 bits are left out\n"
    assert err == note
    assert json.loads(out)["excluded"][0]["layer"] == "layer1.0.conv1"


def test_many_outliers_of_a_search_are_noted_in_one_line_that_names_the_first(limpq, tiny, tmp_path):
    content = tiny.indicators.to_json()
    searched = [name for name, layer in content["layers"].items() if not layer["fixed"]]
    for name in searched:
        steps = content["layers"][name]["weight_steps"]
        steps["2"] = steps["4"] / 2
    (tmp_path / "outliers.json").write_text(json.dumps(content))
    code, out, err = limpq("search", tmp_path / "outliers.json", "--bitops", "w4a3", "--json")
    assert (code, len(json.loads(out)["excluded"])) == (0, len(searched))
    named = ", ".join(f"2-bit weights of {name}" for name in searched[:3])
    assert err == (
        f"note: bits whose step is smaller than that of more bits are left out: {named}, and {len(searched) - 3} "
        "more (--json names them)\n"
    )


@pytest.mark.parametrize("command", ["search", "compare", "explain", "predict", "export"])
def test_a_budget_above_what_the_most_bits_take_is_noted_by_every_command(limpq, tiny, picture, tmp_path, command):
    most = format_size(frontier(tiny.name, points=2)[-1].size_bytes)
    arguments = {"predict": [picture, "--model", tiny.name], "export": [tiny.name, "--output", tmp_path / "out"]}
    typed = arguments.get(command, [tiny.name])
    code, _, err = limpq(command, *typed, "--size", "3GB", "--bitops", "w4a4")
    assert code == 0
    (size,) = re.findall(r"^note: --size is no less than the (\S+) that the most bits take, so .*$", err, re.MULTILINE)
    assert size == most
    (end,) = re.findall(r"^note: --bitops is no less than the \S+ that the most bits take, so (.*)$", err, re.MULTILINE)
    assert end == "nothing is traded"


def test_the_next_line_carries_a_budget_that_has_effect(limpq, tiny, picture):
    for command, *words in (["search"], ["compare"], ["predict", picture, "--model"]):
        typed = [command, *words, tiny.name]
        assert limpq(*typed, "--bitops", "300G")[2].endswith(f"\nnext: limpq search {tiny.name} --bitops w3a3\n")
        of_both = limpq(*typed, "--size", "3GB", "--bitops", "w3a3")[2]
        assert of_both.endswith(f"\nnext: limpq explain {tiny.name} --bitops w3a3\n")
    explained = limpq("explain", tiny.name, "--bitops", "300G")[2]
    assert explained.endswith(f"\nnext: limpq search {tiny.name} --bitops w3a3 --output policy.json\n")
    pinned = limpq("search", tiny.name, "--bitops", "300G", "--pin", "layer[1-3]*=4,4")[2]
    assert re.search(rf"\nnext: limpq search {tiny.name} --bitops \S+M --pin 'layer\[1-3\]\*=4,4'\n$", pinned)
    few = limpq("search", tiny.name, "--size", "3GB", "--candidates", "2", "4")[2]
    assert few.endswith(f"\nnext: limpq search {tiny.name} --bitops w2a2 --candidates '*=2,4'\n")
    assert "so nothing is traded" not in limpq("search", tiny.name, "--bitops", "w3a3")[2]  # the advice is true


@pytest.mark.parametrize(
    "choices",
    [
        ["--candidates", "3", "4"],
        ["--candidates", "conv1.*=2"],
        ["--candidates", "*=2,4", "layer*=4", "--pin", "layer4*=4,4"],
        ["--exclude", "layer[2-4]*", "--tie", "conv1*", "--counting", "limpq", "--time-limit", "20"],
        ["--pin", "*.conv2=2,2"],
    ],
)
def test_the_budget_that_the_next_line_carries_can_be_met_with_the_same_choices(limpq, tiny, choices):
    then = next_of(limpq("search", tiny.name, "--bitops", "300G", *choices)[2])
    assert {"--bitops", choices[0]} <= {*then}
    code, _, err = limpq(*then)
    assert code == 0, err
    assert "so nothing is traded" not in err


def test_the_later_of_two_pins_of_a_layer_wins_and_one_pattern_has_one(limpq, tiny):
    pins = ("--pin", "layer1.*=2,2", "--pin", "layer1.0.conv1=4,4", "--exclude", "layer1.0.conv2")
    layers = json.loads(limpq("search", tiny.name, "--bitops", "w3a3", *pins, "--json")[1])["policy"]["layers"]
    bits = [set(layers[name].values()) for name in ("layer1.0.conv1", "layer1.0.conv2")]
    assert bits == [{4}, {2}]  # a pin holds beside --exclude
    pins = ("--pin", "layer1.0.conv1=4,4", "--pin", "layer1.*=2,2", "--pin", "layer1.0.conv1=4,4")
    layers = json.loads(limpq("search", tiny.name, "--bitops", "w3a3", *pins, "--json")[1])["policy"]["layers"]
    assert set(layers["layer1.0.conv1"].values()) == {4}  # in the place where it was typed last
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3", "--pin", "layer1.*=4,4", "--pin", "layer1.*=2,2")
    assert (code, out) == (2, "")
    assert err == "limpq search: --pin 'layer1.*' is given twice, with 4,4 and 2,2; leave one out\n"


def test_the_later_of_two_candidates_of_a_layer_wins_also_where_its_pattern_was_typed_before(limpq, tiny):
    words = ("search", tiny.name, "--bitops", "100G", "--candidates", "layer1.*=2", "layer*=3", "layer1.*=4", "--json")
    layers = json.loads(limpq(*words)[1])["policy"]["layers"]
    assert [layers[name]["weight"] for name in ("layer1.0.conv1", "layer4.0.conv1")] == [4, 3]


@pytest.mark.parametrize("typed", ["1_0", "１０", " 9", "0x9", "nine", ""])
@pytest.mark.parametrize("option", ["--alpha", "--time-limit"])
def test_an_option_of_a_number_takes_ascii_digits_alone(limpq, tiny, option, typed):
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3", option, typed)
    assert (code, out) == (2, "")
    assert f"argument {option}: {typed!r} is no number: write for example 0.5, 2 or 1e-3\n" in err
    assert limpq("search", tiny.name, "--bitops", "w3a3", option, "1e1")[0] == 0


def test_explain_says_that_nothing_is_left_to_raise_in_place_of_empty_tables(limpq, tiny):
    out = limpq("explain", tiny.name, "--bitops", "100G", "--pin", "*=4,4")[1]
    assert "- every layer has the most bits that it may have: there is none to raise\n" in out
    assert "- every layer has the bits of the uniform policy, 4/4\n" in out
    assert "What the next larger bit-width would cost" not in out


def test_a_policy_that_search_wrote_can_be_loaded(limpq, tiny, tmp_path):
    path = tmp_path / "new" / "policy.json"
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3", "--output", path, "--json")
    assert (code, err) == (0, f"wrote {path}\n")
    policy = Policy.from_json(json.loads(path.read_text()))
    assert policy == tiny.policies["small"]
    assert json.loads(out)["policy"] == policy.to_json()
    model = load(tiny.name, policy=path)
    assert model.limpq.weights == "finetuned"
    assert torch.equal(thaw_(model)(tiny.images), tiny.checkpoints["small"].requires_grad_(False)(tiny.images))


def test_the_json_of_a_search_is_a_plan_that_can_be_read_again(limpq, tiny):
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a4", "--counting", "limpq", "--json")
    assert (code, err) == (0, "")
    plan, expected = Plan.from_json(json.loads(out)), search(tiny.name, bitops="w3a4", counting="limpq")
    assert (plan.policy, plan.bitops, plan.costs) == (expected.policy, expected.bitops, expected.costs)


@pytest.mark.parametrize("tool", ["limpq", *FORMATS])
def test_a_policy_is_written_in_the_format_of_another_tool_and_what_that_cannot_hold_is_noted(
    limpq, tiny, tmp_path, tool
):
    path = tmp_path / "bits.json"
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3", "--format", tool, "--output", path)
    policy = tiny.policies["small"]
    content, notes = (policy.to_json(), ()) if tool == "limpq" else write_policy_as(policy, tool)
    assert code == 0
    assert json.loads(path.read_text()) == content
    exports = f"limpq export {tiny.name} --policy {path} --output out/test_resnet.noise-exported"
    after = exports if tool == "limpq" else f"limpq explain {tiny.name} --bitops w3a3"
    assert err == "".join(f"note: {text}\n" for text in notes) + f"wrote {path}\nnext: {after}\n"
    assert "proven optimal" in out


def test_search_draws_its_plan(limpq, tiny, tmp_path):
    path = tmp_path / "bits.png"
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3", "--plot", path, "--json")
    assert (code, err) == (0, f"wrote {path}\n")
    assert json.loads(out)["policy"] == tiny.policies["small"].to_json()
    with Image.open(path) as figure:
        assert (figure.format, figure.size) == ("PNG", (round(0.32 * 16 + 2, 2) * 120 // 1, 660))


def test_search_hands_its_plan_to_the_figure(limpq, tiny, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("limpq_hub.cli.plans.plot_policy", lambda *given: drawn.append(given))
    limpq("search", tiny.name, "--bitops", "w3a3", "--plot", tmp_path / "bits.png")
    ((plan, path),) = drawn
    assert (plan.policy, path) == (tiny.policies["small"], tmp_path / "bits.png")


@pytest.mark.parametrize("limits", [(), ("--size", "150kB"), ("--alpha", 1)], ids=str)
def test_frontier_draws_the_measured_front_unless_another_one_was_asked_for(
    limpq, tiny, with_front, tmp_path, monkeypatch, limits
):
    drawn = []
    monkeypatch.setattr("limpq_hub.cli.plans.plot_frontier", lambda *given: drawn.append(given))
    name = with_front((9_000_000, 60.0), (30_000_000, 70.0, 64), (40_000_000, 80.0))  # one is of recalibrated weights
    path = tmp_path / "front.png"
    code, out, err = limpq("frontier", name, "--points", 4, "--plot", path, *limits)
    ((plans, given, measured),) = drawn
    assert (code, given) == (0, path)
    assert sorted(measured) == ([] if limits else [(9_000_000, 60.0, None), (40_000_000, 80.0, None)])
    assert [format_bitops(plan.bitops) for plan in plans] == [row[0] for row in cells(out)]
    assert err.startswith(f"wrote {path}\nnext: limpq search ")


@pytest.mark.parametrize("model", ["resnet18", "file"])
def test_frontier_draws_a_figure_of_a_model_and_of_a_file(limpq, tiny, tmp_path, model):
    path = tmp_path / "front.svg"
    model = tiny.folder / "indicators.json" if model == "file" else model
    code, out, err = limpq("frontier", model, "--points", 3, "--plot", path, "--json")
    assert (code, err) == (0, f"wrote {path}\n")
    assert len(json.loads(out)) == 3
    assert path.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("command", ["search", "frontier"])
def test_a_figure_in_no_known_format_exits_with_two_and_leaves_no_file(limpq, tiny, tmp_path, command):
    arguments = ("--bitops", "w3a3") if command == "search" else ("--points", 2)
    code, out, err = limpq(command, tiny.name, *arguments, "--plot", tmp_path / "figure.txt")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"limpq {command}: .*: a figure is written as one of .*; use for example \.png\n", err)
    assert list(tmp_path.iterdir()) == []


def test_frontier_passes_its_limits_on(limpq, tiny):
    options = "--points 5 --size 170kB --compression 8x --activation-memory 64kB --alpha 0.5 --counting limpq --json"
    code, out, err = limpq("frontier", tiny.name, *options.split())
    assert code == 0
    assert err == "note: --activation-memory is no less than the 3072B that the most bits take, so it limits nothing\n"
    plans = frontier(
        tiny.name,
        points=5,
        size="170kB",
        compression="8x",
        activation_memory="64kB",
        alpha=0.5,
        counting="limpq",
    )
    assert len(plans) > 2
    assert [plan | {"seconds": 0} for plan in json.loads(out)] == [
        plan.to_json() | {"seconds": 0} | top1_in_json(33.5 if plan.policy == tiny.joint else None) for plan in plans
    ]


def test_frontier_shows_what_was_measured_of_a_policy_but_expects_nothing_within_other_limits(limpq, tiny, with_front):
    plans = frontier(tiny.name, points=3)
    ends = [(plan.bitops, top1, 0, plan.policy.digest()) for plan, top1 in ((plans[0], 20.0), (plans[-1], 60.0))]
    name = with_front(*ends)
    assert [row[-1][:5] for row in cells(limpq("frontier", name, "--points", 3)[1])] == ["20.00", "about", "60.00"]
    rows = cells(limpq("frontier", name, "--points", 3, "--size", "160kB")[1])
    assert [row[-1] for row in rows] == ["20.00 %", "not measured", "not measured"]


@pytest.mark.parametrize("options", ["--size 150kB", "--alpha 0.5 --counting limpq", "--pin layer4.*=3,3"])
def test_the_command_that_frontier_advises_with_the_other_options_gives_its_middle_plan(limpq, tiny, options):
    _, out, _ = limpq("frontier", tiny.name, "--points", 3, *options.split(), "--json")
    plans = json.loads(out)
    middle = plans[len(plans) // 2]
    _, _, err = limpq("frontier", tiny.name, "--points", 3, *options.split())
    advised = re.fullmatch(r"next: limpq (search .* --bitops \S+), with the other options as here\n", err)[1].split()
    assert json.loads(limpq(*advised, *options.split(), "--json")[1])["policy"] == middle["policy"]


def test_frontier_passes_its_choices_on(limpq, tiny):
    options = "--points 4 --candidates 2 4 --pin layer4.*=2,4 --exclude layer1.0.conv1 --tie layer3.* --time-limit 9"
    code, out, err = limpq("frontier", tiny.name, *options.split(), "--json")
    assert (code, err) == (0, "")
    plans = frontier(
        tiny.name,
        points=4,
        candidates=[2, 4],
        pin={"layer4.*": (2, 4)},
        exclude=["layer1.0.conv1"],
        tie=[["layer3.*"]],
        time_limit_s=9,
    )
    assert [plan["policy"] for plan in json.loads(out)] == [plan.policy.to_json() for plan in plans]


# Latency tables


@pytest.fixture
def latency_csv(tiny, tmp_path):
    """A table in which a layer takes as long as its bits multiply to, for two layers."""
    table = {
        name: {(w, a): w * a / 4 for w in (2, 3, 4) for a in (2, 3, 4)} for name in ("layer1.0.conv1", "layer4.0.conv1")
    }
    path = tmp_path / "latency.csv"
    lines = [f"{name},{w},{a},{time}" for name, times in table.items() for (w, a), time in times.items()]
    path.write_text("\n".join(["layer,weight_bits,activation_bits,time", *lines]) + "\n")
    return path, table


@pytest.mark.parametrize("command", ["search", "frontier", "compare", "explain"])
def test_a_latency_table_and_its_limit_are_taken_from_a_file(limpq, tiny, latency_csv, command):
    path, table = latency_csv
    code, out, err = limpq(command, tiny.name, "--latency", path, "3.5", "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    expected = search(tiny.name, latency=(table, 3.5)).policy.to_json()
    found = {
        "search": lambda: [content["policy"]],
        "frontier": lambda: [plan["policy"] for plan in content],
        "compare": lambda: [plan["policy"] for plan in content.values()],
        "explain": lambda: [content["plan"]["policy"]],
    }[command]()
    assert expected in found
    for policy in found:
        bits = [policy["layers"][name] for name in table]
        assert sum(of_layer["weight"] * of_layer["activation"] for of_layer in bits) <= 4 * 3.5


def test_a_malformed_latency_table_exits_with_two_and_names_the_line(limpq, tiny, latency_csv):
    path, _ = latency_csv
    path.write_text(path.read_text() + "layer1.0.conv1,4,four,1\n")
    code, out, err = limpq("search", tiny.name, "--latency", path, 3)
    assert (code, out) == (2, "")
    assert err.startswith(f"limpq search: latency table {quoted(str(path))}, line 20: 'layer1.0.conv1,4,four,1' is not")
    assert err.count("\n") == 1


def test_a_latency_table_without_all_times_of_a_layer_exits_with_two_and_names_what_lacks(limpq, tiny, latency_csv):
    path, _ = latency_csv
    path.write_text(path.read_text().replace("layer1.0.conv1,3,2,1.5\n", ""))
    code, out, err = limpq("compare", tiny.name, "--latency", path, 3)
    assert (code, out) == (2, "")
    message = "the latency table has no time for layer 'layer1.0.conv1' at 3 weight and 2 activation bits; add it"
    assert err == f"limpq compare: {message}\n"


# Compare


def columns(out):
    """Return the columns of a printed table by their headings, as lists of cells."""
    heading = next(line for line in out.splitlines() if line.startswith("┃"))
    names = [cell.strip() for cell in heading.split("┃")[1:-1]]
    return dict(zip(names, map(list, zip(*cells(out), strict=True)), strict=True))


def test_compare_frontier_and_info_name_the_importance_of_an_entry_whose_pairs_were_measured(limpq):
    name = "efficientnet_lite0"
    found = columns(limpq("compare", name, "--bitops", "w4a4")[1])
    assert "learned" not in found
    assert "measured" in found
    assert "objective, measured pairs" in found["layer"]
    assert "objective, measured pairs" in columns(limpq("frontier", name, "--points", 2)[1])
    assert re.search(r"bits chosen by +measured pairs\n", limpq("info", name)[1])
    chosen = r"bits chosen by +coupled steps, weight and activation bits of a layer at most 1 apart\n"
    assert re.search(chosen, limpq("info", "resnet18")[1])


def test_compare_advises_no_gap_that_its_first_search_alone_would_take(limpq, tiny, monkeypatch):
    near = _NotNearEnoughError("no proven optimum in time: allow_gap=0.1 takes it")
    monkeypatch.setattr(planning, "search", Mock(side_effect=near))
    assert limpq("compare", tiny.name, "--bitops", "w3a3")[2] == (
        "limpq compare: no proven optimum in time of one of several searches; allow all of them a larger gap by "
        "--allow-gap, or raise --time-limit\n"
    )


def test_a_layer_that_learned_none_of_the_candidates_is_told_with_what_to_type(limpq, tiny, tmp_path):
    content = json.loads((tiny.folder / "indicators.json").read_text())
    path = tmp_path / "indicators.json"
    layer = content["layers"]["layer1.0.conv1"]
    del layer["weight_steps"]["2"]
    layer["weight_candidates"] = [bits for bits in content["candidates"] if bits != 2]
    path.write_text(json.dumps(content))
    code, _, err = limpq("search", path, "--bitops", "w4a4", "--candidates", 2)
    assert (code, err.partition("too: ")[2]) == (2, "add layer1.0.conv1=2,4 to --candidates\n")
    assert limpq("search", path, "--bitops", "w4a4", "--candidates", 2, "layer1.0.conv1=2,4")[0] == 0


def test_compare_shows_the_bits_of_each_policy_what_it_costs_and_its_objective(limpq, tiny):
    code, out, err = limpq("compare", tiny.name, "--bitops", "w3a3", "--seed", 4)
    assert code == 0
    assert err == f"next: limpq explain {tiny.name} --bitops w3a3\n"
    policies = {"learned": tiny.policies["small"], **baselines(tiny.name, bitops="w3a3", seed=4)}
    found = columns(out)
    assert found.pop("layer") == [*tiny.costs, "BitOps", "weights", "objective, learned steps", "top-1"]
    assert list(found) == list(policies)
    assert list(found) == ["learned", "uniform", "uniform filled", "random", "reversed"]
    for name, policy in policies.items():
        of = [(cost, policy.layers[layer]) for layer, cost in tiny.costs.items()]
        objective = sum(
            tiny.indicators.activation_steps[layer][policy.layers[layer].activation]
            + 2.0 * tiny.indicators.weight_steps[layer][policy.layers[layer].weight]
            for layer in tiny.indicators.weight_steps
        )
        assert found[name][:-1] == [
            *(f"{bits.weight}/{bits.activation}" for _, bits in of),
            format_bitops(sum(cost.macs * bits.weight * bits.activation for cost, bits in of)),
            format_size(-(-sum(cost.weights * bits.weight for cost, bits in of) // 8)),
            f"{objective:.4f}",
        ]
        assert found[name][-1] == ("61.50 % +/- 2.43 fine-tuned" if name == "learned" else "not measured")


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("w2a2", "33.50 % +/- 2.36 joint"),
        ("w3a3", "61.50 % +/- 2.43 fine-tuned"),
        ("w4a4", "72.25 % +/- 2.24 fine-tuned"),
        ("w4a3", "not measured"),
    ],
)
def test_compare_shows_the_top1_of_every_policy_that_was_measured(limpq, tiny, budget, expected):
    found = columns(limpq("compare", tiny.name, "--bitops", budget)[1])
    # Where all have a figure, each takes two lines.
    assert " ".join(found["learned"][-2:]).endswith(expected)
    if budget in ("w2a2", "w4a4"):  # nothing else fits, or everything does
        assert all(" ".join(cells[-2:]).endswith(expected) for name, cells in found.items() if name != "layer")


def test_compare_prefers_the_figure_of_the_fine_tuned_weights(limpq, tiny, with_front):
    name = with_front((20_000_000, 12.5, 0, tiny.policies["small"].digest()))
    assert columns(limpq("compare", name, "--bitops", "w3a3")[1])["learned"][-1] == "61.50 % +/- 2.43 fine-tuned"


def test_compare_of_a_file_has_no_figures(limpq, tiny):
    found = columns(limpq("compare", tiny.folder / "indicators.json", "--bitops", "w3a3")[1])
    assert {cells[-1] for name, cells in found.items() if name != "layer"} == {"not measured"}


def test_compare_has_the_sensitivity_of_an_entry_that_ships_its_float_network(limpq, with_float):
    found = columns(limpq("compare", f"local-dir:{with_float}", "--bitops", "w3a3")[1])
    assert list(found)[-1] == "sensitivity"
    policy = baselines(f"local-dir:{with_float}", bitops="w3a3")["sensitivity"]
    assert found["sensitivity"][:16] == [f"{bits.weight}/{bits.activation}" for bits in policy.layers.values()]


def test_compare_as_json_holds_a_plan_of_each_policy_and_nothing_else(limpq, tiny):
    options = ("--bitops", "w3a3", "--size", "150kB", "--alpha", 0.5, "--counting", "limpq", "--seed", 2)
    code, out, err = limpq("compare", tiny.name, *options, "--json")
    assert (code, err) == (0, "")
    given = {"bitops": "w3a3", "size": "150kB", "alpha": 0.5, "counting": "limpq"}
    policies = {"learned": search(tiny.name, **given).policy, **baselines(tiny.name, seed=2, **given)}
    content = json.loads(out)
    assert list(content) == list(policies)
    learned = content["learned"]
    assert (learned["optimal"], learned["bound"], learned["way"]) == (True, learned["objective"], "enumeration")
    assert not any(plan["optimal"] for name, plan in content.items() if name != "learned")
    for name, policy in policies.items():
        plan = Plan.from_json(content[name])
        expected = Plan.of_policy(tiny.indicators, policy, alpha=0.5, counting="limpq")
        assert (plan.policy, plan.bitops, plan.alpha, plan.counting) == (policy, expected.bitops, 0.5, "limpq")
        assert plan.objective == pytest.approx(expected.objective, rel=1e-12)  # summed in another order
        assert "top1" in content[name]


def test_compare_of_the_bundled_model_shows_its_published_policy(limpq):
    found = columns(limpq("compare", "resnet18", "--bitops", "3G")[1])
    assert re.fullmatch(r"\d\d\.\d\d % \+/- 0\.50 fine-tuned", found["coupled"][-1])
    assert {cells[-1] for name, cells in found.items() if name not in ("layer", "coupled")} == {"not measured"}


# Explain


def test_explain_shows_the_plan_beside_a_uniform_policy_and_what_more_bits_would_cost(limpq, tiny):
    code, out, err = limpq("explain", tiny.name, "--bitops", "w4a3")
    assert (code, err) == (0, f"next: limpq search {tiny.name} --bitops w4a3 --output policy.json\n")
    plan = search(tiny.name, bitops="w4a3")
    uniform = {
        bits: sum(cost.macs * (64 if cost.fixed else bits * bits) for cost in tiny.costs.values()) for bits in (2, 3, 4)
    }
    assert uniform[3] <= plan.bitops < uniform[4]
    assert "Beside uniform 3/3 bits" in out
    rows = cells(out)
    changed = [
        [name, *(str(bits) if bits == 3 else f"{bits} ({bits - 3:+d})" for bits in (of.weight, of.activation))]
        for name, of in plan.policy.layers.items()
        if not tiny.costs[name].fixed and (of.weight, of.activation) != (3, 3)
    ]
    assert rows[: len(changed)] == changed
    raises = explain(tiny.indicators, plan).raises[:12]
    raised, by_role = rows[len(changed) :][: len(raises)], rows[len(changed) + len(raises) :]
    assert [row[:2] for row in raised] == [[one.layer, f"{one.kind} to {one.bits}"] for one in raises]
    assert [row[3] for row in raised] == [f"+{format_bitops(one.bitops)}" for one in raises]
    roles = [cost.role or "other" for cost in tiny.costs.values() if cost.fixed is None]
    assert [row[:2] for row in by_role] == [[role, str(roles.count(role))] for role in dict.fromkeys(roles)]


def test_explain_as_json_is_the_explanation_and_nothing_else(limpq, tiny):
    options = ("--bitops", "w3a3", "--alpha", 0.5, "--counting", "limpq", "--pin", "conv1.*=3,4")
    code, out, err = limpq("explain", tiny.name, *options, "--json")
    assert (code, err) == (0, "")
    pin = {"conv1.*": (3, 4)}
    plan = search(tiny.name, bitops="w3a3", alpha=0.5, counting="limpq", pin=pin)
    within = baselines(tiny.indicators, bitops="w3a3", alpha=0.5, counting="limpq")["uniform"]  # of the same budget
    explained = explain(tiny.indicators, plan, fits=lambda policy: policy == within, pin=pin)
    content, expected = json.loads(out), json.loads(json.dumps(explained.to_json()))
    content["plan"]["seconds"] = expected["plan"]["seconds"] = 0
    assert content == expected
    assert not [one for one in content["raises"] if one["layer"].startswith("conv1.")]
    for one in content["raises"]:
        cost, bits = tiny.costs[one["layer"]], plan.policy.layers[one["layer"]]
        other = bits.activation if one["kind"] == "weight" else bits.weight
        assert one["bitops"] == cost.macs_limpq * other * (one["bits"] - getattr(bits, one["kind"]))


def test_what_was_searched_in_a_table_of_the_candidates_alone_can_be_explained_as_the_next_line_says(
    limpq, tiny, tmp_path
):
    table = tmp_path / "times.csv"
    searched = [name for name, cost in tiny.costs.items() if cost.fixed is None]
    pairs = [(weight, activation) for weight in (3, 4) for activation in (3, 4)]
    lines = [f"{name},{weight},{activation},{weight * activation}" for name in searched for weight, activation in pairs]
    table.write_text("\n".join(["layer,weight_bits,activation_bits,time", *lines]))
    typed = [tiny.name, "--latency", table, 12 * len(searched), "--candidates", 3, 4]
    explain_it = next_of(limpq("search", *typed)[2])
    assert explain_it[0] == "explain"
    code, out, err = limpq(*explain_it)
    assert code == 0, err
    assert "Beside uniform 3/3 bits" in out
    assert limpq(*next_of(err)[:-1], tmp_path / "policy.json")[0] == 0


def test_a_search_of_measured_importance_is_explained_where_learned_outliers_leave_no_policy(limpq, tiny, tmp_path):
    content = tiny.indicators.to_json()
    pairs = [(weight, activation) for weight in (2, 3, 4) for activation in (2, 3, 4)]
    for layer in content["layers"].values():
        if "weight_steps" in layer:
            layer["weight_steps"]["2"] = layer["weight_steps"]["3"] / 2
            layer["divergences"] = {f"{weight}/{activation}": 1 / weight / activation for weight, activation in pairs}
    (tmp_path / "measured.json").write_text(json.dumps(content))
    options = ("--bitops", "w2a2", "--importance", "measured")
    explain_it = next_of(limpq("search", tmp_path / "measured.json", *options)[2])
    code, out, err = limpq(*explain_it)
    assert code == 0, err
    assert "- every layer has the bits of the uniform policy, 2/2\n" in out


@pytest.mark.parametrize("command", ["search", "frontier", "explain"])
def test_a_file_whose_measured_pairs_were_not_added_up_is_told_and_no_other(limpq, tiny, tmp_path, command):
    content = tiny.indicators.to_json()
    pairs = [(weight, activation) for weight in (2, 3, 4) for activation in (2, 3, 4)]
    for layer in content["layers"].values():
        if "weight_steps" in layer:
            layer["divergences"] = {f"{weight}/{activation}": 1 / weight / activation for weight, activation in pairs}
    path = tmp_path / "measured.json"
    budget = ("--points", 2) if command == "frontier" else ("--bitops", "w3a3")
    told = {}
    for objective in ("learned", "measured"):
        path.write_text(json.dumps(content | {"objective": objective}))
        for asked in ((), ("--json",), ("--importance", "learned"), ("--importance", "measured")):
            code, _, err = limpq(command, path, *budget, *asked)
            assert code == 0, err
            told[objective, asked] = [line for line in err.splitlines() if "measured pairs" in line]
    (said,) = told.pop(("learned", ()))
    assert told.pop(("learned", ("--json",))) == [said]
    holds = f"{path} holds measured pairs too; the search added up its learned steps"
    assert said == f"note: {holds}: --importance measured adds up the pairs"
    assert not any(told.values())


def test_a_limit_of_a_table_that_is_advised_can_be_typed(limpq, tiny, tmp_path):
    table = tmp_path / "TABLE.csv"
    pairs = [(weight, activation) for weight in (2, 3, 4) for activation in (2, 3, 4)]
    lines = [f"layer1.0.conv1,{weight},{activation},{weight * activation / 8}" for weight, activation in pairs]
    table.write_text("\n".join(["layer,weight_bits,activation_bits,time", *lines]))
    for limit, refused in (("0.3", "--latency TABLE.csv 0.3 cannot be met"), ("5G", "--latency 5G is not a budget")):
        code, _, err = limpq("search", tiny.name, "--latency", table, limit)
        assert code == 2
        assert refused in err
        (advised,) = re.findall(r" use (?:for example )?--latency TABLE\.csv (\S+)", err)
        assert limpq("search", tiny.name, "--latency", table, advised)[0] == 0


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_outliers_and_limits_on_the_weights_alone_are_noted(limpq, tiny, tmp_path, command):
    content = tiny.indicators.to_json()
    steps = content["layers"]["layer1.0.conv1"]["weight_steps"]
    steps["2"] = steps["4"] / 2
    (tmp_path / "outlier.json").write_text(json.dumps(content))
    code, _, err = limpq(command, tmp_path / "outlier.json", "--size", "150kB")
    assert code == 0
    outlier, weights, *_ = err.splitlines()
    assert (
        outlier
        == "note: layer1.0.conv1: the step of 2-bit weights is smaller than that of more bits, so 2 bits are left out"
    )
    assert weights.startswith("note: only the weights are limited, so every activation went to its most bits")


@pytest.mark.parametrize("command", ["search", "compare", "explain"])
def test_a_layer_with_brackets_in_its_name_is_shown_as_it_is(limpq, tiny, tmp_path, command):
    content = tiny.indicators.to_json()
    layers = {name.replace("layer1.0.conv1", "[/x]"): layer for name, layer in content["layers"].items()}
    (tmp_path / "brackets.json").write_text(json.dumps(content | {"layers": layers}))
    code, out, _ = limpq(command, tmp_path / "brackets.json", "--bitops", "w2a3")
    assert code == 0
    assert "[/x]" in out


@pytest.mark.parametrize(
    "arguments",
    [
        "search --bitops 3G",
        "compare --bitops 3G",
        "explain --bitops 3G",
        "frontier --points 3",
    ],
)
def test_a_network_without_a_choice_is_shown_by_every_command(limpq, tiny, tmp_path, arguments):
    content = tiny.indicators.to_json()
    fixed = {name: layer for name, layer in content["layers"].items() if layer["fixed"]}
    (tmp_path / "fixed.json").write_text(json.dumps(content | {"layers": fixed}))
    command, *options = arguments.split()
    assert limpq(command, tmp_path / "fixed.json", *options)[0] == 0


def test_info_shows_layers_budgets_policies_files_and_provenance(limpq, tiny):
    code, out, err = limpq("info", tiny.name)
    assert (code, err) == (0, "")
    for text in ("timm test_resnet, 10 classes", "32 x 32 pixels", "14 searched, 2 fixed at 8/8 bits", "80.00 %"):
        assert text in out
    for text in ("policy small", "top-1 61.50 %", "policy large", "file policies/small/model.safetensors"):
        assert text in out
    assert "tests/conftest.py" in out


def test_info_prints_paths_and_commands_whole_however_long_they_are(limpq, tiny, tmp_path):
    folder = tmp_path / ("long " * 40).strip() / "entry"
    shutil.copytree(tiny.folder, folder)
    lines = limpq("info", f"local-dir:{folder}")[1].splitlines()
    assert lines[0] == f"local-dir:{folder}"
    entry = catalog.find_entry(f"local-dir:{folder}")
    for name, value in (
        ("command", entry.indicators.provenance["command"]),
        ("source", str(entry.summary()["source"])),
    ):
        (line,) = [line for line in lines if line.split()[0] == name]
        assert line.split(maxsplit=1)[1] == value


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
    assert (code, err) == (0, f"next: limpq explain {tiny.name} --bitops w3a3\n")
    assert len(re.findall(r"│ noise \d +│ +\d+\.\d% ", out)) == 3
    assert "one of 10 classes; finetuned weights" in out
    assert "61.50 % +/- 2.43 top-1 on 400 validation images" in re.sub(r"\s+", " ", out)


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


def test_predict_tells_classes_of_one_name_apart(limpq, entry_copy, reseal, picture):
    names = ["crane", "crane", *(f"noise {index}" for index in range(2, 10))]
    classes = [{"id": f"n{index:04d}", "name": name} for index, name in enumerate(names)]
    (entry_copy / "classes.json").write_text(json.dumps(classes))
    reseal(entry_copy)
    arguments = ("predict", picture, "--model", f"local-dir:{entry_copy}", "--bitops", "w3a3", "--top", 10)
    shown = limpq(*arguments)[1]
    assert {name.strip() for name in re.findall(r"crane[^│]*", shown)} == {"crane (n0000)", "crane (n0001)"}
    assert re.search(r"noise 2 *│", shown)
    assert [guess["name"] for guess in json.loads(limpq(*arguments, "--json")[1])["guesses"]].count("crane") == 2
    many = limpq("predict", picture, *arguments[1:])[1]
    best = json.loads(limpq(*arguments, "--json")[1])["guesses"][0]
    assert (f"{best['name']} ({best['id']})" if best["name"] == "crane" else best["name"]) in many


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


def test_predict_takes_many_pictures_and_folders_and_names_what_it_leaves_out(limpq, tiny, picture, tmp_path):
    folder = tmp_path / "more"
    (folder / "nested").mkdir(parents=True)
    for name in ("10.png", "2.png", "nested/a.png"):
        (folder / name).write_bytes(picture.read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    typed = ("predict", picture, folder, "--model", tiny.name, "--bitops", "w3a3")
    code, out, err = limpq(*typed, "--json")
    content, single = json.loads(out), json.loads(limpq("predict", picture, *typed[3:], "--json")[1])
    paths = [str(path) for path in (picture, folder / "2.png", folder / "10.png", folder / "nested/a.png")]
    assert (code, [seen["picture"] for seen in content["pictures"]]) == (0, paths)
    assert all(seen["guesses"] == single["guesses"] for seen in content["pictures"])
    assert content["bitops"] == single["bitops"]
    broken = quoted(str(folder / "broken.png"))
    assert err == (
        f"note: {folder}: 1 file that is no picture is left out (1 .txt)\n"
        f"note: left out: {broken} is not a picture that can be read; give a JPEG, PNG, WebP or GIF file\n"
    )
    code, out, _ = limpq(*typed)
    assert (code, out.count(single["guesses"][0]["name"])) == (0, 4)


@pytest.mark.parametrize("address", ["https://example.org/lion.jpg", "s3://bucket/lion.jpg"])
def test_predict_refuses_an_address_on_the_web_and_says_what_to_do(limpq, tiny, address):
    code, out, err = limpq("predict", address, "--model", tiny.name, "--bitops", "w3a3")
    assert (code, out) == (2, "")
    assert f"'{address}' is an address, and pictures are read from this machine: download it first" in err


def test_predict_of_a_folder_without_pictures_says_so(limpq, tiny, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_bytes(b"no picture")
    (tmp_path / "broken/b.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    for name, message in (("empty", "has no pictures in it"), ("broken", "none of the 2 pictures can be read")):
        code, out, err = limpq("predict", tmp_path / name, "--model", tiny.name, "--bitops", "w3a3")
        assert (code, out) == (3, "")
        assert message in err


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [
        ("search resnet18 3G", "3G; did you mean --bitops 3G?"),
        ("compare resnet18 w4a4", "w4a4; did you mean --bitops w4a4?"),
        ("search resnet18 3MB", "3MB; did you mean --size 3MB?"),
        ("search resnet18 3 MB", "3 MB; did you mean --size 3MB?"),
        ("explain resnet18 12.2x", "12.2x; did you mean --compression 12.2x?"),
        ("frontier resnet18 3G", "3G"),  # it has no --bitops
        ("search resnet18 --size 3 MB", "MB; write --size 3MB"),
        ("search resnet18 --json --bitops=3 G", "G; write --bitops 3G"),
        ("search resnet18 --bitops 3G nonsense", "nonsense"),
        ("search resnet18 8", "8"),
    ],
)
def test_a_budget_without_its_option_or_apart_from_its_unit_is_answered_with_both(limpq, typed, suggestion):
    code, out, err = limpq(*typed.split())
    assert (code, out) == (2, "")
    assert err.endswith(f"error: unrecognized arguments: {suggestion}\n")


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [
        ("serach resnet18", "; did you mean search?"),
        (
            "search resnet18 --bitop 3G",
            "search: error: unrecognized arguments: --bitop 3G; did you mean --bitops?",
        ),
        ("search resnet18 --bitops 3G --counting exakt", "; did you mean exact?"),
        ("info resnet18 --nothing-like-it", "limpq info: error: unrecognized arguments: --nothing-like-it\n"),
        ("search resnet18 --budget 3G", "unrecognized arguments: --budget 3G; did you mean --bitops or --size?\n"),
        ("frontier resnet18 --budget 3MB", "unrecognized arguments: --budget 3MB; did you mean --size?\n"),
        ("explain resnet18 --memory=3MB", "; did you mean --size or --activation-memory?\n"),
        ("compare resnet18 --flops 3G", "; did you mean --bitops?\n"),
        ("export resnet18 --bitops 3G --runtime onnxruntime", "; did you mean --format in place of --runtime?\n"),
        ("predict x.png --exported out --runtime openvino", "unrecognized arguments: --runtime openvino\n"),
        ("search resnet18 --bitops 3G --out policy.json", "; did you mean --output?\n"),
        (
            "push resnet18 --repo you/x",
            "; the repository is given by position here: limpq push ... you/resnet18-limpq\n",
        ),
        ("info resnet18 --hepl", "limpq info: error: unrecognized arguments: --hepl\n"),
    ],
)
def test_a_word_that_is_nearly_right_is_answered_with_the_right_one(limpq, typed, suggestion):
    code, out, err = limpq(*typed.split())
    assert (code, out) == (2, "")
    assert suggestion in err


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        ("search --model resnet18 --bitops 3G", "by position here: limpq search resnet18 ..."),
        ("search --model=local-dir:x --bitops 3G", "by position here: limpq search resnet18 ..."),
        ("frontier --model resnet18", "by position here: limpq frontier resnet18 ..."),
        ("export --bitops 3G --output out --model", "by position here: limpq export resnet18 ..."),
        ("check --model resnet18", "by position here: limpq check resnet18 ..."),
        ("measure --model resnet18 --images x --output y", "by position here: limpq measure resnet18 ..."),
        ("predict resnet18 photo.jpg --bitops 3G", "by an option here: limpq predict ... --model resnet18"),
        ("import steps.pkl resnet18 --output x.json", "by an option here: limpq import ... --model resnet18"),
    ],
)
def test_a_model_in_the_wrong_place_is_answered_with_the_right_one(limpq, typed, place):
    code, out, err = limpq(*typed.split())
    assert (code, out) == (2, "")
    assert err.endswith(f"; the model is given {place}\n")


def test_bash_completes_commands_and_options(limpq, tmp_path):
    code, out, err = limpq("completion", "bash")
    assert (code, err) == (0, "")
    (tmp_path / "complete.sh").write_text(out)
    asks = "COMP_WORDS=(limpq {0}); COMP_CWORD={1}; _shtab_limpq; echo ${{COMPREPLY[@]}}"
    for words, place, expected in (("sear", 1, "search"), ("search --bito", 2, "--bitops")):
        script = f"source {tmp_path}/complete.sh; {asks.format(words, place)}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected]


def test_completion_prints_no_json_and_does_not_say_that_it_would(limpq):
    code, out, err = limpq("completion", "bash", "--json")
    assert (code, out) == (2, "")
    assert "--json" in err
    assert "--json" not in limpq("completion", "--help")[1]
    assert "--json" in limpq("doctor", "--help")[1]


def test_an_extra_that_is_not_installed_is_named_in_one_line(limpq, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setattr("limpq_hub.zoo.catalog.list_models", lambda pattern: importlib.import_module("accelerate"))
    code, out, err = limpq("list")
    assert (code, out) == (3, "")
    line = 'limpq: accelerate is not installed; training and measuring need it: pip install "limpq-hub[train]"\n'
    assert err == line


def test_predict_refuses_a_line_before_it_is_scaled(limpq, tiny, tmp_path):
    Image.new("L", (200_000, 1)).save(tmp_path / "line.png")
    code, out, err = limpq("predict", tmp_path / "line.png", "--model", tiny.name, "--bitops", "w3a3")
    assert (code, out) == (3, "")
    assert "the picture of 200000 x 1 pixels is too long and narrow: scaled for the network it would have" in err
    assert "more than 16,000,000 pixels; crop it first" in err


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_predict_refuses_a_count_of_classes_that_cannot_be(limpq, tiny, picture, count):
    code, out, err = limpq("predict", picture, "--model", tiny.name, "--bitops", "w3a3", "--top", count)
    assert (code, out) == (2, "")
    assert "--top" in err


@pytest.mark.parametrize("name", ["[red]noise.png", "[x].png", "[bold]", "noise [1].png", "noise:dog:.png"])
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


def test_a_top1_comes_with_its_standard_error_and_the_images_it_was_measured_on(limpq, picture):
    where = "photos, 1,300 validation images"
    record = json.loads((BUNDLED / "mobilenetv2_100.in1k/policies/w4a4/metrics.json").read_text())
    with_error = f"{record['top1']:.2f} % +/- {record['top1_standard_error']:.2f}"
    listed = limpq("list", "mobilenetv2*")[1]
    assert with_error in listed
    assert f"mobilenetv2_100.in1k: top-1 on {where}" in listed
    assert f"top-1 {with_error} on {where}\n" in limpq("info", "mobilenetv2_100")[1]
    compared = limpq("compare", "resnet18", "--bitops", "3G")[1]
    assert "top-1 on tiny-imagenet, 10,000 validation images" in compared
    assert "+/- one standard error" in compared
    assert re.search(r"\d\d\.\d\d % \+/- 0\.50 fine-tuned", compared)
    policy = BUNDLED / "mobilenetv2_100.in1k/policies/w4a4/policy.json"
    code, seen, err = limpq("predict", picture, "--model", "mobilenetv2_100", "--policy", policy)
    assert code == 0, err
    assert f"{with_error} top-1 on {where}" in re.sub(r"\s+", " ", seen)


def test_a_top1_in_json_comes_with_its_standard_error_and_the_number_of_its_images(limpq, tiny, picture):
    compared = json.loads(limpq("compare", tiny.name, "--bitops", "w3a3", "--json")[1])
    for name, plan in compared.items():
        measured = top1_in_json(61.5 if name == "learned" else None)
        assert {key: plan[key] for key in measured} == measured
    arguments = ("predict", picture, "--model", tiny.name, "--bitops", "w3a3", "--json")
    record = json.loads(limpq(*arguments)[1])
    assert {key: record[key] for key in top1_in_json(None)} == top1_in_json(61.5)


def test_import_turns_a_pickle_into_indicators_that_search_takes(limpq, tiny, steps_pickle, tmp_path):
    output = tmp_path / "imported" / "indicators.json"
    arguments = ("--model", "test_resnet", "--input-size", 32, "--num-classes", 10, "--output", output)
    code, out, err = limpq("import", steps_pickle, *arguments)
    assert (code, out) == (0, "")
    assert err == f"wrote {output}; next: limpq search {output} --bitops w3a3\n"
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
        ("search resnet18 --bitops 3X", 2, "--bitops 3X is not a budget: the unit 'X' is not known"),
        ("search resnet18 --bitops 1", 2, "--bitops 1 cannot be met: resnet18 at 64x64 needs at least"),
        ("search resnet81 --bitops 3G", 2, "no model is named 'resnet81'; did you mean resnet18"),
        ("search owner/name --bitops 3G", 2, "'owner/name' could be a folder or a Hub repository: write"),
        ("frontier resnet18 --points 1", 2, "--points 1 cannot be: use a whole number of at least 2, for example 100"),
        ("frontier resnet18 --alpha nan", 2, "--alpha nan cannot be: use a number of at least 0"),
        ("frontier resnet81", 2, "no model is named 'resnet81'; did you mean resnet18"),
        ("frontier missing.json", 2, "there is no file 'missing.json'; give the path of an indicators.json"),
        ("search missing.json --bitops 3G", 2, "there is no file 'missing.json'; give the path of an indicators.json"),
        ("search resnet18 --bitops 3G --candidates 7", 2, "7"),
        ("search resnet18 --bitops 3G --pin nothing.*=4,4", 2, "nothing.*"),
        ("search resnet18 --bitops 3G --alpha nan", 2, "--alpha nan cannot be: use a number of at least 0"),
        (
            "search local-dir:. --bitops 3G",
            2,
            "'local-dir:.': no config.json there; give the output folder of",
        ),
        ("frontier resnet18 --size 1kB", 2, "--size 1000B cannot be met: resnet18 at 64x64 needs at least"),
        ("frontier resnet18 --points 2 --plot front.txt", 2, "'front.txt': a figure is written as one of"),
        ("search resnet18 --bitops 3G --plot bits.txt", 2, "'bits.txt': a figure is written as one of jpg, pdf, png"),
        ("search resnet18 --bitops 3G --plot bits.txt --output bits.json", 2, "'bits.txt': a figure is written as"),
        ("search resnet18 --bitops 3G --format hawq", 2, "--format hawq needs a file to write: add --output bits.json"),
        ("search resnet18 --latency no.csv 3", 2, "latency table 'no.csv' cannot be read ([Errno 2] No such file"),
        ("search resnet18 --latency . 3", 2, "latency table '.' cannot be read ([Errno 21] Is a directory"),
        ("compare resnet18", 2, "no budget was given: use for example"),
        ("compare resnet18 --bitops 1", 2, "--bitops 1 cannot be met: resnet18 at 64x64 needs at least"),
        ("compare resnet81 --bitops 3G", 2, "no model is named 'resnet81'; did you mean resnet18"),
        ("compare missing.json --bitops 3G", 2, "there is no file 'missing.json'; give the path of an indicators.json"),
        ("compare resnet18 --bitops 3G --alpha nan", 2, "--alpha nan cannot be: use a number of at least 0"),
        ("explain resnet18", 2, "no budget was given: use for example"),
        ("explain resnet18 --size 1B", 2, "--size 1B cannot be met: resnet18 at 64x64 needs at least"),
        ("explain resnet81 --bitops 3G", 2, "no model is named 'resnet81'; did you mean resnet18"),
        ("explain resnet18 --bitops 3G --pin nothing.*=4,4", 2, "nothing.*"),
        ("info hf-hub:a/b/c", 6, "'a/b/c' is not the name of a Hub repository: write hf-hub:owner/name"),
        (
            "info hf-hub:nobody/nothing",
            6,
            "nobody/nothing@main is not in the cache and HF_HUB_OFFLINE is set; go online",
        ),
        (
            "predict no.jpg --model resnet18 --bitops 3G",
            3,
            "there is no file or folder 'no.jpg'; give the path of a picture",
        ),
        ("predict no/ --model resnet18 --bitops 3G", 3, "there is no file or folder 'no'; give the path of a picture"),
        ("predict . --model resnet18", 2, "or --size, --compression, --activation-memory, --latency, --energy or --p"),
        ("predict . --model resnet18 --bitops 3G --policy x", 2, "give --policy or --bitops, not both"),
        ("predict . --model resnet18 --policy x", 2, "there is no file 'x'; give the path of a policy.json"),
        ("predict . --model resnet81 --bitops 3G", 2, "no model is named 'resnet81'; did you mean resnet18"),
        ("predict . --model resnet18 --bitops 1", 2, "--bitops 1 cannot be met"),
        ("predict . --exported no", 5, "no is no exported network"),
        ("search resnet18 --bitops w9a9", 2, '--bitops w9a9 is no uniform policy: "w3a4" is one, 3 bits for all'),
        ("search resnet18 --bitops 3G --candidates 7", 2, "--candidates 7: choose from the learned bit-widths 8, 6, 5"),
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


def test_what_is_wrong_is_told_before_torch_is_imported(run_python, tmp_path):
    failing = [
        "search resnet19 --bitops 3G",
        "search local-dir:/nowhere --bitops 3G",
        "predict missing.jpg --model resnet18 --bitops 3G",
        "predict . --model resnet19 --bitops 3G",
        "predict . --model resnet18 --bitops 1",
        "predict . --model resnet18 --policy no.json",
        "predict . --exported no",
        "export resnet19 --bitops 3G --output x",
        "export resnet18 --bitops 3G --output x --images no",
        "measure resnet19 --images . --output x.json",
        "measure resnet18 --images no --output x.json",
        "measure-latency resnet19 --output x",
        "info resnet19",
    ]
    code = (
        "import sys\n"
        "from limpq_hub.cli import main\n"
        f"print([main(typed.split()) > 0 for typed in {failing!r}])\n"
        "print(sorted({'torch', 'timm', 'torchvision'} & set(sys.modules)))\n"
    )
    result = run_python(code)
    assert result.stdout == f"{[True] * len(failing)}\n[]\n", result.stderr
    assert len(result.stderr.splitlines()) == len(failing)


@pytest.mark.parametrize("model", ["resnet18", "resnet18.tiny_imagenet", "local-dir:/nowhere", "hf-hub:you/net"])
def test_a_model_in_the_place_of_a_picture_is_told_as_one(limpq, picture, model):
    for typed in (["predict", model, "--model", picture], ["predict", picture, model, "--model", "resnet18"]):
        code, out, err = limpq(*typed, "--bitops", "3G")
        assert (code, out) == (3, "")
        assert err == (
            f"limpq predict: there is no file or folder {model!r}; it names a model: limpq predict PICTURE --model "
            f"{model}\n"
        )


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
        ("search resnet18 --latency table.csv", "argument --latency: expected 2 arguments"),
        ("search resnet18 --bitops 3G --format onnx", "invalid choice: 'onnx'"),
        ("compare", "the following arguments are required: model"),
        ("compare resnet18 --bitops 3G --seed many", "'many' is not a whole number of at least 0"),
        ("compare resnet18 --bitops 3G --candidates 2 4", "unrecognized arguments: --candidates 2 4"),
        ("explain", "the following arguments are required: model"),
        ("predict", "the following arguments are required: picture"),
        ("explain resnet18 --bitops 3G --plot bits.png", "unrecognized arguments: --plot bits.png"),
        ("predict a.jpg --bitops 3G", "one of the arguments --model --exported is required"),
        ("predict a.jpg --model resnet18 --weights float", "invalid choice: 'float'"),
        ("serve", "invalid choice: 'serve'"),
    ],
)
def test_a_wrong_use_exits_with_two_and_is_told_below_one_line_of_usage(limpq, arguments, message):
    code, out, err = limpq(*arguments.split())
    assert (code, out) == (2, "")
    usage, error = err.splitlines()
    assert usage.startswith("usage: limpq")
    assert message in error


@pytest.mark.parametrize("command", ["search", "frontier", "compare", "explain", "info", "predict"])
def test_a_damaged_entry_exits_with_five_and_names_the_file(limpq, entry_copy, picture, command):
    path = entry_copy / "indicators.json"
    path.write_text(path.read_text().replace('"alpha": 2.0', '"alpha": 3.0'))
    name = f"local-dir:{entry_copy}"
    arguments = {
        "search": ("search", name, "--bitops", "w3a3"),
        "frontier": ("frontier", name, "--points", 2),
        "compare": ("compare", name, "--bitops", "w3a3"),
        "explain": ("explain", name, "--bitops", "w3a3"),
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
        ("no_such_net", 2, "timm has no network 'no_such_net'; timm.list_models() names them"),
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


def test_a_pickle_that_is_not_there_is_told_before_torch_is_imported(run_python, tmp_path):
    arguments = ["import", str(tmp_path / "no.pkl"), "--model", "test_resnet", "--output", str(tmp_path / "out.json")]
    code = (
        f"import sys; from limpq_hub.cli import main; print(main({arguments}), {{'torch', 'timm'}} & set(sys.modules))"
    )
    result = run_python(code)
    assert "no.pkl" in result.stderr
    assert result.stdout == "3 set()\n"


@pytest.mark.parametrize("option", ["--input-size", "--num-classes"])
@pytest.mark.parametrize("value", ["0", "-3", "wide"])
def test_importing_at_a_size_that_cannot_be_is_refused(limpq, steps_pickle, tmp_path, option, value):
    arguments = ("--model", "test_resnet", "--output", tmp_path / "indicators.json", option, value)
    code, out, err = limpq("import", steps_pickle, *arguments)
    assert (code, out) == (2, "")
    assert option in err


def test_a_policy_that_cannot_be_written_is_refused_before_it_is_searched(limpq, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = limpq("search", "no_such", "--bitops", "w3a3", "--output", tmp_path / "file" / "policy.json")
    assert (code, out) == (2, "")
    assert "policy.json' cannot be written (Not a directory); name another file\n" in err


def test_an_interrupt_exits_as_shells_expect(limpq, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("limpq_hub.zoo.planning.search", interrupt)
    assert limpq("search", "resnet18", "--bitops", "3G") == (130, "", "limpq search: interrupted\n")


@pytest.mark.parametrize("command", ["search", "explain", "compare", "frontier"])
def test_more_time_is_advised_as_the_option_that_gives_it(limpq, tiny, command):
    budget = () if command == "frontier" else ("--bitops", "w3a3")
    code, _, err = limpq(command, tiny.name, *budget, "--time-limit", "1e-9")
    assert code == 2
    # A comparison takes no candidates.
    fewer = "" if command == "compare" else ", or use fewer candidates"
    assert err == f"limpq {command}: no proven optimum in time; raise --time-limit{fewer}\n"
