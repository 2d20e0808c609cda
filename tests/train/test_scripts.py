"""The training scripts, end to end on generated pictures, and what they refuse."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from tiny_run import CLASSES, NETWORK, RUN
from torch import nn

import limpq_hub
from limpq_hub import export
from limpq_hub.errors import DataError, LimpqError, TrainingError, UnknownModelError
from limpq_hub.pictures import read_picture, top_classes
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.quantities import enough_bitops, format_bitops
from limpq_hub.quant.convert import set_policy_, to_supernet
from limpq_hub.quant.profile import profile_module
from limpq_hub.train import finetune, indicators, pretrain, publish, validate
from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, classification_loss, joint_policies
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint, save_checkpoint
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.loading import NotFineTunedWarning


def test_the_entry_made_by_the_scripts_loads_its_fine_tuned_policy(runs):
    model = limpq_hub.load(f"local-dir:{runs}/entry", bitops="w4a4")
    metrics = json.loads((runs / "w4a4/metrics.json").read_text())
    assert model.limpq.weights == "finetuned"
    assert model.limpq.top1 == metrics["top1"]
    assert metrics["images"] == 4 * CLASSES
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, CLASSES)


def test_a_result_says_how_it_came_about(runs):
    entry = find_entry(f"local-dir:{runs}/entry")
    for record in (entry.indicators.provenance, entry.checkpoint("w4a4").config["provenance"]):
        assert record["command"].startswith("accelerate launch -m limpq_hub.train.")
        assert {"seed", "device", "seconds", "date", "versions", "data"} <= set(record)
    assert json.loads((runs / "joint/options.json").read_text())["distill"] == 0.5


def test_nothing_that_is_published_names_a_folder_of_this_machine(runs):
    published = list((runs / "entry").rglob("*.json"))
    assert len(published) > 6
    for path in (*published, runs / "front.json"):
        assert str(runs.parent) not in path.read_text(), path
    # What a run needs to go on is not published, and keeps the whole paths.
    assert str(runs) in (runs / "joint/options.json").read_text()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--model", "resnte18"], "timm has no network 'resnte18'"),
        (["--model", "test_resnet", "--batch-size", "1000"], "less than one batch of 1000"),
        # Told after the validation pictures were noted in inputs.json.
        (["--model", "test_resnet", "--batch-size", "1"], "leaves batch normalization .* one value per channel"),
    ],
)
def test_a_run_that_fails_before_its_first_step_leaves_no_folder(data, tmp_path, options, error):
    arguments = ["--input-size", "32", *RUN, *options, "--data", str(data), "--output"]
    (tmp_path / "there").mkdir()
    for output in ("deep/out", "there"):
        with pytest.raises(LimpqError, match=error):
            pretrain.main([*arguments, str(tmp_path / output)])
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert not (tmp_path / "there/inputs.json").exists()


def test_validate_reports_what_fine_tuning_measured(runs, data, capsys):
    validate.main(["--model", f"local-dir:{runs}/entry", "--bitops", "w4a4", "--data", str(data), *RUN])
    printed = json.loads(capsys.readouterr().out)
    assert printed["weights"] == "finetuned"
    assert printed["top1"] == json.loads((runs / "w4a4/metrics.json").read_text())["top1"]


def test_an_unmeasured_checkpoint_has_the_same_weights_and_no_figures(runs, data, tmp_path, capsys):
    entry = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4"]
    weights = ["--weights", f"{runs}/float/model.safetensors", "--distill", "0.5"]
    finetune.main(
        [*entry, *RUN, "--data", str(data), "--max-steps", "3", *weights, "--unmeasured", "--output", f"{tmp_path}/out"]
    )
    *_, summary, following = capsys.readouterr().out.splitlines()
    assert summary.startswith("not measured, at ")
    named, *words = shlex.split(following.removeprefix("next: accelerate launch -m "))
    assert (named, words) == ("limpq_hub.train.validate", ["--checkpoint", f"{tmp_path}/out", "--data", str(data)])
    validate.main(words)
    assert json.loads(capsys.readouterr().out)["top1"] == json.loads((runs / "w4a4/metrics.json").read_text())["top1"]
    assert "metrics.json" not in open_local_folder(tmp_path / "out", "checkpoint").files
    assert (tmp_path / "out/model.safetensors").read_bytes() == (runs / "w4a4/model.safetensors").read_bytes()


def test_what_is_published_cannot_be_left_unmeasured(runs, data, tmp_path):
    entry = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", "--data", str(data)]
    with pytest.raises(TrainingError, match="--unmeasured with --push-to-hub: .* leave one of them out"):
        finetune.main([*entry, "--unmeasured", "--push-to-hub", "you/net", "--output", f"{tmp_path}/out"])


def test_learned_steps_moved_away_from_their_start(runs):
    found = find_entry(f"local-dir:{runs}/joint").indicators
    steps = [step for of_layer in found.weight_steps.values() for step in of_layer.values()]
    start = [
        step
        for of_layer in found.weight_steps.values()
        for step in (of_layer[6] * 2 ** (6 - bits) for bits in of_layer)
    ]
    assert found.candidates == (6, 5, 4, 3, 2)
    assert all(step > 0 for step in steps)
    assert not np.allclose(steps, start, rtol=1e-4)


def test_a_run_cut_off_after_a_save_continues_to_the_same_weights(runs, data, tmp_path, cut_after_a_save):
    options = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", "--data", str(data), *RUN]
    options += ["--max-steps", "6", "--epochs", "2", "--save-interval", "2"]
    finetune.main([*options, "--output", str(tmp_path / "whole")])
    cut_after_a_save(finetune.main, [*options, "--output", str(tmp_path / "cut")])
    finetune.main([*options, "--output", str(tmp_path / "cut"), "--resume"])
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_folder_that_holds_a_run_is_refused(runs, data):
    with pytest.raises(TrainingError, match="holds a run already; add --resume, or choose another --output"):
        pretrain.main([*NETWORK, *RUN, "--data", str(data), "--output", str(runs / "float")])


def test_a_changed_setting_at_resume_is_refused_by_name(runs, data):
    again = ["--output", str(runs / "float"), "--resume", "--lr", "1", "--warmup-epochs", "0"]
    with pytest.raises(TrainingError, match="--resume with another lr, max_steps; give the options of the first run"):
        pretrain.main([*NETWORK, *RUN, "--data", str(data), *again])


def test_a_data_folder_without_val_is_refused(data, tmp_path):
    shutil.copytree(data / "train", tmp_path / "train")
    with pytest.raises(DataError, match="has no folder val/; give one with train/ and val/"):
        pretrain.main([*NETWORK, *RUN, "--data", str(tmp_path), "--output", str(tmp_path / "out")])


def test_an_empty_class_is_named(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/val/class2")
    (tmp_path / "data/val/class2").mkdir()
    with pytest.raises(DataError, match="no image in class class2"):
        pretrain.main([*NETWORK, *RUN, "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")])


def test_data_with_some_classes_of_the_network_keeps_the_networks_indices(runs, data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "data")
    for split in ("train", "val"):
        shutil.rmtree(tmp_path / f"data/{split}/class1")
    validated = ["--model", f"local-dir:{runs}/entry", "--bitops", "w4a4", *RUN]
    validate.main([*validated, "--data", str(data)])
    validate.main([*validated, "--data", str(tmp_path / "data")])
    whole, part = (json.loads(text + "}") for text in capsys.readouterr().out.split("\n}\n")[:2])
    assert (whole["images"], part["images"]) == (16, 12)
    model = limpq_hub.load(f"local-dir:{runs}/entry", bitops="w4a4")
    expected = [
        top_classes(model, read_picture(path), 1)[0].id == path.parent.name for path in data.glob("val/*/*.png")
    ]
    of_part = [path.parent.name != "class1" for path in data.glob("val/*/*.png")]
    assert whole["top1"] == pytest.approx(100 * np.mean(expected), abs=1e-3)
    assert part["top1"] == pytest.approx(100 * np.mean(np.array(expected)[of_part]), abs=1e-3)


def test_missing_float_weights_are_named(data, tmp_path):
    arguments = [*NETWORK, *RUN, "--data", str(data), "--weights", "nowhere.safetensors", "--output", str(tmp_path)]
    with pytest.raises(TrainingError, match=r"--weights 'nowhere.safetensors': there is no such file"):
        indicators.main(arguments)


def test_a_joint_step_visits_each_candidate_then_a_mixture_of_independent_bits():
    costs = {f"layer{k}": LayerCost(1, 1, 1, 1, False) for k in range(200)}
    costs["ends"] = LayerCost(1, 1, 1, 1, True, LayerBits(8, 8))
    *uniform, mixture = joint_policies("net", costs, (2, 4, 3), seed=0, step=7)
    assert [set(policy.layers.values()) for policy in uniform] == [{LayerBits(b, b)} for b in (4, 3, 2)]
    assert "ends" not in mixture.layers
    assert {(bits.weight, bits.activation) for bits in mixture.layers.values()} == {
        (w, a) for w in (2, 3, 4) for a in (2, 3, 4)
    }
    assert joint_policies("net", costs, (2, 4, 3), seed=0, step=7)[-1] == mixture
    assert joint_policies("net", costs, (2, 4, 3), seed=0, step=8)[-1] != mixture


def test_joint_gradients_are_the_sum_over_the_policies():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3)).double()
    images, labels = torch.randn(5, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    costs = profile_module(network, images)
    supernet = to_supernet(network, (4, 2), example_input=images).double()
    policies = joint_policies("net", costs, (4, 2), seed=0, step=0)

    def loss_of(logits, first_logits=None):
        return classification_loss(logits, labels, smoothing=0.1).double()

    expected = {name: torch.zeros_like(parameter) for name, parameter in supernet.named_parameters()}
    for policy in policies:
        set_policy_(supernet, policy)
        names, parameters = zip(*supernet.named_parameters(), strict=True)
        for name, gradient in zip(
            names, torch.autograd.grad(loss_of(supernet(images)), parameters, allow_unused=True), strict=True
        ):
            expected[name] += 0 if gradient is None else gradient
    losses = accumulate_joint_gradients(Accelerator(cpu=True), supernet, images, policies, loss_of)
    assert losses.shape == (3,)
    for name, parameter in supernet.named_parameters():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, expected[name])


def test_distillation_of_equal_logits_leaves_only_the_labels_share():
    logits, labels = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 5
    hard = nn.functional.cross_entropy(logits, labels)
    mixed = classification_loss(logits, labels, (logits.clone(), 0.25), smoothing=0.0)
    torch.testing.assert_close(mixed, 0.75 * hard)


def test_an_epoch_resumed_in_the_middle_shows_the_rest_of_the_same_images():
    sampler = EpochSampler(50, seed=3, fraction=0.5)
    sampler.epoch = 2
    whole = list(sampler)
    sampler.start = 10
    assert list(sampler) == whole[10:]
    assert len(sampler) == 15
    assert {of_epoch.epoch for of_epoch in whole} == {2}
    assert len({of_epoch.picture for of_epoch in whole}) == 25


def test_classes_that_differ_between_train_and_val_are_named(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/val/class1").rename(tmp_path / "data/val/class9")
    with pytest.raises(DataError, match="train/ and val/ differ in class class1, class9; use the same"):
        pretrain.main([*NETWORK, *RUN, "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")])


def test_a_class_that_the_network_does_not_know_is_refused(runs, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    for split in ("train", "val"):
        (tmp_path / f"data/{split}/class0").rename(tmp_path / f"data/{split}/zebra")
    arguments = ["--model", f"local-dir:{runs}/entry", "--bitops", "w4a4", "--data", str(tmp_path / "data"), *RUN]
    with pytest.raises(DataError) as refused:
        validate.main(arguments)
    assert str(refused.value) == (
        f"{tmp_path}/data/val: the network does not know class 'zebra'; its 4 classes are 'class0', 'class1', "
        "'class2', 'class3'. Name the folders by these, or take the others out"
    )


def test_a_picture_that_cannot_be_decoded_is_named_and_not_replaced_by_another(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/val/class1/2.png").write_bytes(b"no picture")
    arguments = [
        *NETWORK,
        *RUN,
        "--data",
        str(tmp_path / "data"),
        "--max-steps",
        "1",
        "--output",
        str(tmp_path / "out"),
    ]
    with pytest.raises(
        DataError, match=r"1 of 16 images cannot be decoded, more than 0.1 %: .*val/class1/2\.png; replace"
    ):
        pretrain.main(arguments)


def test_pretrained_weights_of_other_classes_are_refused(data, tmp_path):
    arguments = [*NETWORK, *RUN, "--data", str(data), "--output", str(tmp_path / "out")]
    with pytest.raises(DataError) as caught:
        indicators.main(arguments)
    assert str(caught.value) == (
        f"--data '{data}' has 4 classes ('class0', 'class1', 'class2', 'class3'), the network 1000, and nothing says "
        "which is which: give all classes of the network as a list in --class-names, or train a network for these with "
        "accelerate launch -m limpq_hub.train.pretrain and give --weights; with --weights pretrained there, it keeps "
        "the features of timm's weights and gets a new head"
    )


def test_a_network_that_timm_does_not_have_is_refused(data, tmp_path):
    arguments = ["--model", "resnte18", *RUN, "--data", str(data), "--output", str(tmp_path / "out")]
    for main in (indicators.main, pretrain.main):
        with pytest.raises(UnknownModelError, match="^timm has no network 'resnte18'; did you mean") as refused:
            main(arguments)
        assert "resnet18" in str(refused.value)
    with pytest.raises(UnknownModelError, match=r"^timm has no network '0{10}'; timm\.list_models\(\) names them$"):
        indicators.main([*arguments[2:], "--model", "0000000000"])


def test_a_refused_start_leaves_the_output_folder_free(data, tmp_path):
    arguments = [*NETWORK, *RUN, "--data", str(data), "--output", str(tmp_path / "out"), "--max-steps", "1"]
    with pytest.raises(TrainingError):
        indicators.main([*arguments, "--weights", "nowhere.safetensors"])
    pretrain.main(arguments)


def test_fewer_images_than_a_batch_are_refused(data, tmp_path):
    arguments = [
        *NETWORK,
        "--workers",
        "0",
        "--batch-size",
        "64",
        "--data",
        str(data),
        "--output",
        str(tmp_path / "out"),
    ]
    with pytest.raises(DataError, match="32 training images, less than one batch of 64"):
        pretrain.main(arguments)


@pytest.mark.parametrize("pair", ["out/w4a4", "../up=out/w4a4", "=x"])
def test_a_checkpoint_without_a_plain_name_is_refused(runs, tmp_path, pair):
    with pytest.raises(TrainingError, match="is not NAME=DIR, for example 3G=out/resnet18-3G"):
        publish.main(["--joint", f"{runs}/joint", "--checkpoint", pair, "--output", str(tmp_path / "entry")])


def test_an_output_that_would_replace_the_joint_folder_is_refused(runs):
    with pytest.raises(TrainingError, match="--output would replace --joint"):
        publish.main(["--joint", f"{runs}/joint", "--output", f"{runs}/joint"])


def test_warm_up_and_cosine_end_at_the_smallest_rate(data, tmp_path, monkeypatch):
    rates = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda self, *a, **k: rates.append(self.param_groups[0]["lr"]) or step(self, *a, **k)
    )
    arguments = [*NETWORK, *RUN, "--data", str(data), "--output", str(tmp_path / "out"), "--epochs", "5"]
    pretrain.main([*arguments, "--warmup-epochs", "1", "--lr", "0.1"])
    assert len(rates) == 20
    assert rates[:4] == pytest.approx([1e-5, 0.025, 0.05, 0.075], rel=1e-2)
    assert max(rates) == rates[4] == pytest.approx(0.1)
    assert rates[-1] < 0.002


def test_validate_measures_a_checkpoint_folder_too(runs, data, capsys):
    validate.main(["--checkpoint", str(runs / "w4a4"), "--data", str(data), *RUN])
    printed = json.loads(capsys.readouterr().out)
    assert printed["top1"] == json.loads((runs / "w4a4/metrics.json").read_text())["top1"]


@pytest.fixture(scope="module")
def reversed_classes(runs, data, tmp_path_factory) -> Path:
    """A joint training of a network whose outputs are not in the order of the folders, and one of its policies."""
    root = tmp_path_factory.mktemp("reversed")
    names = [f"class{label}" for label in reversed(range(CLASSES))]
    (root / "names.json").write_text(json.dumps(names))
    steps = [*RUN, "--data", str(data), "--max-steps", "3"]
    weights = ["--weights", f"{runs}/float/model.safetensors", "--class-names", f"{root}/names.json"]
    fast = ["--lr", "0.4", "--warmup-epochs", "0", "--alpha", "1", "--measure-images", "0"]
    indicators.main([*NETWORK, *steps, *weights, *fast, "--output", f"{root}/joint"])
    finetune.main(["--model", f"local-dir:{root}/joint", "--bitops", "w6a6", *steps, "--output", f"{root}/w6a6"])
    return root


def test_validate_measures_a_checkpoint_by_the_classes_of_its_network(reversed_classes, data, capsys):
    tuned = json.loads((reversed_classes / "w6a6/metrics.json").read_text())
    arguments = ["--checkpoint", f"{reversed_classes}/w6a6", *RUN, "--data"]
    validate.main([*arguments, str(data)])
    said = capsys.readouterr()
    assert "does not name its classes" not in said.err
    assert json.loads(said.out)["top1"] == tuned["top1"]


def test_validate_takes_data_of_some_classes_of_a_checkpoint(reversed_classes, data, tmp_path, capsys):
    for split in ("train", "val"):
        for label in (1, 3):
            shutil.copytree(data / split / f"class{label}", tmp_path / split / f"class{label}")
    validate.main(["--checkpoint", f"{reversed_classes}/w6a6", *RUN, "--data", str(tmp_path)])
    by_entry = ["--model", f"local-dir:{reversed_classes}/joint", "--weights", "float", *RUN, "--data", str(tmp_path)]
    assert json.loads(capsys.readouterr().out)["images"] == 8
    validate.main(by_entry)


def test_a_checkpoint_that_does_not_name_its_classes_is_measured_by_the_folders_with_a_note(
    runs, data, tmp_path, capsys
):
    folder = open_local_folder(runs / "w4a4", "checkpoint")
    assert folder.config["classes"] == [f"class{label}" for label in range(CLASSES)]
    network, _ = load_checkpoint(folder)
    older = tmp_path / "older"
    save_checkpoint(older, network, find_entry(f"local-dir:{runs}/joint").indicators.costs)
    validate.main(["--checkpoint", str(older), *RUN, "--data", str(data)])
    assert (
        f"note: {older}: it does not name its classes: its {CLASSES} outputs are taken for" in capsys.readouterr().err
    )
    shutil.copytree(data / "val", tmp_path / "some/val")
    shutil.rmtree(tmp_path / "some/val/class2")
    with pytest.raises(DataError, match=f"^{older} does not name the classes of its {CLASSES} outputs, and those of"):
        validate.main(["--checkpoint", str(older), *RUN, "--data", str(tmp_path / "some")])


def test_validate_measures_an_exported_network_by_its_runtime(runs, data, tmp_path, capsys, monkeypatch):
    pytest.importorskip("openvino", reason='needs the extra "export"')
    network, policy = load_checkpoint(open_local_folder(runs / "w4a4", "checkpoint"))
    export(network, tmp_path / "out", images=[torch.randn(4, 3, 32, 32)])
    validate.main(["--exported", str(tmp_path / "out"), "--data", str(data), *RUN])
    out, told = capsys.readouterr()
    printed = json.loads(out)
    assert told.startswith(f"note: {tmp_path / 'out'}: it does not name its classes: ")
    assert told.count("note: ") == 1
    assert printed["top1"] == json.loads((runs / "w4a4/metrics.json").read_text())["top1"]
    assert (printed["policy_sha256"], printed["file_format"]) == (policy.digest(), "openvino")
    monkeypatch.setattr("limpq_hub.deploy.exported_network.OpenedExport.caution", "they can overflow")
    validate.main(["--exported", str(tmp_path / "out"), "--data", str(data), *RUN])
    assert "in the order of the folders; they can overflow\n" in capsys.readouterr().err


def test_validate_measures_integers_as_it_measures_the_simulation(runs, data, capsys):
    arguments = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", "--data", str(data), *RUN]
    records = []
    for arithmetic in ("simulated", "integer"):
        validate.main([*arguments, "--arithmetic", arithmetic])
        records.append(json.loads(capsys.readouterr().out))
    assert records[0]["top1"] == records[1]["top1"]
    assert records[1]["arithmetic"] == "integer"
    assert records[1]["in_float"]["fc"] == "it is no plain 2-d convolution"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --model with a budget or policy, or --checkpoint, or --exported"),
        (
            ["--checkpoint", "a", "--exported", "b"],
            "give --model with a budget or policy, or --checkpoint, or --exported",
        ),
        (["--exported", "a", "--bitops", "3G"], "--exported holds its own policy and weights; leave out --bitops"),
        (["--exported", "a", "--calibrate-images", "9"], "weights; leave out --calibrate-images"),
        (
            ["--checkpoint", "a", "--arithmetic", "integer"],
            "--checkpoint holds its own policy and weights; leave out --arithmetic",
        ),
        (
            ["--model", "local-dir:{runs}/joint", "--weights", "float", "--arithmetic", "integer"],
            "--weights float has no integers; leave out --arithmetic",
        ),
    ],
)
def test_validate_of_no_network_or_of_several_is_refused(runs, data, arguments, message):
    with pytest.raises(TrainingError, match=message):
        validate.main([*(argument.format(runs=runs) for argument in arguments), "--data", str(data), *RUN])


def test_a_teacher_of_its_own_changes_what_is_learned(runs, data, tmp_path):
    joint = ["--model", f"local-dir:{runs}/joint", "--bitops", "w4a4", "--data", str(data), *RUN, "--max-steps", "1"]
    weights = ["--weights", str(runs / "float/model.safetensors"), "--distill", "1.0"]
    other = load_file(runs / "float/model.safetensors")
    save_file(other | {"fc.bias": other["fc.bias"] + torch.arange(4.0)}, tmp_path / "teacher.safetensors")
    finetune.main([*joint, *weights, "--output", str(tmp_path / "one")])
    finetune.main(
        [*joint, *weights, "--teacher", str(tmp_path / "teacher.safetensors"), "--output", str(tmp_path / "two")]
    )
    one, two = (load_file(tmp_path / name / "model.safetensors")["fc.bias"] for name in ("one", "two"))
    assert not torch.allclose(one, two)


@pytest.mark.parametrize(("budget", "by_its_budget"), [("w4a4", True), ("3G", False), ("w8a8", False)])
def test_a_policy_is_to_be_published_by_its_budget_unless_that_limits_nothing(
    runs, data, tmp_path, capsys, budget, by_its_budget
):
    joint = ["--model", f"local-dir:{runs}/joint", "--bitops", budget, "--data", str(data), *RUN, "--max-steps", "1"]
    finetune.main([*joint, "--output", str(tmp_path / "out")])
    most = find_entry(f"local-dir:{runs}/joint").summary()["maximum_bitops"]
    said, told = capsys.readouterr()
    note = f"note: --bitops is no less than the {enough_bitops(most)} that the most bits take, so nothing is traded\n"
    assert (note in told) is not by_its_budget
    assert f" --checkpoint {budget if by_its_budget else format_bitops(most)}={tmp_path}/out " in said


@pytest.mark.slow
def test_two_processes_train_and_export_together(runs, data, tmp_path):
    script = Path(__file__).parents[2] / "training" / "indicators.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    weights = ["--weights", str(runs / "float/model.safetensors"), "--output", str(tmp_path / "joint")]
    arguments = [*NETWORK, "--data", str(data), *RUN, *weights, "--max-steps", "2", "--calibrate-images", "8"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *arguments], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    entry = find_entry(f"local-dir:{tmp_path}/joint")
    assert entry.indicators.provenance["device"].startswith("2 x ")
    with pytest.warns(NotFineTunedWarning, match="was not fine-tuned"):
        assert limpq_hub.load(entry.name, bitops="w4a4").num_classes == CLASSES
