"""A comparison of policies, end to end on generated pictures: its content, and that nothing is measured twice."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_run import RUN

from limpq_hub import Budget, Indicators
from limpq_hub.errors import ArtifactFormatError, DataError, PolicyError, TrainingError
from limpq_hub.plan.policy import Policy
from limpq_hub.train import compare, finetune, publish, validate
from limpq_hub.train.loop.batches import RunLength
from limpq_hub.train.loop.folder import locked
from limpq_hub.train.loop.run_files import OPTIONS
from limpq_hub.train.measure import measured_policies as _measured_policies
from limpq_hub.train.measure import same_finetuning as _same_finetuning
from limpq_hub.train.measure import study as _study
from limpq_hub.train.measure.calibrated_network import calibrated_network
from limpq_hub.train.measure.evaluate import evaluate_each
from limpq_hub.train.measure.rank_correlations import rank_correlation
from limpq_hub.train.measure.same_finetuning import finetune_policy, finetuning_arguments, name_at_commit
from limpq_hub.train.settings import ComparisonSettings, DeviceSettings
from limpq_hub.train.weights.networks import float_network_of
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.planning import search

BUDGETS = {"w3a3": None, "60M": 60_000_000}
CONTENDERS = ["learned", "measured", "uniform filled", "uniform, best split", "random, seed 0", "reversed"]
OF_A_RUN = ("command", "date")


@dataclass(frozen=True)
class Compared:
    """One run of compare.py.

    Attributes:
        command: its options but --output.
        said: what stands beside its progress.
        evaluated: how often networks were measured, fine-tuning left out.
        started: command lines of the fine-tuning.
    """

    command: list[str]
    output: Path
    printed: str
    said: str
    evaluated: int
    started: list[list[str]]

    @property
    def result(self) -> dict:
        return json.loads((self.output / "comparison.json").read_text())


def run_here(commands: list[list[str]]):
    """Return what runs a script of fine-tuning in this process, in a second instead of ten."""

    def run_script(command: list[str]) -> int:
        python, module_flag, module, *options = command
        assert (python, module_flag, module) == (sys.executable, "-m", "limpq_hub.train.finetune")
        commands.append(options)
        finetune.main(options)
        return 0

    return run_script


def compared(command: list[str], output: Path, *, cut_at: int | None = None) -> Compared:
    """Run compare.py, and count; as if killed in place of measurement `cut_at`, from 0."""
    evaluated, started, printed, said = [], [], io.StringIO(), io.StringIO()

    def counted(*arguments, **options):
        if len(evaluated) == cut_at:
            raise KeyboardInterrupt
        evaluated.append(None)
        return evaluate_each(*arguments, **options)

    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
    ):
        patched.setattr(_measured_policies, "evaluate_each", counted)
        patched.setattr(_same_finetuning, "run_child", run_here(started))
        with contextlib.suppress(*([] if cut_at is None else [KeyboardInterrupt])):
            compare.main([*command, "--output", str(output)])
    return Compared(command, output, printed.getvalue(), said.getvalue(), len(evaluated), started)


@pytest.fixture(scope="module")
def tiny_command(runs, hard_data) -> list[str]:
    sizes = ["--steps", "2", "--random", "1", "--correlated", "4", "--correlate-every", "2", "--calibrate-images", "16"]
    return ["--model", f"local-dir:{runs}/joint", "--data", str(hard_data), *RUN, *sizes, "--bitops"]


def uncorrelated(command: list[str]) -> list[str]:
    """Return the tiny command without its random policies that are correlated."""
    at = command.index("--correlated")
    return [*command[:at], "--correlated", "0", *command[at + 4 :]]


@pytest.fixture(scope="module")
def whole(tiny_command, tmp_path_factory) -> Compared:
    return compared([*tiny_command, *BUDGETS], tmp_path_factory.mktemp("compared") / "out")


@pytest.fixture
def measured_before(whole, tmp_path) -> Path:
    """A folder where everything of the whole run is measured already."""
    (tmp_path / "out").mkdir()
    shutil.copy(whole.output / "measured.json", tmp_path / "out")
    shutil.copytree(whole.output / "of-images", tmp_path / "out/of-images")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def layers(runs) -> dict:
    return json.loads((runs / "joint/indicators.json").read_text())["layers"]


def bitops_of(layers: dict, policy: dict) -> int:
    return sum(layers[name]["macs"] * bits["weight"] * bits["activation"] for name, bits in policy.items())


def file_of(whole: Compared, row: dict) -> Path:
    """Return the file of a policy that was fine-tuned."""
    return whole.output / f"{row['policy_sha256'][:12]}-2.json"


def policy_of(whole: Compared, row: dict) -> dict:
    """Return the bits per layer that were fine-tuned, as the file of the policy holds them."""
    policy = Policy.from_json(json.loads(file_of(whole, row).read_text()))
    assert policy.digest() == row["policy_sha256"]
    return {name: {"weight": bits.weight, "activation": bits.activation} for name, bits in policy.layers.items()}


def ranks(values: list[float]) -> np.ndarray:
    """Return the place of each value, the mean place of equal ones."""
    given = np.array(values)
    return np.array([(given < value).sum() + ((given == value).sum() + 1) / 2 for value in given])


def test_all_contenders_are_compared_at_each_budget(whole):
    assert [(row["budget"], row["contender"]) for row in whole.result["comparison"]] == [
        (budget, contender) for budget in BUDGETS for contender in CONTENDERS
    ]


def test_what_is_said_of_a_policy_is_so_and_it_is_within_its_budget(whole, layers):
    searched = [name for name, layer in layers.items() if not layer["fixed"]]
    uniform = {name: layer["fixed"] or {"weight": 3, "activation": 3} for name, layer in layers.items()}
    for row in whole.result["comparison"]:
        policy = policy_of(whole, row)
        assert row["bitops"] == bitops_of(layers, policy)
        assert row["bitops"] <= (BUDGETS[row["budget"]] or bitops_of(layers, uniform)), row["contender"]
        for kind in ("weight", "activation"):
            mean = np.mean([policy[name][kind] for name in searched])
            assert row[f"mean_{kind}_bits"] == pytest.approx(mean, abs=5e-4)


def test_the_learned_policy_has_the_least_objective_and_random_ones_more(whole):
    for budget in BUDGETS:
        objectives = {
            row["contender"]: row["objective"] for row in whole.result["comparison"] if row["budget"] == budget
        }
        assert objectives["learned"] < objectives["random, seed 0"]
        assert objectives["learned"] < objectives["reversed"]


def test_the_uniform_contender_has_no_fewer_bits_than_the_largest_uniform_policy(whole, layers):
    rows = whole.result["comparison"]
    (row,) = (row for row in rows if (row["contender"], row["budget"]) == ("uniform filled", "w3a3"))
    policy = policy_of(whole, row)
    assert all(bits == (layers[name]["fixed"] or {"weight": 3, "activation": 3}) for name, bits in policy.items())


def test_both_stages_are_measured_on_all_images_with_standard_errors(whole):
    keys = {"top1", "top5", "images", "top1_standard_error", "kl", "kl_standard_error"}
    keys |= {"agreement", "agreement_standard_error"}
    for row in whole.result["comparison"]:
        for stage in ("joint", "finetuned"):
            assert row[stage].keys() == keys
            assert (row[stage]["images"], row[stage]["kl"] > 0) == (48, True)
        assert row["joint"] != row["finetuned"]
        folder = open_local_folder(whole.output / f"{row['policy_sha256'][:12]}-2", "checkpoint")
        assert "metrics.json" not in folder.files


def test_fine_tuning_is_the_same_for_all_but_the_policy(whole, tiny_command):
    own = {"--policy", "--output"}
    settings = []
    for command in whole.started:
        tuning = finetune.parse_options(command)
        assert (tuning.training.schedule.max_steps, tuning.data.batch_size) == (2, 8)
        assert tuning.training.run.resume is False  # nothing was there to resume
        assert tuning.constraints == {"policy": tuning.training.run.output.with_suffix(".json")}
        settings.append([word for word, before in zip(command, ["", *command], strict=False) if before not in own])
    assert all(setting == settings[0] for setting in settings)


def test_policies_are_measured_as_validate_measures_them(whole, runs, hard_data, capsys):
    row = whole.result["comparison"][0]
    entry = ["--model", f"local-dir:{runs}/joint", "--policy", str(file_of(whole, row))]
    measured = ["--weights", "joint", "--calibrate-images", "16", "--data", str(hard_data), *RUN]
    validate.main([*entry, *measured])
    printed = json.loads(capsys.readouterr().out)
    assert (printed["top1"], printed["top5"]) == (row["joint"]["top1"], row["joint"]["top5"])


@pytest.mark.parametrize("name", ["at w3a3", "over all budgets"])
@pytest.mark.parametrize("key", ["kl", "top1"])
def test_correlations_are_those_of_the_ranks(whole, name, key):
    found = whole.result["correlation"][name]
    objectives, figures = ([point[what] for point in found["points"]] for what in ("objective", key))
    assert len(set(objectives)) == len(found["points"]) == 4
    assert len(set(figures)) > 1
    assert found[key] == pytest.approx(np.corrcoef(ranks(objectives), ranks(figures))[0, 1], abs=1e-4)


def test_random_policies_fit_one_budget_or_spread_over_all_measured_on_the_images_asked_for(whole, layers):
    at_one, over_all = (whole.result["correlation"][name]["points"] for name in ("at w3a3", "over all budgets"))
    least, most, limit = (
        bitops_of(layers, {n: layer["fixed"] or {"weight": bits, "activation": bits} for n, layer in layers.items()})
        for bits in (2, 6, 3)
    )
    assert all(point["bitops"] <= limit for point in at_one)
    limits = [least + (most - least) * share for share in (0.2, 0.4, 0.6, 0.8)]
    assert all(point["bitops"] <= limit for point, limit in zip(over_all, limits, strict=True))
    bitops = [point["bitops"] for point in over_all]
    assert bitops == sorted(set(bitops))
    assert len({point["policy_sha256"] for point in (*at_one, *over_all)}) == 8
    assert {point["images"] for point in (*at_one, *over_all)} == {24}


@pytest.mark.parametrize(("over", "name"), [("budget", "at w3a3"), ("range", "over all budgets")])
def test_correlations_are_of_the_policies_that_were_asked_for(whole, tiny_command, measured_before, over, name):
    found = compared([*tiny_command, *BUDGETS, "--correlate-over", over], measured_before)
    assert found.result["correlation"] == {name: whole.result["correlation"][name]}
    assert found.evaluated == 0


def test_the_result_says_how_it_came_about(whole, runs):
    result = whole.result
    assert (result["format"], result["model"], result["seed"]) == (1, "local-dir:joint", 0)
    assert {*OF_A_RUN, "device", "versions", "data"} <= result.keys()
    assert result["data"]["validation_images"] == 48


@pytest.mark.parametrize("name", ["comparison.png", "correlation.png"])
def test_the_pictures_open(whole, name):
    with Image.open(whole.output / name) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def test_the_table_has_a_line_per_row_with_its_figures(whole):
    table, _, _ = whole.printed[whole.printed.index("| budget |") :].partition("\n\n")
    lines = table.splitlines()
    assert len(lines) == 2 + len(whole.result["comparison"])
    for line, row in zip(lines[2:], whole.result["comparison"], strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == lines[0].count("|") - 1 == lines[1].count("|") - 1 == 8
        assert cells[:2] == [row["budget"], row["contender"]]
        for place, stage in ((4, "joint"), (6, "finetuned")):
            figures = row[stage]
            assert cells[place] == f"{figures['top1']:.2f} ± {figures['top1_standard_error']:.2f}"
            assert cells[place + 1] == f"{figures['kl']:.4f} ± {figures['kl_standard_error']:.4f}"


def of_images(whole: Compared, stage: str, row: dict) -> dict:
    name = f"{stage}-2" if stage == "finetuned" else stage
    return load_file(whole.output / f"of-images/{name}-{row['policy_sha256'][:16]}.safetensors")


@pytest.mark.parametrize("stage", ["joint", "finetuned"])
def test_each_policy_is_compared_with_the_learned_one_on_the_same_images(whole, stage):
    for budget in BUDGETS:
        learned, *others = (row for row in whole.result["comparison"] if row["budget"] == budget)
        assert (learned["contender"], "paired" in learned) == ("learned", False)
        first = of_images(whole, stage, learned)
        assert len(first["kl"]) == 48
        assert float(100 * first["right"].double().mean()) == pytest.approx(learned[stage]["top1"], abs=1e-4)
        for row in others:
            own, difference = of_images(whole, stage, row), row["paired"][stage]
            kl = (own["kl"].double() - first["kl"].double()).numpy()
            assert difference["kl"] == pytest.approx(row[stage]["kl"] - learned[stage]["kl"], abs=2e-6)
            assert difference["kl_standard_error"] == pytest.approx(np.std(kl, ddof=1) / 48**0.5, abs=2e-6)
            assert difference["right"] == pytest.approx(row[stage]["top1"] - learned[stage]["top1"], abs=2e-4)
            sure = abs(difference["kl"]) > 2 * difference["kl_standard_error"]
            assert difference["verdict"] == (["ahead", "behind"][difference["kl"] > 0] if sure else "level")


def test_the_second_table_has_a_verdict_for_each_but_the_first_of_a_budget(whole):
    _, _, table = whole.printed[whole.printed.index("| budget |") :].partition("\n\n")
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = [row for row in whole.result["comparison"] if "paired" in row]
    assert "joint: KL above learned's, nats" in lines[0]
    for line, row in zip(lines[2:], rows, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:2] == [row["budget"], row["contender"]]
        for place, stage in ((2, "joint"), (5, "finetuned")):
            difference = row["paired"][stage]
            assert cells[place] == f"{difference['kl']:+.4f} ± {difference['kl_standard_error']:.4f}"
            assert cells[place + 2] == difference["verdict"]


def test_correlations_are_printed(whole):
    for name, found in whole.result["correlation"].items():
        line = f"{name}: Spearman of the objective with KL {found['kl']:.2f}, with top-1 {found['top1']:.2f}"
        assert line in whole.printed.splitlines()


def test_each_policy_is_measured_once_per_stage_and_set_of_images(whole):
    rows, correlations = whole.result["comparison"], whole.result["correlation"]
    compared_policies = {row["policy_sha256"] for row in rows}
    drawn = {point["policy_sha256"] for found in correlations.values() for point in found["points"]}
    assert whole.evaluated == 2 * len(compared_policies) + len(drawn)
    assert len(whole.started) == len(compared_policies)


def test_what_there_is_to_do_is_said_before_it_is_done(whole, tiny_command, measured_before):
    count = len({row["policy_sha256"] for row in whole.result["comparison"]})
    announced = "{} policies to measure, {} of them to fine-tune for 2 steps each"
    assert announced.format(count, count) in whole.said.splitlines()
    again = compared([*tiny_command, *BUDGETS], measured_before)
    assert announced.format(count, 0) in again.said.splitlines()


def test_the_same_command_again_measures_nothing_and_gives_the_same(whole, tmp_path):
    shutil.copytree(whole.output, tmp_path / "out")
    again = compared(whole.command, tmp_path / "out")
    assert (again.evaluated, again.started) == (0, [])
    for key in ("comparison", "correlation", "data"):
        assert again.result[key] == whole.result[key]
    # The bars of fine-tuning come first.
    shown = whole.printed[whole.printed.index("| budget |") :]
    assert again.printed == shown.replace(str(whole.output), str(again.output))


@pytest.mark.parametrize(
    "contenders", [["learned", "uniform filled"], pytest.param(CONTENDERS, marks=pytest.mark.slow)]
)
def test_a_run_cut_off_in_the_middle_goes_on(whole, tiny_command, tmp_path, contenders):
    command, cut_at = [*tiny_command, "w3a3", "--contenders", *contenders], 3
    cut = compared(command, tmp_path / "out", cut_at=cut_at)
    assert cut.evaluated == cut_at
    assert not (tmp_path / "out/comparison.json").exists()
    figures = json.loads((tmp_path / "out/measured.json").read_text())["figures"]
    assert len([key for key in figures if not key.startswith("choice ")]) == cut_at
    rest = compared(command, tmp_path / "out")
    rows = [row for row in whole.result["comparison"] if row["budget"] == "w3a3"]
    expected = [row for row in rows if row["contender"] in contenders]
    assert rest.result["comparison"] == expected
    assert rest.result["correlation"] == whole.result["correlation"]
    policies = {row["policy_sha256"] for row in expected}
    drawn = {point["policy_sha256"] for found in rest.result["correlation"].values() for point in found["points"]}
    assert rest.evaluated == 2 * len(policies) + len(drawn) - cut_at
    # What was fine-tuned and not yet measured is resumed at its end.
    tuned = Counter(options[options.index("--policy") + 1] for options in (*cut.started, *rest.started))
    assert sorted(tuned.values()) == [1] * (len(policies) - 1) + [2]


def test_without_steps_and_correlations_only_the_joint_weights_are_measured(whole, tiny_command, tmp_path):
    command = [*uncorrelated(tiny_command), "w3a3", "--steps", "0"]
    found = compared(command, tmp_path / "out")
    rows = [row for row in whole.result["comparison"] if row["budget"] == "w3a3"]
    expected = [{key: value for key, value in row.items() if key != "finetuned"} for row in rows]
    for row in expected[1:]:
        row["paired"] = {"joint": row["paired"]["joint"]}
    assert found.result["comparison"] == expected
    assert (found.result["correlation"], found.started) == ({}, [])
    tables = [line for line in found.printed.splitlines() if line.startswith("| w3a3")]
    assert len(tables) == len(CONTENDERS) + len(CONTENDERS) - 1
    assert all(line.endswith("| - | - |") for line in tables)
    assert not (tmp_path / "out/correlation.png").exists()
    with Image.open(tmp_path / "out/comparison.png") as picture:
        picture.load()


def finetuning(command: list[str], output: Path) -> tuple[ComparisonSettings, list[str]]:
    """Return the settings of a comparison, and the words that it would give to fine-tuning."""
    settings = compare.parse_options([*command, "--output", str(output)])
    dash_m, module, *words = finetuning_arguments(settings, settings.model, output / "folder.json", output / "folder")
    assert (dash_m, module) == ("-m", "limpq_hub.train.finetune")
    return settings, words


def test_what_fine_tuning_would_refuse_is_refused_before_anything_is_measured(tiny_command, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("indicators:\n  epochs: 1\n")
    command = [*tiny_command, "w3a3", "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        compare.main([*command, "--recipe", str(tmp_path / "recipe.yaml")])
    assert not (tmp_path / "out").exists()
    assert f"--recipe {tmp_path}/recipe.yaml has no section 'finetune'; its sections: indicators" in (
        capsys.readouterr().err
    )
    with pytest.raises(DataError, match="less than one batch of 60000; use a smaller --batch-size"):
        compare.main([*command, "--batch-size", "60000"])
    (tmp_path / "recipe.yaml").write_text("finetune:\n  gradient-accumulation: 1000\n")
    with pytest.raises(DataError, match="do not fill one step of 8000; use a smaller --batch-size, or --gradient-acc"):
        compare.main([*command, "--recipe", str(tmp_path / "recipe.yaml")])
    assert not (tmp_path / "out/measured.json").exists()


@pytest.mark.parametrize(("code", "again"), [(3, "see what it says above, then run"), (75, "run"), (-9, "run")])
def test_a_fine_tuning_starts_from_the_entry_that_was_found_and_says_how_to_go_on(
    tiny_command, runs, tmp_path, monkeypatch, code, again
):
    settings = compare.parse_options([*tiny_command, "w3a3", "--output", str(tmp_path)])
    entry, started = find_entry(f"local-dir:{runs}/joint"), []

    def ended(command):
        started.append(command)
        return code

    monkeypatch.setattr(_same_finetuning, "run_child", ended)
    found = replace(entry, name="hf-hub:you/net", source="hub", revision="c" * 40)
    with pytest.raises(TrainingError, match=f" ended with exit code {code}; {again} the same command again$"):
        finetune_policy(settings, found, entry.indicators.most_bits())
    [command] = started
    assert command[command.index("--model") + 1] == f"hf-hub:you/net@{'c' * 40}"


def test_an_entry_of_the_hub_is_named_with_its_commit():
    of_branch, of_main = (Entry(name, None, "hub", "c" * 40) for name in ("hf-hub:you/net@v1", "hf-hub:you/net"))
    assert name_at_commit(of_branch) == name_at_commit(of_main) == f"hf-hub:you/net@{'c' * 40}"
    assert name_at_commit(Entry("local-dir:out/a@b", None, "local")) == "local-dir:out/a@b"


def test_only_a_fine_tuning_that_was_begun_is_resumed(tiny_command, tmp_path):
    output = tmp_path / "out"
    assert "--resume" not in finetuning([*tiny_command, "w3a3"], output)[1]
    (output / "folder").mkdir(parents=True)
    (output / "folder" / OPTIONS).write_text("{}")
    assert "--resume" in finetuning([*tiny_command, "w3a3"], output)[1]


def test_a_fine_tuning_has_the_steps_that_it_is_named_after(tiny_command, tmp_path):
    typed = [*tiny_command, "w3a3", "--steps", "2000", "--recipe", "zoo-resnet18-tiny-imagenet"]
    schedule = finetune.parse_options(finetuning(typed, tmp_path / "out")[1]).training.schedule
    # The recipe says one epoch; of few pictures each epoch may be a single step.
    assert RunLength.of(8, 8, schedule, processes=1).steps == 2000


def test_what_is_typed_of_how_to_compute_wins_over_the_recipe_of_the_fine_tuning(tiny_command, tmp_path):
    (tmp_path / "mine.yaml").write_text("finetune:\n  channels-last: true\n")
    command = [*tiny_command, "w3a3", "--recipe", f"{tmp_path}/mine.yaml"]
    assert finetune.parse_options(finetuning(command, tmp_path / "out")[1]).training.device.channels_last
    _, words = finetuning([*command, "--no-channels-last"], tmp_path / "out")
    assert not finetune.parse_options(words).training.device.channels_last


def test_each_policy_is_told_in_words_once_it_is_measured(whole):
    for row in whole.result["comparison"]:
        stages = [
            f"{stage}: top-1 {row[stage]['top1']:.2f} %, KL {row[stage]['kl']:.4f} nats"
            for stage in ("joint", "finetuned")
        ]
        assert f"\n{row['budget']} {row['contender']}: {'; '.join(stages)}\n" in f"\n{whole.said}"


@pytest.mark.slow
def test_fine_tuning_runs_as_a_script_of_its_own(tiny_command, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    settings = compare.parse_options([*tiny_command, "w3a3", "--output", str(tmp_path / "out")])
    study = _study.Study(settings, {}, finetuning=None)
    row = whole.result["comparison"][0]
    policy = search(study.indicators, bitops="w3a3").policy
    assert policy.digest() == row["policy_sha256"]
    assert study.measured.finetuned(policy) == pytest.approx(row["finetuned"], rel=1e-3)


@pytest.mark.parametrize(
    ("precision", "device"),
    [
        (["--float64"], DeviceSettings(1, float64=True, channels_last=True)),
        (["--mixed-precision", "bf16"], DeviceSettings(1, "bf16", channels_last=True)),
    ],
)
def test_fine_tuning_reads_the_data_that_the_comparison_reads(
    tiny_command, runs, hard_data, tmp_path, precision, device
):
    weights = f"{runs}/float/model.safetensors"
    given = ["--train-split", "val", "--val-split", "train", "--cache-images", "--seed", "5"]
    given += ["--weights", weights, "--channels-last", "--threads", "1", *precision]
    compared, words = finetuning([*tiny_command, "w3a3", *given], tmp_path / "out")
    tuning = finetune.parse_options(words)
    assert (tuning.data, tuning.training.device) == (compared.data, compared.device)
    assert (tuning.model, tuning.weights) == (compared.model, weights)
    assert (tuning.data.data, tuning.data.val_split) == (str(hard_data), "train")
    assert tuning.training.device == device


def test_fine_tuning_reads_the_usual_splits_of_the_comparison_whatever_a_recipe_says(tiny_command, tmp_path):
    (tmp_path / "recipe.yaml").write_text("finetune:\n  train-split: other\n")
    _, words = finetuning([*tiny_command, "w3a3", "--recipe", f"{tmp_path}/recipe.yaml"], tmp_path / "out")
    assert finetune.parse_options(words).data.train_split == "train"


def test_a_recipe_is_handed_to_fine_tuning_and_wins_where_nothing_was_said(tiny_command, tmp_path):
    _, words = finetuning([*tiny_command, "w3a3", "--recipe", "zoo-resnet18-tiny-imagenet"], tmp_path / "out")
    assert words[words.index("--recipe") + 1] == "zoo-resnet18-tiny-imagenet"
    assert "--mixed-precision" not in words


def test_a_figure_that_does_not_vary_correlates_with_nothing():
    points = [{"objective": value, "kl": value, "top1": 100.0} for value in (0.5, 0.1, 0.3)]
    assert rank_correlation(points, "top1") == 0.0
    assert rank_correlation(points, "kl") == 1.0
    assert rank_correlation(points[:1], "kl") == 0.0


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--seed", "1"], "seed"), (["--calibrate-images", "8", "--channels-last"], "calibrate_images, channels_last")],
)
def test_figures_of_other_options_are_not_taken(whole, tmp_path, options, named):
    shutil.copytree(whole.output, tmp_path / "out")
    with pytest.raises(TrainingError) as caught:
        compared([*whole.command, *options], tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path}/out/measured.json was measured with different {named}; choose another --output"
    )


@pytest.mark.parametrize("key", ["supernet.safetensors", "validation pictures", "training pictures"])
def test_figures_of_another_training_or_other_pictures_are_not_taken(whole, tmp_path, key):
    shutil.copytree(whole.output, tmp_path / "out")
    path = tmp_path / "out/measured.json"
    content = json.loads(path.read_text())
    assert len(content["settings"][key]) == 64
    content["settings"][key] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match=f"was measured with different {key}; choose another --output"):
        compared(whole.command, tmp_path / "out")


def test_figures_beside_other_weights_of_the_hub_are_not_taken(whole, tmp_path, monkeypatch):
    shutil.copytree(whole.output, tmp_path / "out")

    def fetched(option, name, network):
        assert (option, name) == ("weights", None)  # the command names none
        return {"weights fetched": "0" * 64}

    monkeypatch.setattr(_measured_policies, "fetched_content", fetched)
    with pytest.raises(TrainingError, match=r"was measured with different weights fetched; choose another --output"):
        compared(whole.command, tmp_path / "out")


@pytest.mark.parametrize("option", ["weights", "teacher"])
def test_figures_of_another_network_that_the_recipe_names_are_not_taken(tiny_command, runs, tmp_path, option):
    shutil.copytree(runs / "float", tmp_path / "float")
    weights = tmp_path / "float/model.safetensors"
    words = [f"{option}: local-dir:{tmp_path}/float", "distill: 0.5", "from: float", "step-start: least-error"]
    (tmp_path / "recipe.yaml").write_text("finetune:\n" + "".join(f"  {word}\n" for word in words))
    command = [*uncorrelated(tiny_command), "w3a3", "--contenders", "learned", "--random", "0", "--steps", "1"]
    command += ["--recipe", f"{tmp_path}/recipe.yaml"]
    first = compared(command, tmp_path / "out")
    assert (first.evaluated, len(first.started)) == (2, 1)
    again = compared(command, tmp_path / "out")
    assert (again.evaluated, len(again.started)) == (0, 0)
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(TrainingError, match=f"was measured with different {option} of the fine-tuning; choose another"):
        compared(command, tmp_path / "out")


def test_a_file_of_figures_without_settings_is_refused(whole, tmp_path):
    shutil.copytree(whole.output, tmp_path / "out")
    path = tmp_path / "out/measured.json"
    path.write_text('{"format": 1, "figures": {}}')
    with pytest.raises(ArtifactFormatError) as caught:
        compared(whole.command, tmp_path / "out")
    assert str(caught.value) == f"{path}: settings is missing"


def test_the_entry_is_not_changed(whole, runs):
    entry = find_entry(f"local-dir:{runs}/joint")
    assert all(entry.folder.read(file) for file in entry.folder.files)


CRITERIA = ["learned", "kl-float:equal", "error+kl-joint@3", "hessian", "gradient"]


@pytest.fixture(scope="module")
def by_criteria(tiny_command, runs, tmp_path_factory) -> Compared:
    # That entry holds its float network.
    command = [*tiny_command, "w3a3", "--steps", "0", "--criteria", *CRITERIA, "--criterion-images", "8"]
    return compared(command, tmp_path_factory.mktemp("criteria") / "out")


def test_policies_of_other_criteria_are_compared_too_each_measured_once(by_criteria, tmp_path):
    contenders = [row["contender"] for row in by_criteria.result["comparison"]]
    assert contenders == [*CONTENDERS[:2], *CRITERIA[1:], *CONTENDERS[2:]]
    rows = {row["contender"]: row for row in by_criteria.result["comparison"]}
    assert len({row["policy_sha256"] for row in rows.values()}) > 4
    figures = json.loads((by_criteria.output / "measured.json").read_text())["figures"]
    tables = {key for key in figures if key.startswith("criterion ")}
    # Not that of the learned steps: it needs no images, and another alpha of the entry makes it another.
    names = ("kl-float", "error", "kl-joint@3", "hessian", "gradient")
    assert tables == {f"criterion 8 {name}" for name in names}
    shutil.copytree(by_criteria.output, tmp_path / "out")
    again = compared(by_criteria.command, tmp_path / "out")
    assert (again.evaluated, again.result["comparison"]) == (0, by_criteria.result["comparison"])


def test_measured_pairs_are_kept_as_indicators_that_an_entry_can_be_published_with(by_criteria, runs, tmp_path):
    assert [path.name for path in by_criteria.output.glob("kl-*.json")] == ["kl-float-equal.json"]
    measured = Indicators.load(by_criteria.output / "kl-float-equal.json")
    rows = {row["contender"]: row for row in by_criteria.result["comparison"]}
    assert search(measured, bitops="w3a3").policy.digest() == rows["kl-float:equal"]["policy_sha256"]
    how = measured.provenance["divergences"]
    assert (how["criterion"], how["images"]) == ("kl-float:equal", 8)
    assert how["command"] == by_criteria.result["command"]
    words = ["--joint", f"{runs}/joint", "--indicators", f"{by_criteria.output}/kl-float-equal.json"]
    publish.main([*words, "--output", f"{tmp_path}/entry"])
    assert find_entry(f"local-dir:{tmp_path}/entry").indicators == measured


def test_each_criterion_has_its_own_correlation(by_criteria):
    for name, found in by_criteria.result["correlation"].items():
        assert list(found["criteria"]) == CRITERIA
        for criterion, ranks_of in found["criteria"].items():
            assert -1 <= ranks_of["kl"] <= 1
            assert f"{name}: {criterion} with KL {ranks_of['kl']:.2f}" in by_criteria.printed
        # The learned steps of this entry are no outliers, so both sums are the objective.
        assert found["criteria"]["learned"]["kl"] == found["kl"]


def test_what_is_kept_says_how_many_images_there_were(tiny_command, hard_data, tmp_path):
    command = [*uncorrelated(tiny_command), "w3a3", "--steps", "0", "--criteria", "kl-float", "--contenders", "learned"]
    compare.main([*command, "--criterion-images", "10000", "--output", str(tmp_path / "out")])
    how = Indicators.load(tmp_path / "out/kl-float.json").provenance["divergences"]
    assert how["images"] == len(list(hard_data.glob("train/**/*.png")))


def test_a_folder_that_another_comparison_writes_into_is_refused(tiny_command, tmp_path):
    with (
        locked(tmp_path / "out"),
        pytest.raises(TrainingError, match="is in use by process .*; wait for it, or choose"),
    ):
        compare.main([*tiny_command, "w3a3", "--output", str(tmp_path / "out")])


def test_what_another_version_measured_is_not_taken(tiny_command, measured_before):
    path = measured_before / "measured.json"
    content = json.loads(path.read_text())
    content["settings"]["versions"]["torch"] = "2.0.0"
    path.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match="measured.json was measured with different versions; choose another --out"):
        compare.main([*tiny_command, *BUDGETS, "--output", str(measured_before)])


def test_a_criterion_that_is_not_there_is_refused_before_anything_is_read(tmp_path):
    words = ["--model", "resnet18", "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]
    with pytest.raises(
        TrainingError, match="criterion 'felt' is not known: use learned, coupled, kl-float, kl-joint, "
    ):
        compare.main([*words, "--criteria", "learned+felt"])


def test_policies_are_set_beside_that_of_the_importance_that_is_asked_for(tiny_command, runs, tmp_path, whole):
    command = [*uncorrelated(tiny_command), "w3a3", "--steps", "0", "--importance", "coupled"]
    options = ["--contenders", "coupled", "learned", "coupled:near", "--criteria", "coupled:near"]
    first, learned, near = compared([*command, *options], tmp_path / "out").result["comparison"]
    assert [row["contender"] for row in (first, learned, near)] == ["coupled", "learned", "coupled:near"]
    assert "paired" not in first
    indicators = find_entry(f"local-dir:{runs}/joint").indicators
    for row, apart in ((first, None), (near, 1)):
        found = search(indicators, bitops="w3a3", importance="coupled", apart=apart).policy
        assert row["policy_sha256"] == found.digest()
    of_whole, *_ = whole.result["comparison"]
    assert (learned["policy_sha256"], learned["joint"]) == (of_whole["policy_sha256"], of_whole["joint"])


TWO = ["--contenders", "learned", "uniform filled", "--steps", "0"]


@pytest.fixture(scope="module")
def without_training(tiny_command, tmp_path_factory) -> Compared:
    command = [*uncorrelated(tiny_command), "w3a3", "w6a6", *TWO, "--calibrated"]
    return compared(command, tmp_path_factory.mktemp("calibrated") / "out")


def test_only_the_contenders_that_are_named_are_measured(without_training, whole):
    rows = without_training.result["comparison"]
    assert [(row["budget"], row["contender"]) for row in rows] == [
        (budget, contender) for budget in ("w3a3", "w6a6") for contender in ("learned", "uniform filled")
    ]
    of_whole = {row["contender"]: row["joint"] for row in whole.result["comparison"] if row["budget"] == "w3a3"}
    assert {row["contender"]: row["joint"] for row in rows[:2]} == {name: of_whole[name] for name in TWO[1:3]}
    choices = json.loads((without_training.output / "measured.json").read_text())["figures"]
    assert not [key for key in choices if key.startswith("choice ")]  # of the best split, minutes


def file_at(whole: Compared, budget: str, contender: str) -> Path:
    """Return the file of the policy of a row."""
    rows = whole.result["comparison"]
    return file_of(whole, next(row for row in rows if (row["budget"], row["contender"]) == (budget, contender)))


def test_a_policy_of_a_file_is_set_beside_the_others_as_if_it_had_been_chosen_here(
    whole, tiny_command, measured_before
):
    drawn, mine = file_at(whole, "60M", "random, seed 0"), file_at(whole, "w3a3", "reversed")
    given = ["--policies", f"a colleague@home={drawn}", "--policies", f"mine={mine}"]
    command = [*uncorrelated(tiny_command), "60M", *given, "--contenders", "learned", "a colleague@home", "mine"]
    found = compared(command, measured_before)
    assert (found.evaluated, found.started) == (0, [])
    rows = found.result["comparison"]
    assert [row["contender"] for row in rows] == ["learned", "a colleague@home", "mine"]
    of_whole = {(row["budget"], row["contender"]): row for row in whole.result["comparison"]}
    assert rows[1] == {**of_whole["60M", "random, seed 0"], "contender": "a colleague@home"}
    assert rows[2]["finetuned"] == of_whole["w3a3", "reversed"]["finetuned"]
    assert f"--policies 'a colleague@home={drawn.name}' --policies mine={mine.name}" in found.result["command"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["FILE"], "is not NAME=FILE, for example mine=out/policy.json"),
        (["mine="], "is not NAME=FILE"),
        (["=FILE"], "is not NAME=FILE"),
        (["a|b=FILE"], "a name has letters, digits, spaces and"),
        (["costs $2, no $3=FILE"], "a name has letters, digits, spaces and"),
        (["a\nb=FILE"], "a name has letters, digits, spaces and"),
        (["mine=FILE", "mine=FILE"], "another is called 'mine': choose another name"),
    ],
)
def test_a_name_of_a_policy_that_cannot_be_is_refused_before_anything_is_read(tmp_path, words, says):
    command = ["--model", "local-dir:nowhere", "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]
    with pytest.raises(TrainingError, match=says):
        compare.main([*command, "--policies", *words])


def test_a_policy_of_a_file_is_refused_before_anything_is_measured(whole, tiny_command, tmp_path):
    path = file_at(whole, "w3a3", "uniform filled")
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**json.loads(path.read_text()), "model": "resnet50"}))

    def refused(words: list[str], *options: str, budgets: Sequence[str] = ("w3a3",)) -> str:
        with pytest.raises((TrainingError, PolicyError)) as caught:
            compared([*uncorrelated(tiny_command), *budgets, *options, "--policies", *words], tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    assert refused([f"reversed={path}"]).endswith("'reversed' is what another policy is called: choose another name")
    assert "'mine' is not among --contenders" in refused([f"mine={path}"], "--contenders", "learned")
    assert "--contenders 'mime' is none of 'learned'" in refused([f"mine={path}"], "--contenders", "mime")
    for wrong in (other, tmp_path / "none.json"):
        assert refused([f"mine={path}", f"yours={wrong}"]).startswith(f"--policies 'yours={wrong}': the")
    said = refused([f"mine={path}"], budgets=["w3a3", "w2a2"])
    found = re.search(r"it has ([0-9,]+) BitOps, and --bitops w2a2 allows ([0-9,]+): .* --bitops ([0-9.]+[MG])$", said)
    has, allowed = (int(number.replace(",", "")) for number in found.groups()[:2])
    assert allowed < has <= Budget(bitops=found[3]).bitops < 1.001 * has


def test_each_policy_is_measured_without_training_and_listed_first(without_training):
    low, _, high, _ = without_training.result["comparison"]
    # Six bits without training are nearer to the float network than three bits are.
    assert 0 < high["calibrated"]["kl"] < low["calibrated"]["kl"]
    assert low["calibrated"] != low["joint"]
    header, _, *lines = without_training.printed[without_training.printed.index("| budget |") :].splitlines()
    assert [cell.strip() for cell in header.split("|")][5:9:2] == ["without training: top-1, %", "joint: top-1, %"]
    assert lines[0].split("|")[5].strip().startswith(f"{low['calibrated']['top1']:.2f} ±")
    paired = without_training.result["comparison"][1]["paired"]
    assert set(paired) == {"calibrated", "joint"}


def test_a_network_without_training_has_the_weights_of_the_float_network(runs, hard_data):
    entry = find_entry(f"local-dir:{runs}/joint")
    network = float_network_of(entry, None)
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    images = torch.randn(24, *spec.input_shape, generator=torch.Generator().manual_seed(0))
    indicators = entry.indicators
    policy = Policy.uniform(indicators.model, indicators.costs, 6, 6)
    quantized = calibrated_network(network, policy, indicators, [images])
    weights, own = dict(network.named_parameters()), dict(quantized.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in weights.items())
    with torch.no_grad():
        outputs, expected = quantized(images), network(images)
    assert (outputs - expected).std() < 0.1 * expected.std()


def test_statistics_that_joint_training_kept_are_kept(tiny_command, tmp_path, monkeypatch):
    def settings_and_rows(name: str, *options: str) -> tuple[int, list]:
        words = [word for word in uncorrelated(tiny_command) if word not in ("--calibrate-images", "16")]
        ran = compared([*words, "w3a3", *TWO, *options], tmp_path / name)
        content = json.loads((tmp_path / name / "measured.json").read_text())
        return content["settings"]["calibrate_images"], ran.result["comparison"]

    count, recalibrated = settings_and_rows("recalibrated")
    assert count == 1000
    monkeypatch.setattr(_measured_policies, "statistics_of_entry", lambda folder: "kept")
    count, kept = settings_and_rows("kept")
    assert count == 0
    assert kept[0]["joint"] != recalibrated[0]["joint"]
    assert settings_and_rows("none", "--calibrate-images", "0") == (0, kept)


def test_a_contender_that_is_not_there_is_refused_before_anything_is_measured(tiny_command, tmp_path):
    with pytest.raises(TrainingError) as caught:
        compared([*tiny_command, "w3a3", "--contenders", "learned", "uniform"], tmp_path / "out")
    assert str(caught.value) == (
        "--contenders 'uniform' is none of 'learned', 'measured', 'uniform filled', 'uniform, best split', "
        "'random, seed 0', 'reversed'"
    )
