"""Settings from options by their names, and options from settings again."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from limpq_hub import Indicators
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.train import anchors, compare, finetune, front, indicators, pretrain, publish, validate
from limpq_hub.train.carried_options import carried_options
from limpq_hub.train.indicators import IndicatorsSettings
from limpq_hub.train.settings import DataSettings, DeviceSettings
from limpq_hub.train.settings_conversion import arguments_of, settings_from


@dataclass(frozen=True)
class Part:
    lr: float
    step_lr: float | None = None


@dataclass(frozen=True)
class Whole:
    part: Part
    data: Part
    output: Path


@pytest.fixture
def trained(tmp_path, monkeypatch) -> Callable[..., IndicatorsSettings]:
    """A function that returns the settings of a joint training whose indicators are in out/joint."""
    monkeypatch.chdir(tmp_path)

    def settings(*typed: str) -> IndicatorsSettings:
        given = indicators.parse_options(["--model", "resnet18", "--output", "out/joint", *typed])
        costs = {
            name: LayerCost(1000, 1000, 100, 10, signed=True, fixed=None if name == "between" else LayerBits(8, 8))
            for name in ("first", "between", "last")
        }
        steps = {"between": {bits: 1 / bits for bits in given.joint.candidates}}
        folder = tmp_path / "out/joint"
        folder.mkdir(parents=True, exist_ok=True)
        Indicators("resnet18", 64, 10, costs, steps, steps).save(folder / "indicators.json")
        return given

    return settings


def test_fields_take_the_values_of_their_names_and_parts_likewise():
    values = {"lr": 0.5, "step_lr": 0.25, "output": Path("out"), "data": "pictures", "unused": 1}
    assert settings_from(Whole, values) == Whole(Part(0.5, 0.25), Part(0.5, 0.25), Path("out"))


def test_a_part_that_is_there_already_is_taken_as_it_is():
    assert settings_from(Whole, {"lr": 0.5, "data": Part(3), "output": Path()}).data == Part(3)


def test_a_missing_value_leaves_the_default_and_without_one_is_an_error():
    assert settings_from(Part, {"lr": 1.0}) == Part(1.0, None)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'lr'"):
        settings_from(Part, {})


def test_options_of_settings_leave_out_what_is_at_its_default():
    data = DataSettings("my pictures", batch_size=8, workers=0, seed=3, cache_images=True, data_root="root")
    assert arguments_of(data) == [
        *("--data", "my pictures", "--batch-size", "8", "--workers", "0", "--seed", "3"),
        *("--data-root", "root", "--cache-images"),
    ]
    assert arguments_of(data, "data", "val_split") == ["--data", "my pictures"]
    assert arguments_of(DeviceSettings()) == []
    assert arguments_of(DeviceSettings(threads=2, float64=True)) == ["--threads", "2", "--float64"]


NEEDED = ["--model", "resnet18", "--data", "pictures", "--output", "out"]


@pytest.mark.parametrize(
    "command", [pretrain, indicators, finetune, validate, front, compare], ids=lambda c: c.__name__
)
def test_each_command_reads_data_and_device_and_how_it_was_called(command, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    settings = command.parse_options([*NEEDED, "--seed", "7", "--threads", "3", "--val-split", "test"])
    training = getattr(settings, "training", settings)
    batch_size = 250 if command in (validate, front) else 128
    assert settings.data == DataSettings("pictures", batch_size=batch_size, workers=2, seed=7, val_split="test")
    assert training.device == DeviceSettings(threads=3)
    name = command.__name__.rpartition(".")[2]
    assert f"limpq_hub.train.{name} --model resnet18 --data pictures" in training.invocation.command
    assert training.invocation.options["output"] == "out"


def test_a_command_that_reads_training_pictures_alone_takes_no_validation_split(capsys):
    settings = anchors.parse_options([*NEEDED, "--seed", "7", "--threads", "3"])
    assert (settings.data.seed, settings.device) == (7, DeviceSettings(threads=3))
    for word in ("--val-split", "--batch-size"):
        with pytest.raises(SystemExit):
            anchors.parse_options([*NEEDED, word, "8"])
        assert f"unrecognized arguments: {word} 8" in capsys.readouterr().err


def test_no_more_processes_decode_than_there_are_cores_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {5}, raising=False)
    assert pretrain.parse_options(NEEDED).data.workers == 1
    assert pretrain.parse_options([*NEEDED, "--workers", "3"]).data.workers == 3
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert pretrain.parse_options(NEEDED).data.workers == 2


def test_a_budget_or_a_policy_is_what_constrains():
    assert finetune.parse_options([*NEEDED, "--bitops", "3G", "--size", "4MB"]).constraints == {
        "bitops": "3G",
        "size": "4MB",
    }
    assert finetune.parse_options([*NEEDED, "--policy", "a.json"]).constraints == {"policy": Path("a.json")}


def test_publish_reads_its_own():
    settings = publish.parse_options(["--joint", "j", "--output", "o", "--checkpoint", "a=b"])
    assert (settings.joint, settings.checkpoint, settings.repo_id, settings.recode) == (Path("j"), ["a=b"], None, False)


COMPUTING = ["--batch-size", "8", "--workers=0", "--threads", "1", "--float64", "--channels-last", "--seed", "3"]


def test_what_was_typed_and_is_meant_for_the_next_command_is_carried_with_its_values():
    pictures = ["--mean", "0.1", "0.2", "0.3", "--std", "0.5", "0.5", "0.5", "--crop-pct=0.9"]
    typed = ["--model", "resnet18", *COMPUTING, *pictures, "--data", "pictures", "--output", "out/float"]
    own = ["--epochs", "3", "--lr", "0.1", "--ema", "0.9", "--save-interval", "9", "--auto-augment", "3a"]
    given = pretrain.parse_options([*typed, *own]).training.invocation
    carried = carried_options(given, "indicators")
    assert carried == [*COMPUTING, *pictures]
    taken = indicators.parse_options(["--model", "resnet18", "--data", "pictures", "--output", "out", *carried])
    assert (taken.network.mean, taken.network.crop_pct) == ([0.1, 0.2, 0.3], 0.9)
    assert (taken.data.batch_size, taken.data.seed, taken.training.device.threads) == (8, 3, 1)
    assert carried_options(pretrain.parse_options(typed[:2] + typed[-4:]).training.invocation, "indicators") == []


@pytest.mark.parametrize(
    ("typed", "carried"),
    [
        (["--data", "p", "--distill", "0.5"], ["--distill", "0.5"]),
        (["--data", "p", "--distill", "0.5", "--teacher", "t"], ["--distill", "0.5", "--teacher", "t"]),
        (["--unlabelled", "a", "b"], []),
        (["--unlabelled", "a", "--in-place-distill", "0.25"], []),
        (["--unlabelled", "a", "--teacher", "t"], ["--teacher", "t"]),
        (["--data", "p", "--freeze-batch-norm", *COMPUTING], ["--freeze-batch-norm", *COMPUTING]),
        (["--data", "p", "--mean", "0", "0", "0", "--candidates", "5", "4"], []),
        (["--data", "p", "--recipe", "photographs"], ["--recipe", "photographs", "--freeze-batch-norm"]),
        (
            ["--data", "p", "--recipe", "paper-resnet18", "--weights", "w", "--distill", "0.5", "--seed=3"],
            ["--recipe", "paper-resnet18", "--weights", "w", "--seed=3", "--distill", "0.5"],
        ),
        (
            ["--unlabelled", "a", "--recipe", "zoo-resnet18-tiny-imagenet", "--distill", "0.75"],
            ["--recipe", "zoo-resnet18-tiny-imagenet", "--distill", "1"],
        ),
        (["--data", "p", "--recipe", "mine.yaml"], ["--freeze-batch-norm"]),
        (["--data", "p", "--recipe", "retraining-free-resnet18"], []),
    ],
)
def test_the_fine_tuning_that_a_joint_training_names_has_its_teacher_pictures_and_device(
    typed, carried, trained, capsys
):
    Path("mine.yaml").write_text("indicators:\n  freeze-batch-norm: true\n")
    given = trained(*typed)
    indicators._tell_and_push(given)
    line = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(line.removeprefix("then: accelerate launch -m limpq_hub.train.finetune "))
    pictures = typed[:3] if typed[:3] == ["--unlabelled", "a", "b"] else typed[:2]
    entry = "out/joint-entry" if "photographs" in typed else "out/joint"  # with a step per channel, measured pairs
    start = ["--model", f"local-dir:{entry}", "--bitops", "w4a4", *pictures]
    assert words[: len(start)] == start
    assert words[-2:] == ["--output", "out/joint-w4a4"]
    assert words[len(start) : -2] == carried
    taken = finetune.parse_options(words)  # the line can be typed
    assert (taken.loss.teacher, taken.data.data) == (given.loss.teacher, given.data.data)
    assert list(taken.data.unlabelled) == list(given.data.unlabelled)
    assert taken.training.freeze_batch_norm == given.training.freeze_batch_norm
    assert taken.loss.distill == (1 if given.data.unlabelled else given.loss.distill)


@pytest.mark.parametrize(("folder", "name"), [("w4", "w4"), ("my run", "finetuned"), ("a..b", "finetuned")])
def test_the_publishing_that_a_fine_tuning_names_takes_whatever_its_folder_is_called(folder, name, capsys):
    given = finetune.parse_options([*NEEDED[:-1], f"out/{folder}", "--policy", "policy.json"])
    finetune._push_or_tell(None, folder, given)
    words = shlex.split(capsys.readouterr().out.partition("limpq_hub.train.publish ")[2])
    (checkpoint,) = publish.parse_options(words).checkpoint
    assert publish._named_folder(checkpoint) == (name, Path("out", folder))


def test_a_float_training_names_its_recipe_where_that_has_options_for_joint_training(capsys):
    recipe = ["--recipe", "zoo-resnet18-tiny-imagenet"]
    given = pretrain.parse_options([*NEEDED, *recipe, "--weights", "start.safetensors"]).training.invocation
    assert carried_options(given, "indicators") == recipe


@pytest.mark.parametrize("typed", [["--unlabelled", "a b", "c"], ["--data", "p", "--train-split", "t"]])
def test_a_joint_training_with_a_step_per_channel_says_how_its_measured_pairs_are_searched_by(typed, trained, capsys):
    indicators._tell_and_push(trained(*typed))
    assert "measured" not in capsys.readouterr().out
    indicators._tell_and_push(trained(*typed, "--per-channel"))
    line = next(line for line in capsys.readouterr().out.splitlines() if "measured pairs" in line)
    published = publish.parse_options(shlex.split(line.partition("(training/README.md): ")[2])[3:])
    assert (published.joint, published.indicators) == (Path("out/joint"), None)
    assert (published.importance, published.output) == ("measured", Path("out/joint-entry"))
