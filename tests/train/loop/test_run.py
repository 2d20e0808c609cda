"""A run's folder: nobody else's while it runs, free again when it was killed, the same settings at every resume."""

from __future__ import annotations

import json
import os
import platform
import signal
from dataclasses import replace

import pytest
import torch
from number_runs import OneWeight, fit_to_numbers, number_settings, slope_one
from safetensors.torch import load_file
from script_runs import saved_step, script, started
from tiny_run import NETWORK, RUN
from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.train import pretrain
from limpq_hub.train.loop.folder import locked, record_options
from limpq_hub.train.loop.interrupt import RunInterruptedError
from limpq_hub.train.loop.resumption import check_settings
from limpq_hub.train.loop.run import new_accelerator, training_run
from limpq_hub.train.settings import DeviceSettings
from limpq_hub.zoo.folder import open_local_folder

MAY_CHANGE = {
    "workers": ["--workers", "3"],
    "threads": ["--threads", "2"],
    "save_interval": ["--save-interval", "7"],
    "cache_images": ["--cache-images"],
    "validate_epochs": ["--validate-epochs", "2"],
    "recipe": ["--recipe", "zoo-resnet18-tiny-imagenet"],
}
OTHER_VALUES = {
    "data": "letters",
    "data_root": "elsewhere",
    "train_split": "dev",
    "val_split": "test",
    "batch_size": 3,
    "mixed_precision": "bf16",
    "float64": True,
    "channels_last": True,
    "seed": 5,
    "epochs": 9,
    "max_steps": 11,
    "gradient_accumulation": 2,
    "optimizer": "adam",
    "lr": 0.7,
    "warmup_epochs": 0.5,
    "momentum": 0.1,
    "weight_decay": 0.3,
    "smoothing": 0.0,
    "clip_value": 2.0,
    "ema": 0.5,
    "step_optimizer": "adam",
    "step_lr": 0.3,
    "lr_schedule": "constant",
    "step_start": "lsq",
    "freeze_batch_norm": True,
    "crop_scale": [0.5, 1.0],
    "color_jitter": 0.5,
    "auto_augment": "rand-m7-mstd0.5",
    "data_fraction": 0.5,
    "unlabelled": ["pile"],
}


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that recorded its options and was cut off."""
    settings = number_settings(tmp_path / "out")
    with training_run(settings) as accelerator:
        record_options(accelerator, settings.run, settings.invocation)
    return tmp_path / "out"


def in_words(value) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def test_every_option_is_either_free_to_change_or_refused(folder):
    assert number_settings(folder).invocation.options.keys() == OTHER_VALUES.keys() | MAY_CHANGE.keys() | {
        "output",
        "resume",
    }


@pytest.mark.parametrize(("name", "value"), OTHER_VALUES.items())
def test_a_changed_setting_at_resume_is_refused_by_name(folder, name, value):
    first = json.loads((folder / "options.json").read_text())
    assert first[name] != value
    (folder / "options.json").write_text(json.dumps(first | {name: value}))
    with pytest.raises(TrainingError) as refused, training_run(number_settings(folder, "--resume")):
        pass
    flag = f"--{name.replace('_', '-')}"
    typed = f": {flag}" if value is True else f": {flag} {in_words(value)}"
    longer = "; what is to be prolonged is trained with --lr-schedule constant" if name in LENGTH else ""
    assert str(refused.value) == f"--resume with another {name}; give the options of the first run{typed}{longer}"


def test_another_number_of_processes_is_refused_with_what_would_change_and_how_many_to_start(folder):
    first = json.loads((folder / "options.json").read_text())
    (folder / "options.json").write_text(json.dumps(first | {"processes": 2}))
    with pytest.raises(TrainingError) as refused, training_run(number_settings(folder, "--resume")):
        pass
    assert str(refused.value) == (
        "--resume with another processes: 1 in place of the 2 that the run began with, so that a step would take 1 x "
        "128 pictures in place of 2 x 128, and sums be rounded in another order; start 2 processes (accelerate launch "
        "--num_processes 2, or torchrun --nproc_per_node 2) again, or choose another --output"
    )


def test_processes_changed_with_an_option_are_the_launchers_and_no_option(folder):
    first = json.loads((folder / "options.json").read_text())
    (folder / "options.json").write_text(json.dumps(first | {"processes": 2}))
    settings = number_settings(folder, "--resume", "--lr", "0.3")
    with pytest.raises(TrainingError) as refused, training_run(settings):
        pass
    assert str(refused.value) == (
        "--resume with another lr, processes; give the options of the first run: --lr 0.1, in 2 processes (accelerate "
        "launch --num_processes 2, or torchrun --nproc_per_node 2)"
    )


@pytest.mark.parametrize("held", ["config.json", "indicators.json", "model.safetensors", "policies"])
def test_a_folder_that_holds_another_network_is_refused_and_left_as_it_is(tmp_path, held):
    (tmp_path / held).mkdir() if held == "policies" else (tmp_path / held).write_text("theirs")
    message = f"^{tmp_path} holds {held}, as a network does, and no run of this one, which would replace it .*; choose"
    with pytest.raises(TrainingError, match=message), training_run(number_settings(tmp_path)):
        pass
    assert held == "policies" or (tmp_path / held).read_text() == "theirs"


LENGTH = ("epochs", "max_steps")
ROWS = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
CONSTANT = ("--lr-schedule", "constant", "--batch-size", "4", "--warmup-epochs", "0.5", "--momentum", "0.9")


def trained(output, *words) -> nn.Module:
    """Return a network after a run on the rows, with noise that is drawn in each step and a moving average."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    settings = number_settings(output, *words, "--ema", "0.9")
    fit_to_numbers(settings, ROWS, model, lambda net, rows: (net(rows) + torch.randn(len(rows), 1)).square().mean())
    return model


@pytest.mark.parametrize(
    ("first", "longer"),
    [
        (("--epochs", "1"), ("--epochs", "3")),
        (("--epochs", "9", "--max-steps", "8"), ("--epochs", "9", "--max-steps", "14")),
        (("--max-steps", "2"), ("--epochs", "2")),
    ],
)
def test_a_run_at_a_constant_rate_is_prolonged_to_the_bits_of_a_run_that_was_as_long_from_the_start(
    tmp_path, first, longer
):
    whole = trained(tmp_path / "whole", *CONSTANT, *longer)
    ended = trained(tmp_path / "out", *CONSTANT, *first)
    prolonged = trained(tmp_path / "out", *CONSTANT, *longer, "--resume")
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in prolonged.state_dict().items())
    assert not torch.equal(ended.weight, prolonged.weight)
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "out")]
    assert lines[0] == lines[1]


def test_a_run_at_a_constant_rate_is_not_asked_to_end_before_where_it_is(tmp_path):
    trained(tmp_path / "out", *CONSTANT, "--epochs", "2")
    before = (tmp_path / "out/options.json").read_bytes()
    message = "^--resume up to step 6, and 12 are done: ask for as many at least, or choose another --output$"
    with pytest.raises(TrainingError, match=message):
        trained(tmp_path / "out", *CONSTANT, "--epochs", "1", "--resume")
    assert (tmp_path / "out/options.json").read_bytes() == before


def test_a_run_along_a_cosine_cannot_be_prolonged_and_says_what_would_change_and_what_to_type(tmp_path):
    words = ("--batch-size", "4", "--epochs", "2", "--max-steps", "7")
    trained(tmp_path / "out", *words)
    for longer, steps in ((("--max-steps", "10"), 10), (("--epochs", "1"), 6)):
        with pytest.raises(TrainingError) as refused:
            trained(tmp_path / "out", *words, *longer, "--resume")
        assert str(refused.value) == (
            f"--resume up to step {steps}, and the run began with 7 in mind: its learning rate falls along a cosine to "
            "the last step, so that every step would have had another rate. End it as it began, with --epochs 2 "
            f"--max-steps 7, or train {steps} steps in another --output; what is to be prolonged is trained with "
            "--lr-schedule constant"
        )
    # Other words for the same steps are the same run.
    trained(tmp_path / "out", "--batch-size", "4", "--epochs", "9", "--max-steps", "7", "--resume")


def test_what_to_give_again_is_named_as_it_is_typed():
    now = {"start_from": "joint", "lr_schedule": "constant"}
    message = "^--resume with another start_from; give the options of the first run: --from float$"
    with pytest.raises(TrainingError, match=message):
        check_settings(now | {"start_from": "float"}, now, noted=())


@pytest.mark.parametrize("changed", [512, None])
def test_images_that_corrected_frozen_statistics_before_the_first_step_of_a_fine_tuning_may_not_change(changed):
    tuning = {"start_from": "float", "freeze_batch_norm": True, "calibrate_images": 256}
    message = "^--resume with another calibrate_images; give the options of the first run: --calibrate-images 256$"
    with pytest.raises(TrainingError, match=message):
        check_settings(tuning, tuning | {"calibrate_images": changed}, noted=())
    # Statistics that are measured after the training, and those of an entry, are of the images that are given then.
    for first in (tuning | {"freeze_batch_norm": False}, {"freeze_batch_norm": True, "calibrate_images": 256}):
        check_settings(first, first | {"calibrate_images": changed}, noted=())


@pytest.mark.parametrize(
    ("named", "is_the_same"),
    [(f"hf-hub:you/net@{'c' * 40}", True), ("hf-hub:me/net", True), ("local-dir:out/joint", False), ("net", False)],
)
def test_an_entry_of_the_hub_may_be_named_with_its_commit_where_its_files_were_noted(named, is_the_same):
    first, now = {"model": "hf-hub:you/net"}, {"model": named}
    if is_the_same:  # by its files, which are compared by themselves
        check_settings(first, now, noted=["supernet.safetensors"])
    for noted in [()] if is_the_same else [(), ["supernet.safetensors"]]:
        with pytest.raises(TrainingError, match="^--resume with another model; "):
            check_settings(first, now, noted=noted)


def test_more_epochs_whose_warm_up_follows_them_are_refused_with_both_as_the_run_began(tmp_path):
    cosine = ["--batch-size", "4", "--momentum", "0.9"]
    trained(tmp_path / "out", *cosine, "--epochs", "2", "--warmup-epochs", "1")
    message = (
        "^--resume with another epochs, warmup_epochs; give the options of the first run: --epochs 2 "
        "--warmup-epochs 1.0; what is to be prolonged is trained with --lr-schedule constant$"
    )
    with pytest.raises(TrainingError, match=message):
        trained(tmp_path / "out", *cosine, "--epochs", "3", "--warmup-epochs", "1.5", "--resume")


def test_a_warm_up_that_followed_the_epochs_is_to_be_given_when_the_run_is_prolonged(tmp_path):
    trained(tmp_path / "out", *CONSTANT, "--epochs", "1")
    message = (
        "^--resume with another warmup_epochs, which follows --epochs where it is not given; give it as the run began: "
        "--warmup-epochs 0.5$"
    )
    with pytest.raises(TrainingError, match=message):
        trained(tmp_path / "out", *CONSTANT, "--epochs", "2", "--warmup-epochs", "1", "--resume")


def test_going_on_with_another_device_or_torch_is_told_and_with_the_same_nothing_is(tmp_path, capsys):
    trained(tmp_path / "out", *CONSTANT, "--epochs", "1")
    path = tmp_path / "out/options.json"
    trained(tmp_path / "out", *CONSTANT, "--epochs", "2", "--resume")
    assert "note: the run began with" not in capsys.readouterr().out
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"machine": record["machine"] | {"device": "Z80", "torch": "0.1"}}))
    trained(tmp_path / "out", *CONSTANT, "--epochs", "2", "--resume")
    assert (
        f"note: the run began with device Z80, torch 0.1, and goes on with device {platform.machine()} CPU, torch "
        f"{torch.__version__}: sums may be rounded otherwise, so that it is the same training and not the same to the "
        "last bit\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("first", "now", "advice"),
    [
        ({"exclude": []}, {"exclude": ["fc"]}, ": without --exclude"),
        ({"ema": None, "fix": []}, {"ema": 0.9, "fix": ["a"]}, ": without --ema and --fix"),
        ({"auto_augment": None}, {"auto_augment": "v0"}, ": --auto-augment none"),
        ({"ema": None, "lr": 0.1}, {"ema": 0.9, "lr": 0.2}, ": --lr 0.1, without --ema"),
        (
            {"float64": True, "per_channel": False},
            {"float64": False, "per_channel": True},
            ": --float64 --no-per-channel",
        ),
        ({"model_args": {"pad_type": "same"}}, {"model_args": None}, ": --model-args pad_type=same"),
        ({"weights_sha256": "a"}, {"weights_sha256": "b"}, ""),
    ],
)
def test_what_the_first_run_did_without_is_to_be_left_out_and_a_switch_to_be_set_as_it_was(first, now, advice):
    with pytest.raises(TrainingError) as refused:
        check_settings(first, now, noted=())
    changed = ", ".join(sorted(first))
    assert str(refused.value) == f"--resume with another {changed}; give the options of the first run{advice}"


@pytest.mark.parametrize(
    ("first", "now", "advice"),
    [
        (
            {"recipe": None, "ema": None, "lr": 0.1},
            {"recipe": "a b.yaml", "ema": 0.9},
            "--lr 0.1, without --recipe and --ema",
        ),
        ({"recipe": "gone.yaml", "ema": 0.9}, {"recipe": None, "ema": None}, "--ema 0.9"),
        ({"recipe": "a b.yaml", "ema": None}, {"recipe": "b", "ema": 0.9}, "--recipe 'a b.yaml', without --ema"),
        ({"recipe": "b", "ema": None}, {"recipe": "b", "ema": 0.9}, "without --ema"),
    ],
)
def test_options_that_another_recipe_gave_come_back_with_the_recipe_of_the_first_run(first, now, advice):
    with pytest.raises(TrainingError) as refused:
        check_settings(first, now, noted=())
    assert str(refused.value).endswith(f"; give the options of the first run: {advice}")


def test_class_names_may_be_read_from_another_place_where_their_content_was_noted():
    first, now = {"class_names": "a.json"}, {"class_names": "moved/a.json"}
    check_settings(first, now, noted=["content of --class-names"])
    for noted, named in (((), now), (["content of --class-names"], {"class_names": None})):
        with pytest.raises(TrainingError, match="^--resume with another class_names; .*: --class-names a.json$"):
            check_settings(first, named, noted=noted)


@pytest.mark.parametrize(
    ("processes", "launcher", "threads"),
    [
        ("1", {0, 4, 5}, 3),
        ("2", {0, 4, 5}, 1),
        ("4", {0, 4, 5}, 1),
        ("2", {0, 1, 2, 3, 4, 5}, 3),  # each has its own, as by torchrun --numa-binding
        ("4", {0, 1, 2, 3, 4, 5, 6, 7}, 2),  # two share theirs
        ("1", {0}, 3),  # it was given more than what started it
        ("2", None, 1),
    ],
)
def test_threads_are_no_more_than_the_cores_that_this_process_may_use(monkeypatch, processes, launcher, threads):
    def cores(process: int) -> set[int]:
        if process and launcher is None:
            raise ProcessLookupError
        return launcher if process else {0, 4, 5}

    monkeypatch.setattr("os.sched_getaffinity", cores, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    used = []
    monkeypatch.setattr("torch.set_num_threads", used.append)
    new_accelerator(DeviceSettings())
    assert used == [threads]


def test_all_changed_settings_are_named(folder):
    settings = number_settings(
        folder, "--resume", "--seed", "1", "--lr", "0.3", "--float64", "--crop-scale", "0.5", "1"
    )
    message = (
        "^--resume with another crop_scale, float64, lr, seed; give the options of the first run: "
        r"--crop-scale 0.35 1.0 --no-float64 --lr 0.1 --seed 0$"
    )
    with pytest.raises(TrainingError, match=message), training_run(settings):
        pass


@pytest.mark.parametrize("words", MAY_CHANGE.values(), ids=MAY_CHANGE.keys())
def test_a_setting_that_changes_no_result_may_change(folder, words):
    settings = number_settings(folder, "--resume", *(words if "--recipe" not in words else []))
    if "--recipe" in words:
        options = {**settings.invocation.options, "recipe": words[1]}
        settings = replace(settings, invocation=replace(settings.invocation, options=options))
    with training_run(settings):
        pass


@pytest.mark.parametrize("content", ['{"images": 3}', "no json", "[]"])
def test_a_file_that_is_called_like_the_record_of_the_inputs_is_left_alone(tmp_path, content):
    (tmp_path / "inputs.json").write_text(content)
    with locked(tmp_path):
        pass
    message = f"^{tmp_path} holds inputs.json, which no run here wrote and this one would replace; choose another "
    with pytest.raises(TrainingError, match=message), training_run(number_settings(tmp_path)):
        pass
    assert (tmp_path / "inputs.json").read_text() == content


def test_what_a_killed_start_noted_of_its_inputs_goes_with_the_next_that_is_refused(tmp_path):
    (tmp_path / "inputs.json").write_text('{"format": 1, "validation_data": {}, "contents": {}}')
    with pytest.raises(RunInterruptedError), training_run(number_settings(tmp_path)):
        raise RunInterruptedError("before the first step")
    assert not (tmp_path / "inputs.json").exists()


def test_a_folder_that_holds_a_run_is_refused_without_resume(folder):
    message = f"^{folder} holds a run already; add --resume, or choose another --output$"
    with pytest.raises(TrainingError, match=message), training_run(number_settings(folder)):
        pass


def test_resume_where_no_run_is_starts_one(tmp_path):
    model = OneWeight()
    settings = number_settings(tmp_path / "out", "--batch-size", "2", "--resume")
    fit_to_numbers(settings, torch.ones(8, 1), model, slope_one)
    assert model.weight.item() < 0


def test_a_refused_run_leaves_the_folder_free(folder):
    with pytest.raises(TrainingError), training_run(number_settings(folder)):
        pass
    with training_run(number_settings(folder, "--resume")):
        pass


def test_the_default_type_is_that_of_the_run_and_afterwards_as_before(tmp_path):
    for words, dtype in ((["--float64"], torch.float64), ([], torch.float32)):
        with training_run(number_settings(tmp_path / "out", *words)):
            assert torch.get_default_dtype() is dtype
        assert torch.get_default_dtype() is torch.float32
    with pytest.raises(RunInterruptedError), training_run(number_settings(tmp_path / "out", "--float64")):
        raise RunInterruptedError("in between")
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_a_second_run_is_refused_while_the_first_is_at_work_and_not_after_it_was_killed(data, tmp_path, workers):
    options = [*NETWORK, *RUN, "--data", str(data), "--epochs", "400", "--save-interval", "1"]
    output = tmp_path / "out"
    second = pretrain.parse_options([*options, "--output", str(output), "--resume"]).training
    with started([script("pretrain")], output, *options, "--workers", workers) as first:
        assert first.reaches(1), first.said()
        who = f"process {first.process.pid} on {platform.node()}"
        message = f"^{output} is in use by {who}; wait for it, or choose another --output$"
        with pytest.raises(TrainingError, match=message), training_run(second):
            pass
        # Its workers live on for a moment: they must not hold the folder.
        os.kill(first.process.pid, signal.SIGKILL)
        assert first.ends() == -signal.SIGKILL
        with training_run(second):
            pass


@pytest.mark.slow
def test_a_second_script_on_the_same_folder_ends_with_one_line(data, tmp_path):
    options = [*NETWORK, *RUN, "--data", str(data)]
    output = tmp_path / "out"
    with (
        training_run(pretrain.parse_options([*options, "--output", str(output)]).training),
        started([script("pretrain")], output, *options) as second,
    ):
        assert second.ends() == 3
    who = f"process {os.getpid()} on {platform.node()}"
    last = second.said().splitlines()[-1]
    assert last == f"pretrain.py: {output} is in use by {who}; wait for it, or choose another --output"
    assert "Traceback" not in second.said()


# Grows no file beyond the limit: the system answers "File too large", as it answers "No space left" on a full disk.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_state_and_the_resumed_run_ends_with_the_same_weights(
    data, tmp_path, cut_after_a_save
):
    options = [*NETWORK, *RUN, "--data", str(data), "--epochs", "2", "--save-interval", "3", "--ema", "0.9"]
    whole, output = tmp_path / "whole", tmp_path / "out"
    pretrain.main([*options, "--output", str(whole)])
    cut_after_a_save(pretrain.main, [*options, "--output", str(output)])
    size = (output / "states/step-00000003/state.safetensors").stat().st_size
    with started(["-c", LIMITED, str(size // 2), script("pretrain")], output, *options, "--resume") as limited:
        assert limited.ends() == 3, limited.said()
    assert limited.said().splitlines()[-1] == (
        f"pretrain.py: step 6 cannot be saved in {output}/states (File too large); kept: step-00000003; "
        "make room, then --resume"
    )
    assert "Traceback" not in limited.said()
    assert [path.name for path in (output / "states").iterdir()] == ["step-00000003"]
    open_local_folder(output / "states/step-00000003", "state").read("state.safetensors")
    pretrain.main([*options, "--output", str(output), "--resume"])
    assert saved_step(output) == 8
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, output))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
