"""The float network of an entry: measured, a start and a teacher without --weights; and where training starts."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import NETWORK, RUN

from limpq_hub.errors import HubOfflineError, TrainingError, UnknownModelError
from limpq_hub.plan.indicators import Indicators
from limpq_hub.train import compare, finetune, front, indicators, pretrain, validate
from limpq_hub.train.loop import fit as _loop
from limpq_hub.train.measure.pair_importance import Measuring
from limpq_hub.train.weights.networks import float_network_of
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import seal_entry
from limpq_hub.zoo.entry_tensors import float_tensors, supernet_tensors, write_supernet
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec


@pytest.fixture
def without_float(runs, tmp_path) -> str:
    """The name of an entry as they were before they held their float network."""
    folder = tmp_path / "older"
    entry = find_entry(f"local-dir:{runs}/joint")
    shutil.copytree(runs / "joint", folder)
    (folder / "float.safetensors").unlink()
    write_supernet(folder, supernet_tensors(entry.folder))
    seal_entry(folder, NetworkSpec.from_config(entry.folder.config, entry.name))
    return f"local-dir:{folder}"


def test_validate_measures_the_float_network_of_an_entry(runs, data, tmp_path):
    measured = ["--data", str(data), *RUN, "--output", str(tmp_path / "figures.json")]
    validate.main(["--model", f"local-dir:{runs}/joint", "--weights", "float", *measured])
    found = json.loads((tmp_path / "figures.json").read_text())
    figures = json.loads((runs / "joint/metrics.json").read_text())["float"]
    assert figures.pop("provenance") == json.loads((runs / "float/metrics.json").read_text())
    assert {key: found[key] for key in figures} == figures
    assert (found["model"], found["weights"]) == (f"local-dir:{runs}/joint", "float")
    assert (found["policy_sha256"], found["bitops"], found["calibration_images"]) == (None, None, 0)


def test_the_float_network_of_a_published_entry_is_that_of_its_joint_training(runs, data, capsys):
    validate.main(["--model", f"local-dir:{runs}/entry", "--weights", "float", "--data", str(data), *RUN])
    found = json.loads(capsys.readouterr().out)
    assert found["top1"] == json.loads((runs / "joint/metrics.json").read_text())["float"]["top1"]


def tuned(runs, data, output, *options: str) -> dict[str, torch.Tensor]:
    """Return the weights after two steps."""
    entry = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", "--data", str(data), *RUN]
    finetune.main([*entry, "--max-steps", "2", *options, "--output", str(output)])
    return load_file(output / "model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    # A layer is coded or packed, whichever takes fewer bytes.
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("options", [("--distill", "1.0"), ("--from", "float")], ids=["teacher", "start"])
def test_fine_tuning_without_weights_takes_the_float_network_of_the_entry(runs, data, tmp_path, options):
    other = float_tensors(open_local_folder(runs / "joint", "entry"))
    save_file(other | {"fc.bias": other["fc.bias"] + torch.arange(4.0)}, tmp_path / "other.safetensors")
    save_file(other, tmp_path / "same.safetensors")
    found = tuned(runs, data, tmp_path / "entry", *options)
    same = tuned(runs, data, tmp_path / "same", *options, "--weights", str(tmp_path / "same.safetensors"))
    different = tuned(runs, data, tmp_path / "different", *options, "--weights", str(tmp_path / "other.safetensors"))
    assert equal(found, same)
    assert not equal(found, different)


@pytest.mark.parametrize("options", [("--distill", "1.0"), ("--from", "float")], ids=["teacher", "start"])
def test_fine_tuning_from_an_entry_without_a_float_network_says_what_to_give(without_float, data, tmp_path, options):
    command = ["--model", without_float, "--bitops", "w4a4", "--data", str(data), *RUN, "--max-steps", "1"]
    with pytest.raises(UnknownModelError) as caught:
        finetune.main([*command, *options, "--output", str(tmp_path / "out")])
    name = without_float.removeprefix("local-dir:")
    assert str(caught.value).removeprefix("local-dir:") == (
        f"{name} holds no float.safetensors; give the float network as --weights FILE"
    )


def test_validate_of_an_entry_without_a_float_network_says_so(without_float, data):
    with pytest.raises(
        UnknownModelError, match="holds no float.safetensors; give an entry that holds its float network$"
    ):
        validate.main(["--model", without_float, "--weights", "float", "--data", str(data), *RUN])


@pytest.mark.parametrize("command", [validate, front], ids=["validate", "front"])
def test_without_labels_an_entry_needs_a_float_network_that_these_commands_take_from_nowhere_else(
    command, without_float, data, tmp_path
):
    words = ["--model", without_float, "--bitops", "w4a4", "--unlabelled", f"{data}/train", *RUN]
    with pytest.raises(UnknownModelError) as caught:
        command.main([*words, "--output", str(tmp_path / "figures.json")])
    assert str(caught.value) == (
        f"{without_float.removeprefix('local-dir:')} holds no float.safetensors to compare with; give --data with "
        "labels, or an entry that holds its float network"
    )


def test_a_teacher_that_takes_pictures_otherwise_is_told_by_every_command_that_learns_from_it(
    runs, data, tmp_path, capsys
):
    shutil.copytree(runs / "float", tmp_path / "float")
    config = json.loads((tmp_path / "float/config.json").read_text())
    config["pretrained_cfg"]["crop_pct"] = 0.5
    (tmp_path / "float/config.json").write_text(json.dumps(config))
    teacher = ["--teacher", f"local-dir:{tmp_path}/float", "--distill", "0.5", "--data", str(data), *RUN]
    short = ["--max-steps", "1", "--calibrate-images", "8"]
    joint = [*NETWORK, "--weights", f"{runs}/float/model.safetensors", "--alpha", "8", "--measure-images", "0"]
    told = f"note: --teacher local-dir:{tmp_path}/float takes pictures otherwise than they are prepared here: it with "
    indicators.main([*joint, "--anchor-gap", "99", *teacher, *short, "--output", f"{tmp_path}/joint"])
    assert told in capsys.readouterr().out
    entry = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4"]
    finetune.main([*entry, *teacher, *short, "--output", f"{tmp_path}/w4a4"])
    assert told in capsys.readouterr().out
    few = ["--bitops", "w3a3", "--steps", "0", "--random", "0", "--correlated", "0", "--contenders", "learned"]
    weights = ["--weights", f"local-dir:{tmp_path}/float", "--data", str(data), *RUN]
    compare.main(["--model", f"local-dir:{runs}/joint", *few, *weights, "--output", f"{tmp_path}/compared"])
    assert told.replace("--teacher", "--weights") in capsys.readouterr().err


def test_criteria_are_measured_in_the_float_network_that_is_given(runs, without_float, data, tmp_path):
    given = float_tensors(open_local_folder(runs / "joint", "entry"))
    save_file(given, tmp_path / "same.safetensors")
    few = ["--bitops", "w3a3", "--steps", "0", "--random", "0", "--correlated", "0", "--contenders", "learned"]
    few += ["--criteria", "kl-float", "--criterion-images", "8", "--data", str(data), *RUN]
    weights = {
        "entry": [f"local-dir:{runs}/joint"],
        "file": [without_float, "--weights", f"{tmp_path}/same.safetensors"],
    }
    for name, words in weights.items():
        compare.main(["--model", *words, *few, "--output", str(tmp_path / name)])
    of_entry, of_file = (Indicators.load(tmp_path / name / "kl-float.json").divergences for name in weights)
    assert of_entry == of_file
    with pytest.raises(
        UnknownModelError, match="holds no float.safetensors; give the float network as --weights FILE$"
    ):
        compare.main(["--model", without_float, *few, "--output", str(tmp_path / "neither")])


def test_a_measurement_of_another_float_network_has_another_digest_and_leaves_it_as_it_is(runs):
    entry, images = find_entry(f"local-dir:{runs}/joint"), [torch.ones(2, 3, 32, 32)]
    other = float_network_of(entry, None).double()
    digests = {Measuring(entry, images, "float", None, network).digest() for network in (None, other)}
    assert len(digests) == 2
    copied = Measuring(entry, images, "float", None, other).reference()
    assert copied is not other


def test_an_entry_without_a_float_network_can_be_fine_tuned_from_its_joint_weights(without_float, data, tmp_path):
    command = ["--model", without_float, "--bitops", "w4a4", "--data", str(data), *RUN, "--max-steps", "1"]
    finetune.main([*command, "--output", str(tmp_path / "out")])
    assert (tmp_path / "out/model.safetensors").is_file()


def test_weights_that_are_given_replace_those_of_the_entry(runs):
    entry = find_entry(f"local-dir:{runs}/joint")
    given = load_file(runs / "float/model.safetensors")
    found = float_network_of(entry, f"{runs}/float/model.safetensors")
    assert not found.training
    assert equal(found.state_dict(), given)
    assert not equal(float_network_of(entry, None).state_dict(), given)
    with pytest.raises(TrainingError, match="--weights 'nowhere.safetensors': there is no such file"):
        float_network_of(entry, "nowhere.safetensors")


def test_the_file_of_the_float_network_of_an_entry_can_be_given_as_weights(runs):
    entry = find_entry(f"local-dir:{runs}/joint")
    found = float_network_of(entry, f"{runs}/joint/float.safetensors")
    assert equal(found.state_dict(), float_network_of(entry, None).state_dict())


def test_pretraining_starts_from_the_weights_that_are_given(runs, data, tmp_path):
    start = float_tensors(open_local_folder(runs / "joint", "entry"))
    save_file(start, tmp_path / "start.safetensors")
    command = [*NETWORK, *RUN, "--data", str(data), "--max-steps", "1", "--lr", "1e-9"]
    pretrain.main([*command, "--weights", f"{tmp_path}/start.safetensors", "--output", str(tmp_path / "on")])
    pretrain.main([*command, "--output", str(tmp_path / "anew")])
    found, anew = (load_file(tmp_path / name / "model.safetensors") for name in ("on", "anew"))
    trained = [name for name in start if "running" not in name and "num_batches" not in name]
    assert len(trained) > 20
    for name in trained:
        torch.testing.assert_close(found[name], start[name].float(), rtol=0, atol=1e-7, msg=name)
    assert any((anew[name] - start[name]).abs().max() > 1e-2 for name in trained)
    moved = [name for name in start if name.endswith("running_mean")]
    assert any(not torch.allclose(found[name], start[name]) for name in moved)


def test_pretraining_from_a_file_that_is_not_there_is_refused(data, tmp_path):
    command = [*NETWORK, *RUN, "--data", str(data), "--output", str(tmp_path / "out")]
    with pytest.raises(TrainingError, match=r"--weights 'nowhere.safetensors': there is no such file"):
        pretrain.main([*command, "--weights", "nowhere.safetensors"])


def test_timms_weights_that_cannot_be_fetched_are_told_by_file_and_repository(data, tmp_path):
    with pytest.raises(HubOfflineError) as caught:
        indicators.main(
            ["--model", "resnet18", *RUN, "--unlabelled", str(data / "train"), "--output", str(tmp_path / "out")]
        )
    assert str(caught.value) == (
        "--weights needs model.safetensors of hf-hub:timm/resnet18.a1_in1k, and the cache does not have it. "
        "HF_HUB_OFFLINE is set: unset it, and try again. Or take model.safetensors and config.json from a machine that "
        "has them, and give --weights FILE.safetensors, with config.json beside it"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["indicators", "finetune"])
def test_a_float_network_that_sees_one_class_everywhere_is_told_before_the_training(
    runs, hard_data, tmp_path, monkeypatch, capsys, command
):
    weights = load_file(runs / "float/model.safetensors")
    weights["fc.bias"][2] = 1e4
    save_file(weights, tmp_path / "constant.safetensors")
    typed = ["--weights", str(tmp_path / "constant.safetensors"), "--data", str(hard_data), "--workers", "0"]
    typed += ["--threads", "1", "--batch-size", "32", "--max-steps", "1", "--output", str(tmp_path / "out")]
    main, network = indicators.main, NETWORK
    if command == "finetune":
        main, network = finetune.main, ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4"]

    def die(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_loop, "StepBatches", die)  # the training would begin here
    with pytest.raises(KeyboardInterrupt):
        main([*network, *typed])
    warning, step = "warning: the float network finds class 2 of 4 in ", "loader alone:"
    out = capsys.readouterr().out
    assert warning in out
    assert out.index(warning) < out.index(step)
