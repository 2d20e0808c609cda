"""The front: budgets over the whole range, and at each of them what validate.py measures."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from tiny_run import FRONT, RUN

import limpq_hub
from limpq_hub.errors import ArtifactIntegrityError, HubUnavailableError, TrainingError
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.train import compare, front, validate
from limpq_hub.train.measure import joint_front, reference
from limpq_hub.train.measure.joint_front import budgets
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import seal_entry
from limpq_hub.zoo.network import NetworkSpec

RANGE = {"minimum_bitops": 100, "maximum_bitops": 8100}


def test_budgets_go_from_the_least_to_the_most_in_equal_ratios():
    assert budgets(RANGE, 5) == [100, 300, 900, 2700, 8100]
    assert budgets(RANGE, 3) == [100, 900, 8100]


def test_the_ends_of_the_range_are_exact_where_a_float_is_not():
    least, most = 123_456_789_012_345_679, 987_654_321_098_765_433
    assert int(float(least)) != least
    found = budgets({"minimum_bitops": least, "maximum_bitops": most}, 4)
    assert (found[0], found[-1]) == (least, most)
    assert found[1] / found[0] == pytest.approx(2, rel=1e-6)
    assert found[2] / found[1] == pytest.approx(2, rel=1e-6)


def test_a_few_budgets_are_the_most_and_then_both_ends():
    assert budgets(RANGE, 1) == [8100]
    assert budgets(RANGE, 2) == [100, 8100]


def test_the_front_has_two_records_per_budget_in_the_order_asked_for(runs):
    content = json.loads((runs / "front.json").read_text())
    assert (content["format"], content["model"]) == (1, "local-dir:joint")
    assert {"command", "seed", "device", "seconds", "date", "versions", "data"} <= content.keys()
    records = content["joint"]
    assert [record["calibration_images"] for record in records] == [0, 16] * len(FRONT)
    assert [record["bitops"] for record in records[::2]] == [record["bitops"] for record in records[1::2]]
    plans = [limpq_hub.search(f"local-dir:{runs}/joint", bitops=budget) for budget in FRONT]
    assert [record["bitops"] for record in records[::2]] == [plan.bitops for plan in plans]
    assert [record["policy_sha256"] for record in records[1::2]] == [plan.policy.digest() for plan in plans]
    bitops = [record["bitops"] for record in records[::2]]
    assert bitops == sorted(set(bitops))


def test_a_policy_that_is_the_best_at_several_budgets_has_its_records_once(runs, hard_data, tmp_path):
    options = ["--bitops", "w3a3", "w3a3", "w6a6", "1000G", *RUN, "--data", str(hard_data), "--calibrate-images", "16"]
    front.main(["--model", f"local-dir:{runs}/joint", *options, "--output", str(tmp_path / "front.json")])
    records = json.loads((tmp_path / "front.json").read_text())["joint"]
    plans = [limpq_hub.search(f"local-dir:{runs}/joint", bitops=budget) for budget in ("w3a3", "1000G")]
    policies = [record["policy_sha256"] for record in records if record["calibration_images"] == 0]
    assert policies == [plan.policy.digest() for plan in plans]
    assert len(records) == 2 * len(policies)


@pytest.mark.parametrize("place", range(len(FRONT)))
@pytest.mark.parametrize("images", [0, 16])
def test_the_front_says_what_validate_measures_at_the_same_budget(runs, hard_data, capsys, place, images):
    validated = ["--model", f"local-dir:{runs}/joint", "--bitops", FRONT[place], "--weights", "joint"]
    validate.main([*validated, "--data", str(hard_data), *RUN, "--calibrate-images", str(images)])
    printed = json.loads(capsys.readouterr().out)
    record = json.loads((runs / "front.json").read_text())["joint"][2 * place + bool(images)]
    assert {key: printed[key] for key in record} == record


def test_a_validation_says_on_how_many_images_it_recalibrated(runs, hard_data, capsys):
    validated = ["--model", f"local-dir:{runs}/joint", "--bitops", FRONT[0], "--weights", "joint"]
    validate.main([*validated, "--data", str(hard_data), *RUN, "--calibrate-images", "6000"])
    there = sum(path.is_file() for path in (hard_data / "train").rglob("*"))
    assert json.loads(capsys.readouterr().out)["calibration_images"] == there < 6000


def test_what_is_to_be_known_of_a_budget_is_told_on_stderr_once(runs, hard_data, tmp_path, capsys):
    told = "is no less than the .* that the most bits take, so nothing is traded"
    common = ["--model", f"local-dir:{runs}/joint", "--data", str(hard_data), *RUN]
    validate.main([*common, "--bitops", "3g", "--weights", "joint"])
    out, err = capsys.readouterr()
    json.loads(out)
    assert re.search(f"^note: --bitops 3g was read as 3G\nnote: --bitops {told}$", err, re.MULTILINE)
    for command, words in (
        (front, ["--output", f"{tmp_path}/front.json"]),
        (
            compare,
            ["--steps", "0", "--correlated", "0", "--contenders", "reversed", "--output", f"{tmp_path}/compared"],
        ),
    ):
        command.main([*common, "--bitops", "w3a3", "3G", *words])
        notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        assert len(notes) == 1
        assert re.fullmatch(f"note: 3G: --bitops {told}", notes[0])


def test_recalibration_changes_some_figure_of_these_pictures(runs):
    records = json.loads((runs / "front.json").read_text())["joint"]
    assert [record["top1"] for record in records[::2]] != [record["top1"] for record in records[1::2]]


def test_without_budgets_the_front_spans_the_whole_range(runs, hard_data, tmp_path, capsys):
    command = ["--model", f"local-dir:{runs}/joint", "--points", "2", "--calibrate-images", "8"]
    front.main([*command, "--data", str(hard_data), *RUN, "--output", str(tmp_path / "front.json")])
    layers = json.loads((runs / "joint/indicators.json").read_text())["layers"].values()
    least, most = (sum(layer["macs"] * (64 if layer["fixed"] else bits * bits) for layer in layers) for bits in (2, 6))
    records = json.loads((tmp_path / "front.json").read_text())["joint"]
    assert [record["bitops"] for record in records] == [least, least, most, most]
    *lines, where, last = capsys.readouterr().out.splitlines()
    assert where == f"figures in {tmp_path}/front.json"
    made = f"--joint {runs}/joint --front {tmp_path}/front.json --output {runs}/joint-entry"
    assert last == f"next: python -m limpq_hub.train.publish {made}"
    for line, shipped, adapted in zip(lines[-2:], records[::2], records[1::2], strict=True):
        assert line.endswith(f"BitOps: top-1 {shipped['top1']:.2f} %, recalibrated {adapted['top1']:.2f} %")


def test_a_front_that_was_cut_off_goes_on_with_what_it_measured(runs, hard_data, tmp_path, monkeypatch, capsys):
    command = ["--model", f"local-dir:{runs}/joint", "--bitops", *FRONT, *RUN, "--data", str(hard_data)]
    command += ["--calibrate-images", "16", "--output", str(tmp_path / "front.json")]
    measured, evaluate = [], joint_front.evaluate

    def cut_off(*arguments):
        measured.append(1)
        if len(measured) == 4:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(joint_front, "evaluate", cut_off)
    with pytest.raises(KeyboardInterrupt):
        front.main(command)
    assert not (tmp_path / "front.json").exists()
    front.main(command)
    # Of the first budget both figures were kept.
    assert len(measured) == 4 + 2 * (len(FRONT) - 1)
    found, whole = (json.loads((folder / "front.json").read_text())["joint"] for folder in (tmp_path, runs))
    assert found == whole
    assert "policy 3/3, 0.0 min left: " in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["front.json"]


def test_all_of_a_front_is_of_the_entry_that_was_found(runs, hard_data, tmp_path, monkeypatch):
    shutil.copytree(runs / "joint", tmp_path / "joint")
    evaluate = joint_front.evaluate

    def replaced_meanwhile(*arguments):
        (tmp_path / "joint/anchors.json").unlink(missing_ok=True)
        seal_entry(tmp_path / "joint", NetworkSpec.from_config(read_json(runs / "joint/config.json"), "joint"))
        return evaluate(*arguments)

    monkeypatch.setattr(joint_front, "evaluate", replaced_meanwhile)
    command = ["--model", f"local-dir:{tmp_path}/joint", "--bitops", *FRONT[:2], *RUN, "--data", str(hard_data)]
    with pytest.raises(ArtifactIntegrityError, match=r"anchors\.json"):
        front.main([*command, "--calibrate-images", "0", "--output", str(tmp_path / "front.json")])
    assert not (tmp_path / "front.json").exists()


@pytest.mark.parametrize("needed", [False, True])
def test_where_the_hub_does_not_give_the_float_network_it_is_told_or_needed(runs, monkeypatch, capsys, needed):
    def unavailable(*arguments):
        raise HubUnavailableError("the Hub did not answer; try again later")

    monkeypatch.setattr(reference, "float_network_of", unavailable)
    entry, accelerator = find_entry(f"local-dir:{runs}/joint"), SimpleNamespace(is_main_process=True)
    if needed:
        with pytest.raises(HubUnavailableError):
            reference.reference_of(accelerator, entry, None, [], needed=True)
        return
    assert reference.reference_of(accelerator, entry, None, [], needed=False) is None
    said = "note: neither agreement nor KL is measured: the Hub did not answer; try again later\n"
    assert capsys.readouterr() == ("", said)


def test_a_front_keeps_no_figures_without_the_kl_that_its_entry_allows(runs, hard_data, tmp_path, monkeypatch):
    def unavailable(*arguments):
        raise HubUnavailableError("the Hub did not answer; try again later")

    monkeypatch.setattr(reference, "float_network_of", unavailable)
    command = ["--model", f"local-dir:{runs}/joint", "--bitops", FRONT[0], *RUN, "--data", str(hard_data)]
    with pytest.raises(HubUnavailableError):
        front.main([*command, "--output", str(tmp_path / "front.json")])
    assert list(tmp_path.iterdir()) == []


def test_statistics_that_joint_training_kept_are_measured_once(runs, hard_data, tmp_path, monkeypatch, capsys):
    command = ["--model", f"local-dir:{runs}/joint", "--bitops", *FRONT, *RUN, "--data", str(hard_data)]
    command += ["--output", str(tmp_path / "front.json")]
    monkeypatch.setattr(front, "statistics_of_entry", lambda folder: "corrected")
    front.main(command)
    records, of_both = (json.loads((folder / "front.json").read_text())["joint"] for folder in (tmp_path, runs))
    assert records == of_both[::2]
    assert "recalibrated" not in capsys.readouterr().out


def cut_off_after(figures: int, command: list[str], monkeypatch) -> None:
    evaluate, calls = joint_front.evaluate, iter(range(9))

    def cut_off(*arguments):
        if next(calls) == figures:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(joint_front, "evaluate", cut_off)
    with pytest.raises(KeyboardInterrupt):
        front.main(command)


def test_a_front_that_was_cut_off_does_not_go_on_with_other_options(runs, hard_data, tmp_path, monkeypatch):
    command = ["--model", f"local-dir:{runs}/joint", "--bitops", *FRONT, *RUN, "--data", str(hard_data)]
    command += ["--output", str(tmp_path / "front.json"), "--calibrate-images"]
    cut_off_after(2, [*command, "16"], monkeypatch)
    with pytest.raises(TrainingError, match="was measured with different calibrate_images; choose another --output"):
        front.main([*command, "8"])


def test_a_front_is_written_into_a_stream_beside_which_nothing_can_be_kept(runs, hard_data, tmp_path):
    command = ["--model", f"local-dir:{runs}/joint", "--bitops", FRONT[0], *RUN, "--data", str(hard_data)]
    with (tmp_path / "front.json").open("w") as stream:
        front.main([*command, "--calibrate-images", "16", "--output", f"/dev/fd/{stream.fileno()}"])
    found, whole = (json.loads((folder / "front.json").read_text())["joint"] for folder in (tmp_path, runs))
    assert found == whole[:2]


def test_a_front_that_was_cut_off_does_not_go_on_with_other_pictures(runs, hard_data, tmp_path, monkeypatch):
    pictures = shutil.copytree(hard_data, tmp_path / "data")
    command = ["--model", f"local-dir:{runs}/joint", "--bitops", *FRONT, *RUN, "--data", str(pictures)]
    command += ["--calibrate-images", "0", "--output", str(tmp_path / "front.json")]
    cut_off_after(1, command, monkeypatch)
    first, second, *_ = sorted((pictures / "val").iterdir())
    first.rename(tmp_path / "moved")
    second.rename(first)
    (tmp_path / "moved").rename(second)
    with pytest.raises(TrainingError, match="was measured with different validation pictures; choose another --output"):
        front.main(command)
